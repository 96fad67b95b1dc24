"""The way back of a row whose last fallback is down too: to the first chain, once a provider it left answers again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cottonpalm import clock

if TYPE_CHECKING:
    from cottonpalm.request.endpoints.endpoints import Team
    from cottonpalm.request.limiter.limiter import Limiter


class Passed(NamedTuple):
    """A provider that a row has left for another chain; with its equals, where there are several endpoints."""

    limiter: Limiter
    team: Team | None

    @property
    def is_back(self) -> bool:
        """Whether it counts as down no more."""
        if self.team is not None:
            return any(not endpoint.health.ill for endpoint in self.team.endpoints)
        return not self.limiter.circuit.is_open(self.limiter.good)

    @property
    def may_be_asked(self) -> bool:
        """Whether it is back, or somebody is to find out now."""
        if self.team is not None:
            return any(endpoint.health.has_rested(clock.now()) for endpoint in self.team.endpoints)
        return not self.limiter.shut


class WayBack:
    """The providers that one row left, as they failed it, and whether it goes back to the first chain.

    Attributes:
        passed: those providers, since it was at the first chain.
        returns: True: it leaves the last chain, whose provider is down, for the first.
    """

    __slots__ = ("_been", "passed", "returns")

    def __init__(self) -> None:
        self.passed: tuple[Passed, ...] = ()
        self.returns = self._been = False

    def is_open(self, *, asking: bool = False) -> bool:
        """Whether a provider that it left is back; `asking`: or is to be asked whether it is."""
        return any(passed.is_back or (asking and passed.may_be_asked) for passed in self.passed)

    def left(self, limiter: Limiter, team: Team | None, *, down: bool) -> None:
        """It has left a provider. It comes back only once to one that is not down, as it may be bad itself."""
        if down or not self._been:
            self.passed = (*self.passed, Passed(limiter, team))

    def ends(self) -> None:
        """It leaves the last chain."""
        self.returns = bool(self.passed)

    def is_taken(self) -> bool:
        """Whether it is now to be asked of the first chain again; said once."""
        self._been, self.returns, self.passed = self.returns, False, ()
        return self._been
