"""What keeps a run from being faster at this moment, decided from counts. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cottonpalm.types import Bottleneck

BUSY: Final = 0.9  # of one core, from where on our own work is what binds
SEVERAL: Final = 1.5  # cores: a process that uses as many has threads that do not wait for one another


class Snapshot(NamedTuple):
    """One provider's model at one moment.

    Attributes:
        key: host and model, without the account.
        limit: requests that may be in flight.
        maximum: the most that `limit` may be, as the settings and others who share them leave it.
        in_flight: requests that are.
        waiting: requests in line.
        pause_s: seconds until the provider is asked again; 0 for no pause.
        down: it counts as dead, and the pause is ours.
        held_by: what held the last one in line back: "in flight", "probe", "pace", "requests", "tokens", "input
            tokens", "output tokens", "own requests" or "own tokens"; "" for nothing.
        why: why that is believed, in words.
    """

    key: str
    limit: int
    maximum: int
    in_flight: int
    waiting: int
    pause_s: float
    down: bool
    held_by: str
    why: str = ""


_HELD_BY: Final[Mapping[str, Bottleneck]] = {
    "probe": "probe",
    "pace": "pace",
    "requests": "requests",
    "tokens": "tokens",
    "input tokens": "tokens",
    "output tokens": "tokens",
    "own requests": "own requests",
    "own tokens": "own tokens",
}


def binding(
    rows: Bottleneck, unpaid: int, standings: Sequence[Snapshot], *, busy: bool, hot: bool = False
) -> tuple[Bottleneck, str]:
    """What binds, and at which key; "" where that is no provider's doing, or nothing binds.

    Args:
        rows: what holds rows back, where that can be seen without looking at the requests: "held", "reader", "store",
            "cap", "source", "tail"; "concurrency" where requests are in line; "" for nothing.
        unpaid: requests that wait for money.
        standings: all that the run has asked.
        busy: our loop has no time left.
        hot: this process uses a whole core, as if all its threads waited for one another: more requests in flight
            would not help.
    """
    if rows in ("held", "reader", "store"):
        return rows, ""
    crowded = max(standings, key=_waiting, default=None)
    waiting = 0 if crowded is None else crowded.waiting
    if crowded is not None and waiting and (word := _provider_says(crowded)):
        return word, crowded.key
    short = unpaid > waiting
    if busy or (hot and not short and (waiting or not rows)):
        return "cpu", ""
    if short:
        return "budget", ""
    if crowded is not None and waiting:
        return ("maximum" if crowded.limit >= crowded.maximum else "concurrency"), crowded.key
    return rows, ""


def _waiting(standing: Snapshot) -> int:
    return standing.waiting


def _provider_says(standing: Snapshot) -> Bottleneck | None:
    """What binds by the provider's own word, or by the user's, however busy we are."""
    if standing.pause_s > 0:
        return "down" if standing.down else "pause"
    return _HELD_BY.get(standing.held_by)
