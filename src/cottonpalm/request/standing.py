"""Where the turnstiles of a run stand at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.pure.binding import Standing

if TYPE_CHECKING:
    from cottonpalm.request.run import RunAccount


def standings(run: RunAccount) -> list[Standing]:
    """One for each turnstile that the run uses; from any thread."""
    now = clock.now()
    return [
        Standing(
            key=run.shown(turnstile.key),
            limit=int(turnstile.limit),
            maximum=int(turnstile.admission.concurrency.maximum),
            in_flight=turnstile.in_flight,
            waiting=turnstile.waiting,
            pause_s=max(0.0, turnstile.paused_until - now),
            down=turnstile.circuit.is_open(turnstile.good),
            held_by=turnstile.held_by,
        )
        for turnstile in run.seen()
    ]
