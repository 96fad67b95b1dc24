"""The command line, as far as others speak of it: what it keeps with a run, its exit codes, and its commands."""

from __future__ import annotations

import shlex
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.stores import shown as store_shown

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_STORE: Final = "cottonpalm.db"
# Keys in a run's own JSON object:
JOB: Final = "job"  # what was asked for, option by option
FACTS: Final = "facts"  # what is shown beside the counts
TROUBLE: Final = "trouble"  # why the latest request reached no server


class Code(IntEnum):
    """The exit codes for the shell. If several apply, the first of 129/130/143, 4, 3 counts."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    SOME_FAILED = 3
    STOPPED = 4
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class Total(NamedTuple):
    """Rows of a run's input, and those that are stored beside them."""

    rows: int
    exact: bool  # not judged by the part of a file that was read


def total_of(facts: Mapping[str, Any], told: int | None) -> Total | None:
    """As the command line counted them, or else as the run was `told`, or else as they were judged; None: not known."""
    counted, exact = facts.get("total"), bool(facts.get("exact"))
    if told is not None and (counted is None or not exact):
        return Total(int(told), exact=True)
    return None if counted is None else Total(int(counted) + int(facts.get("beside", 0)), exact)


def command_on(verb: str, name: str, store: str) -> str:
    """Return the command that does this to a stored run, such as `retry`."""
    where = [] if store == DEFAULT_STORE else ["--store", store_shown(store)]
    named = [*where, "--", name] if name.startswith("-") else [name, *where]
    return shlex.join(["cottonpalm", verb, *named])
