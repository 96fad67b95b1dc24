"""Lays a request's prompt out in the order in which its provider reads it: what is equal from the start is shared.

Everywhere it is: settings that change the prompt, tools, schema, system, messages. A text is taken as it is, a picture
as its digest, anything else as its JSON. What a provider is told about caching is no part of the prompt.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cottonpalm.providers.answer import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Path: TypeAlias = tuple[str | int, ...]

# Fields before the messages, in order; a change in one of them changes all that follows.
_BEFORE: Final = {
    "openai": (
        *("reasoning_effort", "reasoning", "verbosity", "parallel_tool_calls", "service_tier"),
        *("tools", "functions", "response_format", "text", "instructions"),
    ),
    "anthropic": ("tools", "system", "tool_choice", "thinking", "output_config", "output_format"),
    "google": (
        *("tools", "toolConfig", "tool_config", "cachedContent", "cached_content"),
        *("systemInstruction", "system_instruction"),
    ),
    "ollama": ("tools", "format"),
}
_MESSAGES: Final = ("messages", "input", "contents")
_OF_CACHING: Final = frozenset({"cache_control", "prompt_cache_breakpoint", "cachePoint"})
_PICTURES: Final = frozenset({"image", "image_url", "input_image", "inlineData", "inline_data"})
PICTURE_BYTES: Final = 4_000  # what stands for a picture: as much as text of so many tokens


class Block(NamedTuple):
    """A part of a prompt that a provider can be told to cache up to.

    Attributes:
        path: where it stands in the body.
        text: what it says, as bytes.
    """

    path: Path
    text: bytes


def blocks_of(family: str, body: Mapping[str, Any]) -> list[Block]:
    """Return the parts of the prompt, in the provider's order.

    Two prompts share what their bytes have in common from the start.

    Args:
        family: the name of the format.
        body: the request.
    """
    found: list[Block] = []
    for name in _BEFORE.get(family, ()):
        if (value := body.get(name)) is not None:
            found += _blocks((name,), value)
    for name in _MESSAGES:
        messages = body.get(name)
        if isinstance(messages, str):
            found.append(Block((name,), _bytes(messages)))
        elif isinstance(messages, list):
            for number, message in enumerate(messages):
                found += _of_message((name, number), message)
    return found


def prompt_of(blocks: Iterable[Block]) -> bytes:
    """Return the prompt of these parts."""
    return b"\n".join([block.text for block in blocks])


def _of_message(path: Path, message: object) -> Iterator[Block]:
    if not isinstance(message, dict):
        yield Block(path, _bytes(message))
        return
    name = "parts" if "parts" in message else "content"
    content = message.get(name)
    rest = {key: value for key, value in message.items() if key != name and key not in _OF_CACHING}
    head = _bytes(rest.get("role") if len(rest) == 1 else rest) + b":"
    if isinstance(content, str):
        yield Block((*path, name), head + _bytes(content))
    elif isinstance(content, list) and content:
        for number, part in enumerate(content):
            yield Block((*path, name, number), head + _of_part(part))
            head = b""
    else:
        yield Block(path, head + _bytes(content))


def _blocks(path: Path, value: object) -> Iterator[Block]:
    """The parts of a field: each entry of a list can be cached up to."""
    if isinstance(value, list):
        for number, part in enumerate(value):
            yield Block((*path, number), _of_part(part))
    else:
        yield Block(path, _bytes(value))


def _of_part(part: object) -> bytes:
    """A text as it is, whatever it is wrapped in; anything else as JSON."""
    if not isinstance(part, dict):
        return _bytes(part)
    text = part.get("text")
    if isinstance(text, str) and set(part) <= {"type", "text", "annotations"} | _OF_CACHING:
        return _bytes(text)
    seen = _bytes({key: value for key, value in part.items() if key not in _OF_CACHING})
    if part.get("type") in _PICTURES or not _PICTURES.isdisjoint(part):
        digest = blake2b(seen, digest_size=16).hexdigest().encode()
        return digest * (PICTURE_BYTES // len(digest))
    return seen


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"" if value is None else written(value)
