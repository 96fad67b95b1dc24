"""Which run of which store a command works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.run import Run
    from cottonpalm.types import Outcome


@dataclass(frozen=True, slots=True)
class Where:
    """Which run of which store, and what may be thrown away."""

    store: str
    run: str
    fresh: bool = False
    overwrite: bool = False
    again: bool = False  # also what failed for good
    argv: Sequence[str] = field(default=())  # the command, for `resume`
    page: str | None = None  # an HTML file for the report
    events: str | None = None  # a file for the events, a JSON line each
    observers: Sequence[str] = ()  # by their names in installed packages
    cancel: bool = False  # only stop the batches that are out
    live: str | None = None  # the port of the live page, as it was typed
    stream: bool = False  # answers stream, and a few of them are shown as they come
    # part of a larger run, which is given this one and says how it ended
    shard: Callable[[Run[Outcome]], None] | None = None

    @property
    def named(self) -> bool:
        """Whether the user said which run this is; else a file gave it its name."""
        return self.again or any(word.partition("=")[0] == "--run" for word in self.argv)
