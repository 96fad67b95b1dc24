"""What every store decides when it opens a run: whether the chain still matches, and how to say that it is busy."""

from __future__ import annotations

import logging
from typing import Any

from cottonpalm import clock
from cottonpalm.errors import ChainChanged
from cottonpalm.stores.rules.changes import compare

log = logging.getLogger("cottonpalm")


def renews(name: str, stored: dict[str, Any] | None, given: dict[str, Any] | None, *, fresh: bool) -> bool:
    """Whether the chain's description takes the place of the one that the run began with.

    Raises:
        ChainChanged: prompts, models or parameters differ, and the run is not begun afresh.
    """
    if given is None:
        return fresh
    if fresh or stored is None:
        return True
    changes = compare(stored, given)
    if changes.refuse:
        listed = "; ".join(changes.refuse[:3]) + (
            f"; and {len(changes.refuse) - 3} more" if changes.refuse[3:] else ""
        )
        raise ChainChanged(
            f"run {name!r} began with another chain: {listed}. "
            "Give run= another name, or forget this run first: cottonpalm rm.",
            changes.refuse,
        )
    for change in changes.warn:
        log.warning(
            "run %r goes on, but %s since it began: stored answers were made by the old one", name, change
        )
    return bool(changes.warn)


def busy_message(name: str, host: str, pid: int, since: float) -> str:
    """Return the message for a second process that opens the run."""
    return (
        f"run {name!r} is being worked on by process {pid} on {host}, since {clock.local(since)}:"
        " wait for it or stop it (Ctrl-C there), or use another run name"
    )


def busy_here(name: str, since: float) -> str:
    """Return the message for a second call of one process that opens the run: Ctrl-C would stop the caller too."""
    return (
        f"run {name!r} is being worked on by another call in this process, since {clock.local(since)}:"
        " wait for it or stop it, or use another run name"
    )
