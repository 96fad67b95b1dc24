"""Says before a run what it would ask, and pay, although the store holds it: rows that were edited since.

A run looks at the first rows of its input; a plan knows all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.engine.input.keys import HALF, same_question
from cottonpalm.engine.input.known_by import part_of
from cottonpalm.protocols import OK
from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import RunStore

FIRST: Final = 256  # rows of an input that are looked at
PAGE: Final = 4096


class Keys(Protocol):
    """Gives a row's identity in the store and the key of its content."""

    def known(self, index: int, row: Any) -> tuple[bytes, bytes]:
        """For the row at this place of the input."""


def first_rows(rows: Any) -> list[Any]:
    """Return the first rows of an input that can be read again."""
    return list(islice(rows, FIRST)) if isinstance(rows, Sequence) else list(getattr(rows, "head", ()))


def told(rows: Sequence[Any], keys: Keys, run: RunStore) -> str | None:
    """Say how many of these first rows of an input are asked although the store holds them; None: none, it seems.

    Rows without an id that are not in the store are new, unless their columns say otherwise.
    """
    wanted = defaultdict[bytes, list[bytes]](list)
    for at, row in enumerate(rows):
        key, content = keys.known(at, row)
        wanted[key].append(content)
    changed, left, renamed = _look(run, wanted, len(rows))
    seen = f"the first {len(rows):,}" if len(rows) == FIRST else f"{len(rows):,}"
    if changed:
        return (
            f"{changed:,} of {seen} rows were edited since run {run.name!r} asked them, in what the chain reads: "
            f"{'they are' if changed > 1 else 'it is'} asked and paid again"
        )
    if renamed:
        return (
            f"{renamed:,} of {seen} rows were answered in run {run.name!r} under another id, or under none, and are "
            "asked and paid again: give the ids as they were then (ids=..., --id-field) to have them known again"
        )
    why = _other_columns(rows[0], run) if left * 2 > len(rows) else None
    if why is None:
        return None
    return (
        f"{left:,} of {seen} rows are not among those that run {run.name!r} holds, and are asked and paid anew: "
        f"{why}. Give ids=..., or leave such columns out, to have them known again"
    )


def _look(run: RunStore, wanted: dict[bytes, list[bytes]], rows: int) -> tuple[int, int, int]:
    """Count the wanted rows that were edited, that the run does not hold, and that it has answered by another key.

    Args:
        run: the run.
        wanted: what is asked by each key, in the order of the input; what the run holds is taken out.
        rows: how many these are.
    """
    after, changed, left = -1, 0, rows
    questions = {content[:HALF] for contents in wanted.values() for content in contents}
    answered = Counter[bytes]()
    while left and (page := run.scan(after, PAGE)):
        after = page[-1].slot
        for slot in page:
            if contents := wanted.get(slot.key):
                changed += not same_question(slot.content, contents.pop(0))
                left -= 1
            elif slot.status == OK and slot.content[:HALF] in questions:
                answered[slot.content[:HALF]] += 1
        if left * 2 <= rows:  # most of them are here: the others are new
            break
    missing = Counter(content[:HALF] for contents in wanted.values() for content in contents)
    return changed, left, (missing & answered).total()


def _other_columns(row: Any, run: RunStore) -> str | None:
    """Say which columns a row has more or fewer than the stored ones; None: the same, or they are not known."""
    found = run.scan(-1, 1)
    record = run.read([found[0].slot]).get(found[0].slot) if found else None
    kept = None if record is None else unpack(record, 0, {}).input
    if not isinstance(row, Mapping) or not isinstance(kept, Mapping):
        return None
    part: Callable[[Any], Any] | None = part_of(run)
    now, then = (row, kept) if part is None else (part(row), part(kept))
    more, fewer = [*now.keys() - then.keys()], [*then.keys() - now.keys()]
    said = [
        f"{what} {', '.join(map(repr, sorted(map(str, names))))}"
        for what, names in (("they have the new column", more), ("they lack the column", fewer))
        if names
    ]
    return " and ".join(said) or None
