"""Puts into a request what asks the provider to cache its prompt up to some places, and finds what the user has put."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.providers.prompt_cache.order import Block, Path
    from cottonpalm.providers.prompt_cache.terms import Asked

MOST: Final = 4  # marks in one request
_WORDS: Final = (b'"cache_control"', b'"prompt_cache_breakpoint"', b'"prompt_cache_options"', b'"cachePoint"')
_MARKS: Final = ("cache_control", "prompt_cache_breakpoint")
_KEY: Final = b'"prompt_cache_key"'
_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})


class Place(NamedTuple):
    """Where a prompt is to be cached up to.

    Attributes:
        path: the part, see `Block`.
        cut: characters of its text after which it is divided; None: after the part.
    """

    path: Path
    cut: int | None = None


def asks_already(content: bytes) -> bool:
    """Whether the request says itself what is to be cached."""
    return any(word in content for word in _WORDS)


def has_key(content: bytes) -> bool:
    """Whether the request names its cache itself."""
    return _KEY in content


def own_ends(body: dict[str, Any], blocks: Sequence[Block]) -> list[int]:
    """Return up to which bytes of the prompt the request itself asks to be cached."""
    ends, end = [], -1
    for block in blocks:
        end += len(block.text) + 1
        part = _at(body, block.path)
        if isinstance(part, dict) and any(name in part for name in _MARKS):
            ends.append(end)
    if "cache_control" in body and end not in ends:
        ends.append(end)
    return ends


def can_mark(asked: Asked, block: Block) -> bool:
    """Whether a mark can stand at the end of this part. OpenAI knows marks in messages alone."""
    in_message = block.path[0] in ("messages", "input") and len(block.path) > 2
    if asked == "breakpoints":
        return in_message
    return in_message or block.path[0] in ("tools", "system")


def marked(
    body: dict[str, Any], asked: Asked, places: Sequence[Place], *, hour: bool = False
) -> dict[str, Any]:
    """Return a copy of the body that asks to be cached up to these places; the body itself is not changed.

    Args:
        body: the request.
        asked: in whose way.
        places: at most `MOST`.
        hour: keep it for an hour; else for as long as the provider usually does.
    """
    new = dict(body)
    if asked == "breakpoints":
        mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
        new["prompt_cache_options"] = {"mode": "explicit"}  # what comes after the last mark is not written
    else:
        mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"} if hour else {"type": "ephemeral"}}
    for place in places[:MOST]:
        _put(new, place, mark)
    return new


def _put(body: dict[str, Any], place: Place, mark: dict[str, Any]) -> None:
    """Mark one place; all that is changed on the way down is copied."""
    path = place.path
    if path[0] == "system" and isinstance(body["system"], str):
        body["system"] = _parts(body["system"], place.cut, mark, "text")
        return
    holder: Any = body
    for step in path[:-1]:
        holder[step] = holder[step].copy()
        holder = holder[step]
    last = path[-1]
    part = holder[last]
    if isinstance(part, str):
        kind = "input_text" if path[0] == "input" else "text"
        holder[last] = _parts(part, place.cut, mark, kind)
    elif place.cut is not None:
        parts = _parts(part["text"], place.cut, mark, part["type"])
        at = int(last)
        holder[at : at + 1] = [part | each for each in parts]
    elif isinstance(part, dict) and part.get("type") not in _UNMARKED:
        holder[last] = part | mark


def _parts(text: str, cut: int | None, mark: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The text as one part with a mark, or as two with a mark between them."""
    if cut is None or cut >= len(text):
        return [{"type": kind, "text": text, **mark}]
    return [{"type": kind, "text": text[:cut], **mark}, {"type": kind, "text": text[cut:]}]


def _at(body: Any, path: Path) -> Any:
    for step in path:
        body = body[step]
    return body
