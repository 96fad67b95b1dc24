"""Any history of processes that share limits through one file: they come, send, hang, die, leave; clocks are set back.

Their requests in flight together never exceed the number that was named, nor do all requests of a minute the ceiling;
and once all is quiet, those that live can use all of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cottonpalm import clock
from tests.request.peers import Peer
from tests.request.stage import Stage

MOST, PER_MINUTE, PEERS = 5, 8, 3
index = st.integers(0, PEERS - 1)


class SharesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.stage.__enter__()
        self.ahead_s = 1.7e9
        clock.replace(self.stage.loop.time, lambda: self.stage.loop.now_s + self.ahead_s)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "s.db"
        self.peers: list[Peer] = []
        self.hung: set[Peer] = set()
        self.sent: list[float] = []

    def see_grants(self) -> None:
        for peer in self.peers:
            self.sent += [self.stage.loop.now_s] * peer.see()

    def awake(self, number: int) -> Peer | None:
        peer = self.peers[number % len(self.peers)] if self.peers else None
        return None if peer in self.hung else peer

    # What happens

    @precondition(lambda self: len(self.peers) < PEERS)
    @rule()
    def begin(self) -> None:
        self.peers.append(Peer(self.stage, self.path, most=MOST, per_minute=PER_MINUTE))

    @rule(number=index, count=st.integers(1, 8))
    def come(self, number: int, count: int) -> None:
        if (peer := self.awake(number)) is not None:
            peer.come(count)
            self.see_grants()

    @rule(number=index, count=st.integers(1, 5))
    def give_back(self, number: int, count: int) -> None:
        if (peer := self.awake(number)) is not None:
            for _ in range(min(count, len(peer.held))):
                peer.give_back()
            self.see_grants()

    @rule(number=index)
    def cancel(self, number: int) -> None:
        if (peer := self.awake(number)) is not None and peer.line:
            peer.line.pop(0).cancel()
            self.stage.settle()
            self.see_grants()

    @rule(number=index)
    def renew(self, number: int) -> None:
        if (peer := self.awake(number)) is not None:
            peer.renew()
            self.see_grants()

    @rule(seconds=st.sampled_from([1, 1, 3, 8, 30, 70]), order=st.randoms(use_true_random=False))
    def pass_time(self, seconds: int, order: object) -> None:
        for _ in range(seconds):
            self.stage.advance(1.0)
            self.see_grants()
            living = [peer for peer in self.peers if peer not in self.hung]
            order.shuffle(living)  # type: ignore[attr-defined]
            for peer in living:
                peer.renew()
                self.see_grants()

    @precondition(lambda self: len(self.peers) > 1)
    @rule(number=index)
    def kill(self, number: int) -> None:
        peer = self.peers.pop(number % len(self.peers))
        self.hung.discard(peer)
        peer.die()

    @rule(number=index)
    def leave(self, number: int) -> None:
        if (peer := self.awake(number)) is not None:
            peer.go_idle()
            self.see_grants()
            self.peers.remove(peer)
            peer.leave()

    @rule(number=index)
    def hang(self, number: int) -> None:
        """A process that is stopped: with nothing in flight, since what is on the wire stays there."""
        if (peer := self.awake(number)) is not None:
            peer.go_idle()
            self.see_grants()
            self.hung.add(peer)

    @rule()
    def go_on(self) -> None:
        for peer in sorted(self.hung, key=self.peers.index):
            peer.renew()
        self.hung.clear()
        self.see_grants()

    @rule(seconds=st.sampled_from([2, 50, 5_000]))
    def set_the_clock_back(self, seconds: int) -> None:
        self.ahead_s -= seconds

    # What must hold

    @invariant()
    def never_more_in_flight_than_was_named(self) -> None:
        assert sum(len(peer.held) for peer in self.peers) <= MOST

    @invariant()
    def never_more_in_a_minute_than_the_ceiling(self) -> None:
        self.sent = [at for at in self.sent if at > self.stage.loop.now_s - 60]
        assert len(self.sent) <= PER_MINUTE

    def teardown(self) -> None:
        try:
            if self.peers:
                self.check_that_all_of_it_can_be_used()
        finally:
            for peer in self.peers:
                peer.die()
            self.stage.close()
            self.folder.cleanup()

    def check_that_all_of_it_can_be_used(self) -> None:
        self.go_on()
        for peer in self.peers:
            while peer.held:
                peer.give_back()
                self.see_grants()
            peer.come(6 * PER_MINUTE)
        for _ in range(150):
            self.stage.advance(1.0)
            for peer in self.peers:
                peer.renew()
            self.see_grants()
            self.never_more_in_flight_than_was_named()
            self.never_more_in_a_minute_than_the_ceiling()
        assert sum(len(peer.held) for peer in self.peers) == MOST
        for _ in range(70):
            self.stage.advance(1.0)
            for peer in self.peers:
                while peer.held:
                    peer.give_back()
                    self.see_grants()
                peer.renew()
            self.see_grants()
            self.never_more_in_a_minute_than_the_ceiling()
        assert len(self.sent) > PER_MINUTE - len(
            self.peers
        )  # a part that is passed on is not used for a moment


TestSharesMachine = SharesMachine.TestCase
TestSharesMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
