"""What is sent and what comes back: calls with random lengths, and the answers to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from random import Random
from typing import Final, NamedTuple

NET_S: Final = 0.03  # on the way there, and again on the way back
TOKENS_IN: Final = 400  # medians
TOKENS_OUT: Final = 200


@dataclass(slots=True, eq=False)
class Call:
    """One row's request, also when it is sent again.

    Attributes:
        work_s: how long the provider takes for it where it has all it needs.
        tokens_in, tokens_out: what it really uses.
        tries: sends so far.
        held: whatever the policy keeps with it.
    """

    number: int
    work_s: float
    tokens_in: int
    tokens_out: int
    tries: int = 0
    held: object = None

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


class Reply(NamedTuple):
    """What came back.

    Attributes:
        status: of HTTP.
        headers: as a real provider writes them.
    """

    status: int
    headers: dict[str, str]


def body_of(status: int) -> bytes:
    """The body of an error: a provider that is overloaded says so by a code."""
    return b"" if status == 429 else b'{"error": {"type": "server_error"}}'


@dataclass(slots=True)
class Workload:
    """Calls without end. The n-th call of a seed is the same whoever sends it.

    Attributes:
        median_s: the median answer time, which is what a round trip is here.
        sigma: of the lognormal lengths; 0.8 puts one answer in a hundred above 6.4 times the median.
        drift: after this call the answers are `drift_factor` times as long.
    """

    seed: int
    median_s: float
    sigma: float = 0.8
    drift: int | None = None
    drift_factor: float = 1.0
    _rng: Random = field(init=False)
    _number: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def next(self) -> Call:
        number, self._number = self._number, self._number + 1
        longer = exp(self._rng.gauss(0.0, self.sigma))
        if self.drift is not None and number >= self.drift:
            longer *= self.drift_factor
        work_s = self.median_s * (0.1 + 0.9 * longer)  # a tenth until the first token
        tokens_in = 1 + int(TOKENS_IN * exp(self._rng.gauss(0.0, 0.6)))
        return Call(number, work_s, tokens_in, 1 + int(TOKENS_OUT * longer))
