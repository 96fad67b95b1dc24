"""How large and how fast a provider is, and what it is put together from at that scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from bench.admission.limits import AtOnce, Bucket, Limit, Window, request, tokens
from bench.admission.servers import Knee, Server

if TYPE_CHECKING:
    from bench.admission.calls import Call
    from bench.admission.limits import Steps


@dataclass(frozen=True, slots=True)
class Scale:
    """The whole thing, or the same so many times as fast and so many times as small.

    Attributes:
        faster: all of the provider's times are this many times shorter: its minute, its answers, its bad hours.
        smaller: all of its numbers are this many times smaller: what it takes at once, and within its minute.
    """

    faster: float = 1.0
    smaller: float = 1.0

    def at_once(self, values: Steps) -> Steps:
        """Numbers, over time."""
        return [(since_s / self.faster, value / self.smaller) for since_s, value in values]

    def per_minute(self, values: Steps) -> Steps:
        """Numbers in each minute of the clock, over time."""
        return [(since_s, value * self.faster) for since_s, value in self.at_once(values)]


WHOLE: Final = Scale()
MakesLimit = Callable[[Random, Scale], Limit]
MakesServer = Callable[[Scale], Server]


def steps(value: float | Steps) -> Steps:
    return value if isinstance(value, list) else [(0.0, value)]


def waves(low: float, high: float, every_s: float, until_s: float) -> Steps:
    """Up and down for ever."""
    return [(n * every_s, high if n % 2 else low) for n in range(int(until_s / every_s) + 1)]


def bucket(
    per_minute: float | Steps,
    of: Callable[[Call], float],
    *,
    burst_s: float = 60.0,
    others: Steps | None = None,
    charges_refused: bool = False,
) -> MakesLimit:
    """See `Bucket`."""
    return lambda rng, scale: Bucket(
        scale.per_minute(steps(per_minute)),
        of,
        burst_s=burst_s / scale.faster,
        others=None if others is None else scale.per_minute(others),
        rng=rng,
        charges_refused=charges_refused,
    )


rpm: Final = partial(bucket, of=request)
tpm: Final = partial(bucket, of=tokens)


def at_once(most: float | Steps, of: Callable[[Call], float] = request) -> MakesLimit:
    return lambda _rng, scale: AtOnce(scale.at_once(steps(most)), of)


def window(per_window: float | Steps, *, window_s: float = 60.0) -> MakesLimit:
    return lambda _rng, scale: Window(scale.at_once(steps(per_window)), window_s=window_s / scale.faster)


def knee(
    slots: float, *, thrash: float = 0.0, line: float = float("inf"), by_tokens: bool = False
) -> MakesServer:
    """See `Knee`."""
    return lambda scale: Knee(
        slots / scale.smaller, thrash=thrash, line=line / scale.smaller, by_tokens=by_tokens
    )
