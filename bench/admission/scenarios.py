"""The providers to be met. Each runs for at least 100 round trips and lets an oracle do at least 20,000 calls."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from bench.admission.calls import Workload
from bench.admission.limits import AtOnce, Bucket, Window, tokens
from bench.admission.provider import Outage, Provider, Says
from bench.admission.servers import Elastic, Knee, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.admission.limits import Limit, Steps


@dataclass(frozen=True, slots=True)
class Scenario:
    """One provider and how long to look at it.

    Attributes:
        name: what it is called on the command line.
        limits: makes its limits, with randomness of their own.
        knee: what the oracle is told of the server.
        by_tokens: the knee counts tokens, not calls.
        drift: (calls, factor): after so many calls the answers are so many times as long.
        falls_at: moments at which the limit falls, for the time to recover.
        rises_at: moments at which it rises, likewise.
    """

    name: str
    median_s: float
    horizon_s: float
    limits: Callable[[Random], list[Limit]] = lambda _rng: []
    server: Callable[[], Server] = Elastic
    knee: float | None = None
    by_tokens: bool = False
    says: Says = "nothing"
    outages: tuple[Outage, ...] = ()
    sigma: float = 0.8
    drift: tuple[int, float] | None = None
    falls_at: tuple[float, ...] = ()
    rises_at: tuple[float, ...] = ()

    def workload(self, seed: int) -> Workload:
        drift, factor = self.drift or (None, 1.0)
        return Workload(seed, self.median_s, self.sigma, drift, factor)

    def provider(self, seed: int) -> Provider:
        rng = Random(f"{self.name} {seed}")
        return Provider(rng, self.limits(rng), self.server(), self.says, list(self.outages))


def rpm(per_minute: float | Steps, **more: object) -> Callable[[Random], Limit]:
    return lambda rng: Bucket(steps(per_minute), rng=rng, **more)  # type: ignore[arg-type]


def tpm(per_minute: float | Steps, **more: object) -> Callable[[Random], Limit]:
    return lambda rng: Bucket(steps(per_minute), tokens, rng=rng, **more)  # type: ignore[arg-type]


def at_once(most: float | Steps) -> Callable[[Random], Limit]:
    return lambda _rng: AtOnce(steps(most))


def window(per_window: float | Steps, **more: object) -> Callable[[Random], Limit]:
    return lambda _rng: Window(steps(per_window), **more)  # type: ignore[arg-type]


def all_of(*makers: Callable[[Random], Limit]) -> Callable[[Random], list[Limit]]:
    return lambda rng: [make(rng) for make in makers]


def steps(value: float | Steps) -> Steps:
    return value if isinstance(value, list) else [(0.0, value)]


def waves(low: float, high: float, every_s: float, until_s: float) -> Steps:
    """Up and down for ever."""
    return [(n * every_s, high if n % 2 else low) for n in range(int(until_s / every_s) + 1)]


DOWN_UP: Final[Steps] = [(0.0, 300.0), (200.0, 100.0), (400.0, 300.0)]
S: Final = Scenario
ALL: Final = (
    S("cap-200", 4, 600, all_of(at_once(200))),
    S("cap-500", 4, 450, all_of(at_once(500))),
    S("cap-20-slow", 20, 28_000, all_of(at_once(20))),
    S("cap-equal", 1, 720, all_of(at_once(30)), sigma=0.0),  # all come at once, and are answered at once
    S("cap-tiny", 0.3, 1_300, all_of(at_once(5)), sigma=0.0),  # fewer than the first ten
    S("cap-steps", 4, 600, all_of(at_once(DOWN_UP)),
      falls_at=(200.0,), rises_at=(400.0,)),
    S("cap-shared", 4, 700, all_of(at_once(waves(140, 200, 70, 700)))),
    S("cap-shared-fast", 4, 700, all_of(at_once(waves(140, 200, 35, 700)))),
    S("rpm-headers", 4, 480, all_of(rpm(3000)), says="headers"),
    S("rpm-retry-after", 4, 480, all_of(rpm(3000)), says="retry-after"),
    S("rpm-nothing", 4, 480, all_of(rpm(3000))),
    S("rpm-small-burst", 4, 480, all_of(rpm(3000, burst_s=1.0))),
    S("rpm-charged", 4, 480, all_of(rpm(3000, charges_refused=True, burst_s=10.0)), says="retry-after"),
    S("rpm-shared-headers", 4, 480, all_of(rpm(6000, others=waves(1500, 3000, 80, 480))), says="headers"),
    S("rpm-shared-nothing", 4, 480, all_of(rpm(6000, others=waves(1500, 3000, 80, 480)))),
    S("rpm-steps-headers", 4, 600,
      all_of(rpm([(0.0, 4500.0), (200.0, 1500.0), (400.0, 4500.0)])), says="headers",
      falls_at=(200.0,), rises_at=(400.0,)),
    S("rpm-steps-nothing", 4, 600,
      all_of(rpm([(0.0, 4500.0), (200.0, 1500.0), (400.0, 4500.0)], burst_s=10.0)),
      falls_at=(200.0,), rises_at=(400.0,)),
    S("tpm-headers", 4, 500, all_of(tpm(2_000_000)), says="headers"),
    S("tpm-retry-after", 4, 500, all_of(tpm(2_000_000)), says="retry-after"),
    S("tpm-nothing", 4, 500, all_of(tpm(2_000_000))),
    S("window-headers", 4, 480, all_of(window(3000)), says="headers"),
    S("window-retry-after", 4, 480, all_of(window(3000)), says="retry-after"),
    S("window-nothing", 4, 480, all_of(window(500, window_s=10.0))),
    S("knee-flat", 4, 1_800, server=lambda: Knee(80), knee=80),
    S("knee-thrash", 4, 1_800, server=lambda: Knee(80, thrash=0.3), knee=80),
    S("knee-drift", 4, 2_200, server=lambda: Knee(80, thrash=0.1), knee=80, drift=(8_000, 2.0)),
    S("kv-queue", 4, 1_400, server=lambda: Knee(80_000, by_tokens=True, line=60, thrash=0.1),
      knee=80_000, by_tokens=True),
    S("kv-reject", 4, 1_400, lambda _rng: [AtOnce(steps(80_000), tokens)]),
    S("errors-500", 4, 600, all_of(at_once(200)),
      outages=(Outage(100, 130, 0.5, 500), Outage(300, 315, 0.9, 502))),
    S("overload-503", 4, 600, all_of(at_once(200)),
      outages=(Outage(100, 110, 0.3, 503), Outage(250, 256, 0.8, 529), Outage(400, 410, 0.3, 503))),
    S("mixed-headers", 4, 500, all_of(rpm(4000), tpm(2_000_000), at_once(250)), says="headers"),
    S("mixed-nothing", 4, 500, all_of(rpm(3600, burst_s=10.0), tpm(2_400_000, burst_s=10.0), at_once(300))),
    S("mixed-hard", 4, 900, all_of(rpm(3000, others=waves(300, 900, 60, 900), burst_s=10.0), at_once(300)),
      says="retry-after", outages=(Outage(200, 215, 0.4, 500), Outage(500, 506, 0.5, 503))),
)  # fmt: skip
BY_NAME: Final = {scenario.name: scenario for scenario in ALL}
