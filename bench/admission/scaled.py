"""The same kinds of provider with a minute scaled to a few seconds, small enough for real HTTP on two cores.

Each lets at most a hundred requests through per second, so that our own CPU does not bind, and runs for fifty round
trips. The simulator and the server over HTTP are given the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.admission.limits import Window
from bench.admission.provider import Outage
from bench.admission.scenarios import Scenario, all_of, at_once, rpm, tpm, waves
from bench.admission.servers import Knee

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bench.admission.limits import Limit

MINUTE_S: Final = 6.0  # what a full bucket takes to fill: the minute, scaled to a tenth
TRIP_S: Final = 0.6  # median time of an answer
HORIZON_S: Final = 30.0


def _window(most: float) -> Callable[[Random], Limit]:
    return lambda _rng: Window([(0.0, most)], window_s=MINUTE_S)


def _rpm(per_s: float, **more: object) -> Callable[[Random], Limit]:
    return rpm(60 * per_s, burst_s=MINUTE_S, **more)


def _tpm(per_s: float) -> Callable[[Random], Limit]:
    return tpm(60 * per_s, burst_s=MINUTE_S)


def _steps(per_s: float, then: float) -> list[tuple[float, float]]:
    return [(0.0, 60 * per_s), (HORIZON_S / 3, 60 * then), (HORIZON_S * 2 / 3, 60 * per_s)]


_CAP_STEPS: Final = [(0.0, 60.0), (HORIZON_S / 3, 20.0), (HORIZON_S * 2 / 3, 60.0)]
_AS_SCALED: Final = {"median_s": TRIP_S, "horizon_s": HORIZON_S}
S: Final = Scenario
SCALED: Final = (
    S("cap-60", **_AS_SCALED, limits=all_of(at_once(60))),
    S("cap-10-slow", 2.0, 60.0, all_of(at_once(10))),
    S("cap-steps", **_AS_SCALED, limits=all_of(at_once(_CAP_STEPS))),
    S("cap-shared", **_AS_SCALED, limits=all_of(at_once(waves(40, 60, 6, HORIZON_S)))),
    S("rpm-headers", **_AS_SCALED, limits=all_of(_rpm(60)), says="headers"),
    S("rpm-retry-after", **_AS_SCALED, limits=all_of(_rpm(60)), says="retry-after"),
    S("rpm-nothing", **_AS_SCALED, limits=all_of(_rpm(60))),
    S("rpm-steps-headers", **_AS_SCALED, limits=all_of(rpm(_steps(75, 25), burst_s=MINUTE_S)), says="headers"),
    S("tpm-headers", **_AS_SCALED, limits=all_of(_tpm(45_000)), says="headers"),
    S("tpm-nothing", **_AS_SCALED, limits=all_of(_tpm(45_000))),
    S("window-headers", **_AS_SCALED, limits=all_of(_window(360)), says="headers"),
    S("knee-flat", **_AS_SCALED, server=lambda: Knee(40), knee=40),
    S("knee-thrash", **_AS_SCALED, server=lambda: Knee(40, thrash=0.3), knee=40),
    S("errors-500", **_AS_SCALED, limits=all_of(at_once(60)), outages=(Outage(10, 12, 0.5, 500),)),
    S("mixed-headers", **_AS_SCALED, limits=all_of(_rpm(70), _tpm(45_000), at_once(80)), says="headers"),
)  # fmt: skip
BY_NAME: Final = {scenario.name: scenario for scenario in SCALED}
