"""One of several equal endpoints: what is known of it, and how soon a row would begin there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.request.endpoints.routing import EndpointState, Health

if TYPE_CHECKING:
    from cottonpalm.request.flow import Flow
    from cottonpalm.request.limiter.limiter import Limiter


class Endpoint:
    """One of several equal chains, and what we know about the endpoint to which its requests go.

    Attributes:
        number: counted from 0; the processor's own chain is 0.
        label: host and model to show, known once a request was seen.
        rows_key: the key of the permits of its rows, used if we see no requests.
        health: says whether it is worth asking.
        rows: how many rows are here.
        waiting: how many requests of this run wait in line here.
        on_wire: how many requests of this run were sent here and not yet answered.
        coming: how many rows were told to come here and have not arrived.
    """

    def __init__(self, number: int, flow: Flow) -> None:
        self.number, self.label = number, f"endpoint {number + 1}"
        self.rows_key = f"{flow.rows_key} at endpoint {number + 1}"
        self.health = Health()
        self.rows = self.waiting = self.on_wire = self.coming = 0
        self._flow = flow
        self._limiters: dict[str, Limiter] = {}

    def asks(self, limiter: Limiter, label: str) -> None:
        """Note that a request of a row here goes through this limiter."""
        if limiter.key not in self._limiters:
            self._limiters = {**self._limiters, limiter.key: limiter}
            self.label = label

    def owns(self, limiter: Limiter) -> bool:
        """Whether it is a limiter of its own, and none that the rows of all endpoints share."""
        return limiter.key in self._limiters or limiter.key == self.rows_key

    def standing(self, now: float) -> EndpointState:
        """Return its state now. If its rows ask several models, the busiest model counts."""
        limiters = list(self._limiters.values())
        if not limiters and self._flow.grain in ("unknown", "row"):
            limiters = [self._flow.limiters.of(self.rows_key)]
        health, on_the_way = self.health, max(0, self.rows - self.waiting - self.on_wire) + self.coming
        if not limiters:
            initial = float(self._flow.limiters.initial)
            return self._standing(now, initial - on_the_way, initial, 1.0, 0.0)
        if self._flow.grain != "request":  # permits go to rows or model calls, which `on_wire` does not count
            on_the_way = self.coming
        free, limit = min((t.vacancies(), t.limit) for t in limiters)
        if health.ill:
            free = min(free, 1 - self.rows)
        trip_s = max(t.admission.trip_s for t in limiters) or 1.0  # no answer has come yet
        return self._standing(now, free - on_the_way, limit, trip_s, max(t.paused_until for t in limiters))

    def _standing(
        self, now: float, free: float, limit: float, trip_s: float, paused_until: float
    ) -> EndpointState:
        health = self.health
        opens_in_s = max(0.0, health.rests_until - now, paused_until - now)
        if health.ill and self.rows and not opens_in_s:
            opens_in_s = trip_s  # about the time until the one row that asks now has its answer
        return EndpointState(free, limit, self.waiting, trip_s, opens_in_s, health.ill, health.refused)
