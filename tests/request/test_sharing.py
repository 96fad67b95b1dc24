"""Processes with one store share limits: what each may use, what becomes of a dead one's, what a run remembers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.errors import StoreError
from cottonpalm.providers.call import whose
from cottonpalm.request.limiter import sharing
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores import open_store
from cottonpalm.stores.rules.division import TTL_S
from cottonpalm.stores.sqlite.database import SqliteDatabase, prepare
from cottonpalm.types import Verdict
from tests.request.peers import KEY, Peer
from tests.request.stage import Stage
from tests.support.calls import recognise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.core

URL = ("https", "api.example.com", None, "/v1/chat/completions")
SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        clock.replace(stage.loop.time, lambda: stage.loop.now_s + 1.7e9)
        yield stage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


class Untested(Concurrency):
    """A limit under which nobody tries whether more fit: what is divided stays what it was."""

    __slots__ = ()

    def admitted(self, *_: object, **__: object) -> None:
        """Nothing follows."""


def learnt(limit: float) -> Concurrency:
    """A limit that met resistance."""
    concurrency = Untested(limit, 1, 500)
    concurrency.moved(limit, firm=True)
    return concurrency


def busy(stage: Stage, path: Path, limit: float) -> Peer:
    """A process that has found this limit, and uses it."""
    peer = Peer(stage, path, limit=learnt(limit))
    peer.come(int(limit) + 5)
    peer.see()
    peer.renew()
    return peer


def drain(peer: Peer) -> None:
    """All that is in flight is answered, and others take the places that are free."""
    for _ in range(len(peer.held)):
        peer.give_back(Verdict.IGNORED)
    peer.come(120)
    peer.stage.pass_by(1.0)
    peer.see()


def test_a_newcomer_sends_nothing_before_the_other_has_ceded_and_then_they_have_as_much_as_one_had(
    stage: Stage, path: Path
) -> None:
    old = busy(stage, path, 100)
    new = Peer(stage, path, limit=Untested(10, 1, 500))
    new.come(200)
    assert new.see() == 0
    old.renew()
    new.renew()
    assert old.limiter.limit == 50
    assert new.see() == 0, "what is ceded is still in use"
    drain(old)
    old.renew()
    new.renew()
    stage.pass_by(2.0)
    assert new.see() == 50
    assert len(old.held) == 50
    for peer in (old, new):
        peer.die()


def test_a_killed_ones_share_is_back_at_the_next_renewal(stage: Stage, path: Path) -> None:
    one = busy(stage, path, 60)
    two = Peer(stage, path, limit=Untested(10, 1, 500))
    two.come(300)
    for _ in range(4):
        one.renew()
        two.renew()
        drain(one)
    assert (one.limiter.limit, two.limiter.limit) == (30, 30)
    one.die()
    two.see()
    two.renew()
    assert two.limiter.limit == 60
    two.die()


def test_a_hung_ones_share_is_back_after_the_leases_time(stage: Stage, path: Path) -> None:
    one, two = Peer(stage, path, most=4), Peer(stage, path, most=4)
    two.come(9)
    one.renew()
    two.renew()
    one.come(9)
    one.renew()
    two.see()
    two.renew()
    two.give_back()
    two.give_back()
    two.renew()
    one.renew()
    two.renew()
    assert (one.see(), len(two.held)) == (2, 2)
    for _ in range(int(TTL_S)):
        assert two.see() == 0
        stage.advance(1.0)
        two.renew()
    assert two.see() == 2
    one.die()
    two.die()


def test_a_run_that_ends_gives_its_share_back_at_once(stage: Stage, path: Path) -> None:
    one = busy(stage, path, 60)
    two = Peer(stage, path, limit=Untested(10, 1, 500))
    two.come(300)
    for _ in range(4):
        one.renew()
        two.renew()
        drain(one)
    one.go_idle()
    one.leave()
    two.renew()
    two.see()
    assert two.limiter.limit == 60
    two.die()


def test_who_has_nothing_to_do_cedes_what_others_can_use(stage: Stage, path: Path) -> None:
    one = busy(stage, path, 60)
    two = Peer(stage, path, limit=Untested(10, 1, 500))
    two.come(300)
    one.go_idle()
    one.renew()
    two.renew()
    stage.pass_by(2.0)
    two.see()
    assert two.limiter.limit == 60
    one.come(200)
    one.renew()
    two.renew()
    one.renew()
    assert one.see() == 0
    drain(two)
    two.renew()
    one.renew()
    assert one.see() == pytest.approx(two.limiter.limit, abs=2) == pytest.approx(30, abs=2)
    one.die()
    two.die()


@pytest.mark.parametrize("ending", ["leaves", "dies"])
def test_what_a_process_sent_counts_for_the_rest_of_the_minute_however_it_ended(
    stage: Stage, path: Path, ending: str
) -> None:
    one = Peer(stage, path, per_minute=8)
    one.come(5)
    stage.pass_by(40.0, 1.0)
    assert one.see() == 5
    one.renew()
    one.go_idle()
    one.leave() if ending == "leaves" else one.die()
    two = Peer(stage, path, per_minute=8)
    two.come(20)
    two.renew()
    for _ in range(19):
        stage.advance(1.0)
        two.renew()
    assert two.see() <= 3
    for _ in range(61):
        stage.pass_by(1.0, 0.5)
        two.renew()
    two.see()
    for _ in range(60):
        stage.pass_by(1.0, 0.5)
        two.renew()
    assert 7 <= two.see() <= 8
    two.die()


def test_who_comes_after_a_killed_one_waits_for_no_more_than_it_had_sent(stage: Stage, path: Path) -> None:
    most, step_s, killed_s = 120, 0.25, 70.0
    one, two = Peer(stage, path, per_minute=most), None
    peer, sent = one, list[float]()
    peer.come(10)
    for turn in range(int(200 / step_s)):
        if turn == killed_s / step_s:  # it has used all of a minute
            one.die()
            peer = two = Peer(stage, path, per_minute=most)
            peer.come(10)
        stage.loop.now_s += step_s
        stage.settle()
        if turn % 4 == 0:
            peer.renew()
        went = peer.see()
        sent += [turn * step_s] * went
        while peer.held:
            peer.give_back()
        peer.come(went)
    assert two is not None
    assert max(sum(at <= other < at + 60 - step_s for other in sent) for at in sent) <= most
    assert min(at for at in sent if at > killed_s) <= killed_s + 2 * TTL_S + 1
    assert sum(killed_s < at <= killed_s + 60 for at in sent) >= 0.8 * most
    two.go_idle()
    two.leave()


def test_a_clock_that_is_set_back_does_not_keep_a_share_from_those_who_live(stage: Stage, path: Path) -> None:
    one = Peer(stage, path, per_minute=8)
    one.come(5)
    stage.pass_by(40.0, 1.0)
    one.see()
    one.go_idle()
    one.leave()
    clock.replace(stage.loop.time, lambda: stage.loop.now_s + 1.6e9)
    two = Peer(stage, path, per_minute=8)
    two.come(20)
    assert two.see() <= 3
    stage.advance(TTL_S + 61.0)
    two.renew()
    stage.pass_by(61.0, 1.0)
    assert two.see() >= 7
    two.die()


def test_of_a_limit_of_one_each_has_it_in_turn(stage: Stage, path: Path) -> None:
    peers = [Peer(stage, path, most=1), Peer(stage, path, most=1)]
    sent = [0, 0]
    for peer in peers:
        peer.come(100)
    for _ in range(45):
        for number, peer in enumerate(peers):
            sent[number] += peer.see()
            while peer.held:
                peer.give_back(Verdict.IGNORED)
            peer.renew()
        assert len(peers[0].held) + len(peers[1].held) <= 1
        stage.advance(1.0)
    assert min(sent) > 5
    for peer in peers:
        peer.die()


def test_other_models_and_accounts_share_nothing(stage: Stage, path: Path) -> None:
    one = Peer(stage, path, most=4)
    two = Peer(stage, path, most=4, key=b"another")
    one.come(9)
    two.come(9)
    assert (one.see(), two.see()) == (4, 4)
    one.die()
    two.die()


def test_a_locked_store_takes_nothing_away_before_the_lease_ends_and_then_leaves_a_tenth(
    stage: Stage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(stage, path, most=40)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        peer.renew()
        assert peer.limiter.limit == 40
        stage.advance(TTL_S + 1)
        peer.renew()
        assert peer.limiter.limit == 4
        assert "limits are not shared with other processes for now" in caplog.text
    peer.renew()
    assert peer.limiter.limit == 40
    peer.die()


def test_who_comes_while_the_store_is_locked_begins_with_a_tenth(stage: Stage, path: Path) -> None:
    Peer(stage, path, most=40).leave()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        peer = Peer(stage, path, most=40, joins=False)
        peer.shares.join(peer.leased)
        assert peer.limiter.limit == 4
    peer.renew()
    assert peer.limiter.limit == 40
    peer.die()


def test_neither_the_credential_nor_an_unkeyed_digest_of_it_is_stored(tmp_path: Path) -> None:
    keys = []
    for name in ("one.db", "two.db"):
        path = tmp_path / name
        prepare(path, busy_s=5).close()
        store = open_store(path)
        run = store.open_run("r", None)
        limiters = Limiters(AdaptiveConcurrency())
        end = sharing.begin(limiters, *run.place())  # type: ignore[attr-defined]
        call = recognise("POST", URL, {"authorization": f"Bearer {SECRET}"}, b'{"model":"m","messages":[]}')
        assert call is not None
        limiter = limiters.of(call.key)
        limiter.release(limiter.acquire(), Verdict.SUCCESS)
        with closing(sqlite3.connect(path)) as db:
            keys += db.execute("SELECT DISTINCT key FROM share").fetchall()
        end()
        run.close()
        store.close()
        common = whose(call.key)
        assert common is not None
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert SECRET.encode() not in content
        assert common not in content
        assert common[-64:] not in content
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(keys)) == 2, "each file has a key of its own"
    assert all(len(key) == 6 for (key,) in keys)


def test_a_run_remembers_what_it_learnt_and_starts_with_seven_tenths_of_it(
    stage: Stage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(path, busy_s=5).close()
    store = open_store(path)
    store.open_run("a run", None).close()
    first = Peer(stage, path, limit=learnt(100))
    first.come(1)
    first.see()
    first.give_back()
    first.leave()
    caplog.set_level("INFO", "cottonpalm")
    stage.advance(3600.0)
    again = Peer(stage, path, limit=Untested(10, 1, 500))
    assert again.limiter.limit == 70
    assert "starts with 70 in flight: 100 fitted before" in caplog.text
    bounded = Peer(stage, path, limit=Concurrency(10, 1, 20), key=KEY)
    assert bounded.limiter.limit <= 20
    for peer in (again, bounded):
        peer.die()
    store.close()


def test_while_a_second_one_takes_over_its_part_of_a_minute_no_more_and_hardly_less_is_sent(
    stage: Stage, path: Path
) -> None:
    most, step_s = 120, 0.25
    one = Peer(stage, path, per_minute=most)
    one.come(10)
    peers, sent = [one], list[float]()
    for turn in range(int(240 / step_s)):
        if turn == 90 / step_s:  # the first one has used all of a minute
            peers.append(Peer(stage, path, per_minute=most))
            peers[-1].come(10)
        stage.loop.now_s += step_s
        stage.settle()
        for peer in peers:
            if turn % 4 == 0:
                peer.renew()
            went = peer.see()
            sent += [stage.loop.now_s] * went
            while peer.held:
                peer.give_back()
            peer.come(went)
    begun = stage.loop.now_s - 240
    assert (
        max(sum(at <= other < at + 60 - step_s for other in sent) for at in sent) <= most
    )  # seen a step later
    for minute in range(90, 240, 30):
        assert sum(begun + minute - 30 < at <= begun + minute + 30 for at in sent) >= 0.85 * most, minute
    for peer in peers:
        peer.go_idle()
        peer.leave()


def test_who_must_share_and_cannot_is_refused(tmp_path: Path) -> None:
    gone = SqliteDatabase(tmp_path / "no folder" / "s.db")
    sharing.begin(Limiters(AdaptiveConcurrency()), gone, 1)()
    with pytest.raises(StoreError):
        sharing.begin(Limiters(AdaptiveConcurrency()), gone, 1, must=True)
