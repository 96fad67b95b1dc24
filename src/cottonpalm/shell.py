"""The command line, as far as others speak of it: what it keeps with a run, its exit codes, and its commands."""

from __future__ import annotations

import shlex
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

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


def rows_in_all(facts: Mapping[str, Any]) -> int | None:
    """Rows of the input as they were counted last, and those that are stored beside them; None: not known."""
    total = facts.get("total")
    return None if total is None else int(total) + int(facts.get("beside", 0))


def command_on(verb: str, name: str, store: str) -> str:
    """Return the command that does this to a stored run, such as `retry`."""
    where = [] if store == DEFAULT_STORE else ["--store", store_shown(store)]
    named = [*where, "--", name] if name.startswith("-") else [name, *where]
    return shlex.join(["cottonpalm", verb, *named])
