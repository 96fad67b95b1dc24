"""Several equal endpoints behind one queue: the state of each one, and when a row leaves one for another.

A row is at one endpoint at a time; its `Stay` stands for this. A row can leave only as a whole: we end the call of its
chain with `Moved`, and call the chain of the other endpoint. So a row leaves at once only if it has not paid for an
answer at this endpoint: when its first request failed or still waits in line. After that, a request that fails is tried
again at the same endpoint, and the row leaves only when these tries are used up.

Before its first request goes, a row may leave for an endpoint that has more of its prompt (`affinity.py`).
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from cottonpalm import clock
from cottonpalm.events import EndpointRests
from cottonpalm.providers.prompt_cache.order import blocks_of, prompt_of
from cottonpalm.request.endpoints.affinity import WORTH, Affinity, about_as_soon, pieces_of
from cottonpalm.request.endpoints.endpoint import Endpoint
from cottonpalm.request.endpoints.routing import choose, spread
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.alerts import Alerts
    from cottonpalm.request.endpoints.affinity import Pieces
    from cottonpalm.request.endpoints.routing import EndpointState, Failed
    from cottonpalm.request.flow import Flow
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.runtime.wait_queue import Place
    from cottonpalm.types import Fault, Item

log = logging.getLogger("cottonpalm")

_ENDPOINTS_FAULT: Final = frozenset({Kind.TRANSIENT, Kind.STOP_RUN})


class Moved(BaseException):
    """Ends a row's call at one endpoint so that it can be made at another. As no Exception, few chains handle it."""

    @property
    def generations(self) -> NoReturn:
        """Raise it: LangChain's `agenerate` takes what is no Exception for a result, and asks for its generations."""
        raise self


class Stay:
    """The time that a row spends at one endpoint. Thread-safe.

    Attributes:
        left: True: the row must go elsewhere, and its requests here are ended.
        broken: True: a request was ended with `Moved`, so what the chain makes of it is no answer.
        target: the endpoint it goes to, if that is decided.
        pieces: of the prompt of its latest request.
    """

    def __init__(
        self, team: Team, endpoint: Endpoint, item: Item, failed: Failed, *, moved: bool = False
    ) -> None:
        """`moved`: it has left another endpoint."""
        self.endpoint, self.left, self.broken = endpoint, False, False
        self.target: Endpoint | None = None
        self.pieces: Pieces = ()
        self._chooses = not (moved or item.shown)  # once, and before all else, it may go where its prompt is
        self._team, self._item, self._failed = team, item, failed
        self._places: set[Place] = set()
        self._shared: set[Place] = set()  # in lines that are the same at every endpoint
        self._on_wire = self._answered = 0

    @property
    def priority(self) -> float:
        """The row's priority."""
        return self._item.priority

    @property
    def index(self) -> int:
        """The row's number."""
        return self._item.index

    @property
    def movable(self) -> bool:
        """Whether its requests only wait in line and none was sent or answered, so that moving it costs nothing.

        One that waits in a shared line may hold a permit here. If it left, that would look like room to come back to.
        """
        paid = self._answered or self._on_wire
        return bool(self._places) and not (self.left or paid or self._shared or self._item.shown)

    def failed_at(self, number: int) -> int:
        """How often that endpoint failed the row."""
        return self._failed.at(number)

    def welcome_at(self, number: int) -> bool:
        """Whether the row, which only waits here, may go to that endpoint, which would ask at once."""
        return self._failed.allows(number, again=True)

    # What its requests report

    def begins(self, limiter: Limiter, call: Call) -> None:
        """A request is about to be made here, through this limiter.

        Raises:
            Moved: the row goes where more of its prompt is kept.
        """
        self.endpoint.asks(limiter, call.label)
        if not self._team.by_prompt:
            return
        chooses = self._chooses and not (self._answered or self._on_wire)
        self._chooses = False
        if (target := self._team.place(self, call, chooses=chooses)) is not self.endpoint:
            self.leave(target)
            raise self._moved()

    def check(self) -> None:
        """Raise Moved if the row has left, so that nothing more is sent from here."""
        if self.left:
            raise self._moved()

    def sent(self) -> int:
        """A request is sent now; return its number among the requests of this endpoint."""
        with self._team.lock:
            self._on_wire += 1
            self.endpoint.on_wire += 1
            return self.endpoint.health.send()

    def over(self, number: int, *, ok: bool, paused: bool = False) -> None:
        """A request that was sent has ended.

        Args:
            number: the number that `sent` returned.
            ok: the request was answered.
            paused: other requests must wait here now.
        """
        with self._team.lock:
            self._on_wire -= 1
            self.endpoint.on_wire -= 1
            if ok:
                self._answered += 1
                self.endpoint.health.accepted(number)
        if paused:
            self._team.stir()

    @contextmanager
    def lining_up(self, limiter: Limiter) -> Iterator[Callable[[Place], None]]:
        """Yield a function to call with a place in line there. If the row leaves, it also leaves that place.

        Where all endpoints share the line, it is no reason to leave: the row would go to and fro without end.

        Raises:
            Moved: the row has left.
        """
        team, own = self._team, self.endpoint.owns(limiter)
        mine: set[Place] = set()
        places = self._places if own else self._shared

        def on_wait(place: Place) -> None:
            mine.add(place)
            with team.lock:
                places.add(place)
                if own:
                    self.endpoint.waiting += 1
                    team.in_line.add(self)
            if self.left:
                place.abandon()
            team.stir()

        try:
            yield on_wait
        except RowClosed as closed:
            if self.left:
                raise self._moved() from closed
            raise
        finally:
            with team.lock:
                places -= mine
                if own:
                    self.endpoint.waiting -= len(mine)
                if not self._places:
                    team.in_line.discard(self)

    def failing(self, fault: Fault, number: int, *, dead: bool, unsent: bool = False) -> bool:
        """A request failed and may be tried again; return whether the row goes elsewhere instead.

        Args:
            fault: the request's fault.
            number: the number that `sent` returned.
            dead: True: the provider counts as down, so we do not know when another try here makes sense.
            unsent: True: the endpoint was not reached, so the row may come back as often as it likes.
        """
        self._note(fault, number)
        paid = self._answered or self._on_wire > 1
        return fault.kind is Kind.TRANSIENT and (dead or not paid) and self._may_go(fault, unsent=unsent)

    def failed(self, fault: Fault) -> bool:
        """A request has used up its tries; return whether the row goes elsewhere."""
        return self._may_go(fault, at_last=True)

    def raised(self, fault: Fault) -> bool:
        """The call raised a fault that did not show at its requests; return whether the row goes elsewhere."""
        with self._team.lock:
            number = self.endpoint.health.send()
        self._note(fault, number)
        return self._may_go(fault)

    @property
    def only_hope(self) -> bool:
        """Whether every other endpoint fails."""
        return not self._team.any_but(self.endpoint, lambda other: not other.health.ill)

    @property
    def hopeless(self) -> bool:
        """Whether each endpoint fails, this one too."""
        return self.endpoint.health.ill and self.only_hope

    def leave(self, target: Endpoint | None = None) -> None:
        """Make the row go elsewhere: all its requests that wait here leave their places in line."""
        with self._team.lock:
            self.left, self.target = True, target
            if target is not None:
                target.coming += 1
            places = [*self._places, *self._shared]
        for place in places:
            place.abandon()

    # Decisions

    def _moved(self) -> Moved:
        self.broken = True
        return Moved()

    def _note(self, fault: Fault, number: int) -> None:
        if fault.kind not in _ENDPOINTS_FAULT:
            return
        refusal = fault.kind is Kind.STOP_RUN
        with self._team.lock:
            rest_s = self.endpoint.health.failure(clock.now(), number, refusal=refusal)
        if rest_s:
            self._team.rests(self.endpoint, rest_s, fault)

    def _may_go(self, fault: Fault, *, unsent: bool = False, at_last: bool = False) -> bool:
        """`at_last`: else the row fails, so an endpoint that failed before, and has rested since, is worth asking."""
        if self.left or self._item.shown:
            return self.left
        if fault.kind is Kind.STOP_RUN:
            goes = self._team.any_but(self.endpoint, lambda other: not other.health.refused)
        elif fault.kind in (Kind.TRANSIENT, Kind.THROTTLE):
            if not unsent:
                self._failed.note(self.endpoint.number)
            rested_by = clock.now() if at_last else -math.inf
            goes = self._team.any_but(self.endpoint, lambda other: self._may_go_to(other, rested_by))
        else:
            return False
        if goes:
            self.leave()
        return goes

    def _may_go_to(self, other: Endpoint, rested_by: float) -> bool:
        if other.health.ill:
            return other.health.has_rested(rested_by) and self._failed.allows(other.number, again=False)
        return self._failed.allows(other.number, again=self.endpoint.health.ill)


class Team:
    """The endpoints of one run.

    Args:
        flow: the limiters of the run.
        alerts: takes the team's messages.
        count: how many endpoints there are.
        on_stir: called from any thread when waiting rows might get an answer sooner at another endpoint.
        by_prompt: rows go where their prompts are kept, if they have a choice.
    """

    def __init__(
        self,
        flow: Flow,
        alerts: Alerts,
        count: int,
        on_stir: Callable[[], None],
        *,
        by_prompt: bool = True,
    ) -> None:
        self.lock = threading.Lock()
        self.by_prompt, self._affinity = by_prompt, Affinity(count)
        self.endpoints = [Endpoint(number, flow) for number in range(count)]
        flow.rows_keys = [endpoint.rows_key for endpoint in self.endpoints]
        self.in_line: set[Stay] = set()
        self.stir = on_stir
        self._flow, self._alerts, self._turns = flow, alerts, 0

    def line(self) -> tuple[int, float]:
        """Return how many requests wait where the next row would go, and the limit there."""
        standings = self._standings()
        best = standings[choose(standings, self._turns)]
        if best.opens_in_s:
            return self._flow.waiting, self._flow.limit()
        return best.waiting, best.limit

    def arrive(self, item: Item, failed: Failed, before: Stay | None) -> Stay:
        """Bring the row to an endpoint and return its stay there; `before` is the stay that it left, if any."""
        target, standings = None if before is None else before.target, self._standings()
        if target is None or standings[target.number].opens_in_s:
            target = self.endpoints[self._chosen(standings, failed)]
        with self.lock:
            self._turns += 1
            target.rows += 1
        return Stay(self, target, item, failed, moved=before is not None)

    def place(self, stay: Stay, call: Call, *, chooses: bool) -> Endpoint:
        """Return where the row is to make this request for its prompt's sake, and note that it does.

        Args:
            stay: where it is.
            call: the request.
            chooses: it may go elsewhere.
        """
        here = stay.endpoint
        try:
            prompt = b"" if len(call.content) < WORTH else prompt_of(blocks_of(call.family.name, call.body))
        except Exception:  # a body of a shape that nobody has thought of goes out where it is
            log.debug("the prompt of a request to %s could not be read", call.label, exc_info=True)
            return here
        stay.pieces, standings = pieces_of(prompt), None
        if chooses:
            standings = self._standings()
            itself = standings[here.number]
            standings[here.number] = itself._replace(free=itself.free + 1)
        with self.lock:
            return self.endpoints[self._affinity.place(stay.pieces, here.number, len(prompt), standings)]

    def depart(self, stay: Stay) -> None:
        """End a stay: the row has ended or goes elsewhere."""
        with self.lock:
            stay.endpoint.rows -= 1
            if stay.target is not None:
                stay.target.coming -= 1
        if self.in_line:
            self.stir()

    def spread(self) -> None:
        """Move rows that wait in line, and have paid for nothing there, to endpoints with free permits."""
        if not (stays := [stay for stay in tuple(self.in_line) if stay.movable]):
            return
        for source, target, rows in spread(self._standings()):
            here = [stay for stay in stays if stay.endpoint.number == source and stay.welcome_at(target)]
            with self.lock:
                loses = {stay: self._affinity.loses(stay.pieces, source, target) for stay in here}
            here.sort(key=lambda stay: (stay.failed_at(target), -stay.priority, loses[stay], stay.index))
            for stay in here[:rows]:
                stays.remove(stay)
                stay.leave(self.endpoints[target])

    def any_but(self, endpoint: Endpoint, holds: Callable[[Endpoint], bool]) -> bool:
        """Whether `holds` is true of any other endpoint."""
        return any(holds(other) for other in self.endpoints if other is not endpoint)

    def rests(self, endpoint: Endpoint, seconds: float, fault: Fault) -> None:
        """An endpoint begins to rest: tell observers, and move its waiting rows to the best others, even if full."""
        self._alerts.tell(EndpointRests(endpoint.label, seconds, fault.message, fault.kind))
        if self.any_but(endpoint, lambda other: not other.health.ill):
            for stay in tuple(self.in_line):
                if stay.endpoint is endpoint and stay.movable:
                    stay.leave()

    def _standings(self) -> list[EndpointState]:
        now = clock.now()
        return [endpoint.standing(now) for endpoint in self.endpoints]

    def _chosen(self, standings: list[EndpointState], failed: Failed) -> int:
        """Choose an endpoint for a row: of those that do not fail, one that did not fail the row, if there is any."""
        well = [number for number, standing in enumerate(standings) if not standing.ill]
        among = [number for number in well if not failed.at(number)] or well or list(range(len(standings)))
        chosen, lately = among[choose([standings[n] for n in among], self._turns)], self._affinity.lately
        if lately in among and about_as_soon(standings[lately], standings[chosen]):
            return lately  # a row's prompt is mostly like that of the row before
        return chosen
