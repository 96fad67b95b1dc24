"""The providers to be met. Each runs for at least 100 round trips and lets an oracle do at least 20,000 calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

from bench.admission.calls import Workload
from bench.admission.limits import tokens
from bench.admission.provider import Outage, Provider, Says
from bench.admission.scale import WHOLE, Scale, at_once, knee, rpm, tpm, waves, window
from bench.admission.servers import Elastic

if TYPE_CHECKING:
    from typing import Self

    from bench.admission.limits import Steps
    from bench.admission.scale import MakesLimit, MakesServer


@dataclass(frozen=True, slots=True)
class Scenario:
    """One provider and how long to look at it.

    Attributes:
        name: what it is called on the command line.
        limits: make its limits, with randomness of their own.
        knee: what the oracle is told of the server.
        by_tokens: the knee counts tokens, not calls.
        drift: (calls, factor): after so many calls the answers are so many times as long.
        falls_at: moments at which the limit falls, for the time to recover.
        rises_at: moments at which it rises, likewise.
        scale: of what `limits` and `server` make; all else is given at this scale.
    """

    name: str
    median_s: float
    horizon_s: float
    limits: tuple[MakesLimit, ...] = ()
    server: MakesServer = lambda _scale: Elastic()
    knee: float | None = None
    by_tokens: bool = False
    says: Says = "nothing"
    outages: tuple[Outage, ...] = ()
    sigma: float = 0.8
    drift: tuple[int, float] | None = None
    falls_at: tuple[float, ...] = ()
    rises_at: tuple[float, ...] = ()
    scale: Scale = WHOLE

    def workload(self, seed: int) -> Workload:
        drift, factor = self.drift or (None, 1.0)
        return Workload(seed, self.median_s, self.sigma, drift, factor)

    def provider(self, seed: int) -> Provider:
        rng = Random(f"{self.name} {seed}")
        limits = [make(rng, self.scale) for make in self.limits]
        return Provider(rng, limits, self.server(self.scale), self.says, list(self.outages))

    def scaled(self, scale: Scale, horizon_s: float) -> Self:
        """The same of a scenario at its whole size, looked at for another time."""
        faster, smaller = scale.faster, scale.smaller
        return replace(
            self,
            median_s=self.median_s / faster,
            horizon_s=horizon_s,
            knee=None if self.knee is None else self.knee / smaller,
            outages=tuple(
                Outage(one.since_s / faster, one.until_s / faster, one.share, one.status)
                for one in self.outages
            ),
            drift=None if self.drift is None else (int(self.drift[0] / smaller), self.drift[1]),
            falls_at=tuple(moment_s / faster for moment_s in self.falls_at),
            rises_at=tuple(moment_s / faster for moment_s in self.rises_at),
            scale=scale,
        )


DOWN_UP: Final[Steps] = [(0.0, 300.0), (200.0, 100.0), (400.0, 300.0)]
S: Final = Scenario
ALL: Final = (
    S("cap-200", 4, 600, (at_once(200),)),
    S("cap-500", 4, 450, (at_once(500),)),
    S("cap-20-slow", 20, 28_000, (at_once(20),)),
    S("cap-equal", 1, 720, (at_once(30),), sigma=0.0),  # all come at once, and are answered at once
    S("cap-alike", 1, 720, (at_once(30),), sigma=0.03),  # all come nearly at once
    S("cap-tiny", 0.3, 1_300, (at_once(5),), sigma=0.0),  # fewer than the first ten
    S("cap-steps", 4, 600, (at_once(DOWN_UP),),
      falls_at=(200.0,), rises_at=(400.0,)),
    S("cap-shared", 4, 700, (at_once(waves(140, 200, 70, 700)),)),
    S("cap-shared-fast", 4, 700, (at_once(waves(140, 200, 35, 700)),)),
    S("rpm-headers", 4, 480, (rpm(3000),), says="headers"),
    S("rpm-retry-after", 4, 480, (rpm(3000),), says="retry-after"),
    S("rpm-nothing", 4, 480, (rpm(3000),)),
    S("rpm-small-burst", 4, 480, (rpm(3000, burst_s=1.0),)),
    S("rpm-charged", 4, 480, (rpm(3000, charges_refused=True, burst_s=10.0),), says="retry-after"),
    S("rpm-shared-headers", 4, 480, (rpm(6000, others=waves(1500, 3000, 80, 480)),), says="headers"),
    S("rpm-shared-nothing", 4, 480, (rpm(6000, others=waves(1500, 3000, 80, 480)),)),
    S("rpm-steps-headers", 4, 600,
      (rpm([(0.0, 4500.0), (200.0, 1500.0), (400.0, 4500.0)]),), says="headers",
      falls_at=(200.0,), rises_at=(400.0,)),
    S("rpm-steps-nothing", 4, 600,
      (rpm([(0.0, 4500.0), (200.0, 1500.0), (400.0, 4500.0)], burst_s=10.0),),
      falls_at=(200.0,), rises_at=(400.0,)),
    S("tpm-headers", 4, 500, (tpm(2_000_000),), says="headers"),
    S("tpm-retry-after", 4, 500, (tpm(2_000_000),), says="retry-after"),
    S("tpm-nothing", 4, 500, (tpm(2_000_000),)),
    S("window-headers", 4, 480, (window(3000),), says="headers"),
    S("window-retry-after", 4, 480, (window(3000),), says="retry-after"),
    S("window-nothing", 4, 480, (window(500, window_s=10.0),)),
    S("knee-flat", 4, 1_800, server=knee(80), knee=80),
    S("knee-thrash", 4, 1_800, server=knee(80, thrash=0.3), knee=80),
    S("knee-drift", 4, 2_200, server=knee(80, thrash=0.1), knee=80, drift=(8_000, 2.0)),
    S("kv-queue", 4, 1_400, server=knee(80_000, by_tokens=True, line=60, thrash=0.1),
      knee=80_000, by_tokens=True),
    S("kv-reject", 4, 1_400, (at_once(80_000, tokens),)),
    S("errors-500", 4, 600, (at_once(200),),
      outages=(Outage(100, 130, 0.5, 500), Outage(300, 315, 0.9, 502))),
    S("overload-503", 4, 600, (at_once(200),),
      outages=(Outage(100, 110, 0.3, 503), Outage(250, 256, 0.8, 529), Outage(400, 410, 0.3, 503))),
    S("mixed-headers", 4, 500, (rpm(4000), tpm(2_000_000), at_once(250)), says="headers"),
    S("mixed-nothing", 4, 500, (rpm(3600, burst_s=10.0), tpm(2_400_000, burst_s=10.0), at_once(300))),
    S("mixed-hard", 4, 900, (rpm(3000, others=waves(300, 900, 60, 900), burst_s=10.0), at_once(300)),
      says="retry-after", outages=(Outage(200, 215, 0.4, 500), Outage(500, 506, 0.5, 503))),
    S("random-429-1", 4, 600, (at_once(200),), outages=(Outage(0, 600, 0.01, 429),)),
    S("random-429-3", 4, 600, (at_once(200),), outages=(Outage(0, 600, 0.03, 429),)),
    S("random-429-headers", 4, 480, (rpm(3000),), says="headers", outages=(Outage(0, 480, 0.01, 429),)),
    S("random-429-rpm", 4, 480, (rpm(3000),), outages=(Outage(0, 480, 0.01, 429),)),
)  # fmt: skip
BY_NAME: Final = {scenario.name: scenario for scenario in ALL}
