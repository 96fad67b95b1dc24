"""By which part of a row the store knows it: what the chain reads, as it stood when the run began.

A column that the chain does not read, such as the answers that were joined to a table, then makes no new row of it. A
run that began with whole rows (its chain may read all of them, or an earlier version made it) goes on so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.chain.questions import question_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from cottonpalm.protocols import RunStore

META: Final = "known_by"  # in the facts of a run: the names that its chain reads


def begin_by(run: RunStore, names: AbstractSet[str] | None) -> Callable[[Any], Any] | None:
    """Return what takes that part from a row; a run without rows takes these names, and keeps them."""
    if run.last_slot() < 0 and run.meta().get(META) != _kept(names):
        run.set_meta(**{META: _kept(names)})
    return part_of(run)


def part_of(run: RunStore) -> Callable[[Any], Any] | None:
    """Return what takes from a row the part by which this run knows it; None: the whole row."""
    names = run.meta().get(META)
    return question_by(None if names is None else frozenset(names))


def _kept(names: AbstractSet[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
