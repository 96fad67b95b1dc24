"""Compares two descriptions of a chain, and says what a difference means for a run that began with the first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CODE: Final = "$code"  # in a description, the key of a hash of the user's own code...
STATE: Final = "state:"  # ...or, with this prefix, of the state of the user's own object, which may change
USES: Final = "$uses"  # beside it: by name, the hash of each value that the code reads...
INSTALLED: Final = "installed:"  # ...or, with this before it, the release that a library's code is of
_SHOWN_CHARS: Final = 60
_ABSENT: Final = object()


class Changes(NamedTuple):
    """One sentence per difference. `refuse`: answers would differ. `warn`: the user's own code differs."""

    refuse: list[str]
    warn: list[str]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Return what changed between two descriptions (see `chain.fingerprint.describe`)."""
    changes = Changes([], [])
    for part in sorted(old.keys() | new.keys()):
        for path, was, now in _leaves(old.get(part, _ABSENT), new.get(part, _ABSENT), ""):
            if USES in path:
                changes.warn.extend(_use_change(part, path.partition(f"{USES}.")[2], was, now))
            elif path.endswith(CODE):
                changes.warn.extend(_code_change(part, path.removesuffix(CODE).rstrip("."), was, now))
            else:
                changes.refuse.append(_sentence(part, path, was, now))
    return changes


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the smallest parts in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _leaves(
                old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}.{name}" if path else name
            )
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _leaves(was, now, f"{path}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _sentence(part: str, path: str, old: Any, new: Any) -> str:
    if not path and _ABSENT in (old, new):
        return f"{part} was added" if old is _ABSENT else f"{part} is gone"
    if path.rpartition(".")[2] in ("template", "content") and isinstance(old, str) and isinstance(new, str):
        return f"the prompt changed ({part}): {_pair(old, new)}"
    return f"{part}: {path} changed: {_pair(old, new)}" if path else f"{part} changed: {_pair(old, new)}"


def _pair(old: Any, new: Any) -> str:
    """Show both sides, shortened round the first place where they differ."""
    was, now = _text(old), _text(new)
    first = next(
        (i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now))
    )
    start = 0 if max(len(was), len(now)) <= _SHOWN_CHARS else max(0, first - _SHOWN_CHARS // 3)
    return f"{_cut(was, start)} -> {_cut(now, start)}"


def _text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut(text: str, start: int) -> str:
    end = start + _SHOWN_CHARS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _code_change(part: str, path: str, old: Any, new: Any) -> Iterator[str]:
    """Compare source with source, and bytecode only with bytecode of the same Python minor version."""
    if not (isinstance(old, str) and isinstance(new, str)) or old.partition(":")[0] == new.partition(":")[0]:
        is_state = str(old).startswith(STATE) or str(new).startswith(STATE)
        yield f"the state of {part} changed ({path})" if is_state else f"the code of {part} changed"


def _use_change(part: str, name: str, old: Any, new: Any) -> Iterator[str]:
    """A name that is read now and was not, or the other way round, comes of a change of code that is told by itself."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return
    if old.startswith(INSTALLED) and new.startswith(INSTALLED):
        yield f"{name}, which {part} uses, changed: {old.removeprefix(INSTALLED)} -> {new.removeprefix(INSTALLED)}"
    elif old.startswith(STATE) and new.startswith(STATE):
        yield f"the state of {name}, which {part} uses, changed"
    elif not (_is_bytecode(old) or _is_bytecode(new)) or old.partition(":")[0] == new.partition(":")[0]:
        yield f"{name}, which {part} uses, changed"


def _is_bytecode(form: str) -> bool:
    return form[:1].isdecimal()
