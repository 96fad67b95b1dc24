"""How two descriptions of a chain differ, and what that means for a run that began with the first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_SHOWN_CHARS = 60
_ABSENT = object()


class Changes(NamedTuple):
    """One sentence a difference. `refuse`: answers would differ. `warn`: the user's own code differs."""

    refuse: list[str]
    warn: list[str]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """What changed between two descriptions (`fingerprint.describe`)."""
    refuse = [_sentence(*difference) for difference in _differences(old.get("parts", {}), new.get("parts", {}))]
    return Changes(refuse, list(_code_changes(old.get("code", {}), new.get("code", {}))))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    for part in sorted(old.keys() | new.keys()):
        before, after = old.get(part, _ABSENT), new.get(part, _ABSENT)
        if before is _ABSENT or after is _ABSENT:
            yield part, "", before, after
        else:
            for path, was, now in _leaves(before, after, ""):
                yield part, path, was, now


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The smallest differing places of two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _leaves(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}.{name}" if path else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _leaves(was, now, f"{path}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _sentence(part: str, path: str, old: Any, new: Any) -> str:
    if not path:
        return f"{part} was added" if old is _ABSENT else f"{part} is gone" if new is _ABSENT else f"{part} changed"
    if path.rpartition(".")[2] in ("template", "content") and isinstance(old, str) and isinstance(new, str):
        return f"the prompt changed ({part}): {_pair(old, new)}"
    return f"{part}: {path} changed: {_pair(old, new)}"


def _pair(old: Any, new: Any) -> str:
    """Both sides, shortened round the first place where they differ."""
    was, now = _text(old), _text(new)
    first = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    start = 0 if max(len(was), len(now)) <= _SHOWN_CHARS else max(0, first - _SHOWN_CHARS // 3)
    return f"{_cut(was, start)} -> {_cut(now, start)}"


def _text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut(text: str, start: int) -> str:
    end = start + _SHOWN_CHARS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _code_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Source text is compared with source text; bytecode only with that of the same Python minor version."""
    for part in sorted(old.keys() & new.keys()):
        (was_kind, _, was), (now_kind, _, now) = old[part].partition(":"), new[part].partition(":")
        if was_kind == now_kind and was != now:
            yield f"the code of {part} changed"
