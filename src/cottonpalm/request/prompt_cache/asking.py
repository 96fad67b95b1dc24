"""One request's part in the prompt cache: it goes first, or waits for who does; what it asks for; what came of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.request.prompt_cache.rules.prefixes import Turn

if TYPE_CHECKING:
    from cottonpalm.providers.prompt_cache.terms import Terms
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.prompt_cache.rules.patience import Patience
    from cottonpalm.request.prompt_cache.rules.prefixes import Prefix, Prefixes
    from cottonpalm.runtime.wait_queue import Place
    from cottonpalm.types import Usage


class Shared:
    """What the requests of one key share. Whoever uses it holds `lock`.

    Attributes:
        bytes: of prompts whose usage is known; `tokens` likewise.
    """

    def __init__(self, terms: Terms, prefixes: Prefixes, patience: Patience) -> None:
        self.terms, self.prefixes, self.patience = terms, prefixes, patience
        self.bytes = self.tokens = 0
        self.lock = threading.RLock()  # a task's end may come while its own thread is in here


class Asking:
    """One try of a request whose prompt may be cached. Thread-safe.

    Attributes:
        body: what is sent in place of the request's own body; None: its own.
    """

    __slots__ = ("_chain", "_led", "_shared", "_since", "_size", "_turn", "_waiting", "body")

    def __init__(
        self, shared: Shared, chain: tuple[Prefix, ...], size: int, body: dict[str, Any] | None
    ) -> None:
        self._shared, self._chain, self._size, self.body = shared, chain, size, body
        self._turn: Turn | None = None
        self._led = False  # what it leads is settled
        self._since = 0.0  # when it was sent, or the first began to wait for it
        self._waiting: list[tuple[float, int, Place]] | None = None

    def go(self, requests: int) -> tuple[Asking, float] | None:
        """Go now; or return whom to wait for, and for how many seconds at most.

        Args:
            requests: that the run has sent so far.
        """
        shared, now = self._shared, clock.now()
        with shared.lock:
            turn = shared.prefixes.turn(self._chain, self._size, now)
            if turn.after is None:
                self._went(turn, now)
                return None
            if (wait_s := shared.patience.left_s(requests)) <= 0:
                self._went(Turn(None), now)
                return None
            assert isinstance(turn.after, Asking)
            return turn.after, wait_s

    def go_alone(self) -> None:
        """Go now, whoever leads."""
        with self._shared.lock:
            self._went(Turn(None), clock.now())

    def _went(self, turn: Turn, now: float) -> None:
        self._turn, self._since = turn, now
        self._shared.prefixes.goes(turn, self, now)

    # -- those who wait for it

    def line_up(self, place: Place, priority: float) -> bool:
        """Wait for this request; False: what it led is settled, so there is nothing to wait for."""
        with self._shared.lock:
            if self._led:
                return False
            if self._waiting is None:
                self._waiting = []
            self._waiting.append((-priority, len(self._waiting), place))
            return True

    def leave(self, place: Place) -> None:
        """Wait no longer."""
        with self._shared.lock:
            if self._waiting is not None:
                self._waiting = [entry for entry in self._waiting if entry[2] is not place]

    # -- its end

    def begins(self, limiter: Limiter) -> None:
        """Its answer begins: with some providers, others can read what it wrote from now on."""
        if self._shared.terms.usable == "begins":
            self._settle(limiter, written=True)

    def over(self, limiter: Limiter | None, usage: Usage | None, *, answered: bool) -> None:
        """It has ended, whether it was sent or not.

        Args:
            limiter: of its key; None: it never got as far.
            usage: what the answer reported.
            answered: an answer came.
        """
        self._settle(limiter, written=answered)
        if usage is None:
            return
        shared = self._shared
        with shared.lock:
            shared.bytes += self._size
            shared.tokens += usage.input_tokens
            if self._turn is not None and self._turn.reads:
                shared.patience.read(usage.cache_read_tokens)

    def _settle(self, limiter: Limiter | None, *, written: bool) -> None:
        shared, now = self._shared, clock.now()
        with shared.lock:
            if self._led or self._turn is None:
                return
            self._led = True
            shared.prefixes.over(self._turn, self._since, written=written)
            waiting, self._waiting = self._waiting or [], None
            if waiting and limiter is not None and limiter.in_flight < limiter.limit / 2:
                shared.patience.waited(self._since, now)
        if waiting and limiter is not None:
            limiter.expects(len(waiting))  # what its answer took says nothing of what they take
        for _, _, place in sorted(waiting, key=lambda entry: entry[:2]):
            place.wake()
