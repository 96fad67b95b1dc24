"""The answers in a file: who asks, who waits, what is kept; several of these stand for several processes."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import clock
from cottonpalm.engine.gates.cache import CacheGate, SharedCache
from cottonpalm.engine.gates.disk import DiskTier
from cottonpalm.engine.gates.entries import KnownAnswer
from cottonpalm.protocols import known
from cottonpalm.runtime import loop_shutdown
from cottonpalm.stores import database_of
from cottonpalm.stores.sql.answers import Answers
from cottonpalm.stores.sql.lease import BEAT_S
from cottonpalm.types import PARKED, Item, Outcome, Turn, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Eventually

pytestmark = pytest.mark.core
KEPT = KnownAnswer({"a": [1]}, 5.0, Usage(3, 4), 70, "m", truncated=True)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Answers]]:
    """Open the file, as each process does for itself."""
    made: list[Answers] = []

    def open_(**more: Any) -> Answers:
        made.append(Answers(database_of(str(tmp_path / "answers.db")), **more))
        return made[-1]

    yield open_
    for answers in made:
        answers.close()


def asked(answers: Answers, key: bytes, *, claim: bool = True) -> Any:
    """What a question comes to."""
    found, there = list[Any](), threading.Event()

    def reply(what: Any) -> None:
        found.append(what)
        there.set()

    answers.ask(key, lambda kept: kept.body, reply, claim=claim)
    assert there.wait(20)
    return found[0]


def watched(answers: Answers, key: bytes) -> list[Any]:
    """What is heard of a question, in the end."""
    heard = list[Any]()
    answers.watch(key, lambda kept: kept.body, heard.append)
    return heard


def test_a_question_is_asked_by_one_and_the_others_hear_its_answer(
    opened: Callable[..., Answers], eventually: Eventually
) -> None:
    one, other = opened(), opened()
    assert (asked(one, b"k"), asked(other, b"k")) == (Turn.MINE, Turn.ELSEWHERE)
    assert asked(one, b"k") is Turn.MINE, "its own claim"
    assert asked(other, b"k", claim=False) is Turn.MINE, "who does not claim does not wait"
    heard = watched(other, b"k")
    other.present([])  # it has looked who asks
    other.release(key=b"k")  # which it does not have
    assert asked(other, b"k") is Turn.ELSEWHERE
    one.put(b"k", b"yes", clock.wall())
    eventually(lambda: heard)
    assert heard == [b"yes"]
    assert asked(other, b"k") == b"yes"
    assert other.present([b"k", b"none"]) == {b"k"}


def test_a_claim_ends_with_its_answer(opened: Callable[..., Answers], tmp_path: Path) -> None:
    answers = opened()
    assert asked(answers, b"k") is Turn.MINE
    with closing(sqlite3.connect(tmp_path / "answers.db")) as db:
        assert db.execute("SELECT count(*) FROM claim").fetchone() == (1,)
        answers.put(b"k", b"yes", clock.wall())
        answers.present([])
        assert db.execute("SELECT count(*) FROM claim").fetchone() == (0,)


def test_a_question_that_is_given_back_is_the_next_ones(
    opened: Callable[..., Answers], eventually: Eventually
) -> None:
    one, other = opened(), opened()
    assert asked(one, b"k") is Turn.MINE
    heard = watched(other, b"k")
    one.release(b"k")
    eventually(lambda: heard)
    assert heard == [None]
    assert asked(other, b"k") is Turn.MINE


def test_what_is_closed_has_written_its_answers_and_asks_nothing_any_more(
    opened: Callable[..., Answers], tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    one, other = opened(), opened()
    assert (asked(one, b"a"), asked(one, b"b")) == (Turn.MINE, Turn.MINE)
    one.put(b"a", b"yes", clock.wall())
    one.close()
    with closing(sqlite3.connect(tmp_path / "answers.db")) as db:
        assert db.execute("SELECT count(*) FROM claim").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM lease").fetchone() == (1,), "that of the other"
    assert asked(other, b"a") == b"yes"
    assert asked(other, b"b") is Turn.MINE
    begun = set(threading.enumerate()) - before
    assert len([thread for thread in begun if thread.name == "cottonpalm-cache"]) <= 1, "that of the other"


def test_an_answer_is_too_old_for_whoever_wants_younger_ones_and_for_its_writers_word(
    opened: Callable[..., Answers],
) -> None:
    now = clock.wall()
    lasting, hasty = opened(), opened(ttl_s=100.0)
    lasting.put(b"old", b"yes", now - 101)
    lasting.put(b"young", b"yes", now)
    hasty.put(b"timed", b"yes", now)
    hasty.present([])
    lasting.put(b"other", b"yes", now)
    assert lasting.present([b"old", b"young", b"timed"]) == {b"old", b"young", b"timed"}
    assert hasty.present([b"old", b"young", b"timed"]) == {b"young", b"timed"}
    assert asked(hasty, b"old", claim=False) is Turn.MINE
    assert lasting.present([b"old"]) == set(), "too old for one that has looked: it is deleted"
    hasty.put(b"over", b"yes", now - 100)
    hasty.present([])
    assert lasting.present([b"over"]) == set()
    assert asked(lasting, b"over", claim=False) is Turn.MINE


def test_a_record_that_cannot_be_read_is_as_good_as_none(opened: Callable[..., Answers]) -> None:
    answers, found, there = opened(), list[Any](), threading.Event()
    answers.put(b"k", b"spoilt", clock.wall())

    def read(_: Any) -> Any:
        raise ValueError("spoilt")

    answers.ask(b"k", read, lambda what: (found.append(what), there.set()), claim=True)  # type: ignore[func-returns-value]
    assert there.wait(20)
    assert found == [Turn.MINE]
    assert answers.present([b"k"]) == set()


def test_whoever_opens_the_file_sweeps_out_what_is_too_old(
    opened: Callable[..., Answers], tmp_path: Path
) -> None:
    first = opened(ttl_s=10.0)
    first.put(b"old", b"yes", clock.wall() - 60)
    first.put(b"young", b"yes", clock.wall())
    first.close()
    opened()
    with closing(sqlite3.connect(tmp_path / "answers.db")) as db:
        assert [key for (key,) in db.execute("SELECT key FROM answer")] == [b"young"]


def test_a_holder_shows_every_quarter_of_a_minute_that_it_lives(
    opened: Callable[..., Answers], tmp_path: Path
) -> None:
    began = clock.now()
    clock.replace(now_=lambda: began, wall_=lambda: 1e9)
    try:
        answers = opened()

        def beat_at(later_s: float) -> float:
            clock.replace(now_=lambda: began + later_s, wall_=lambda: 1e9 + later_s)
            answers.present([])
            with closing(sqlite3.connect(tmp_path / "answers.db")) as db:
                [(beat,)] = db.execute("SELECT beat FROM lease").fetchall()
            return float(beat)

        assert [beat_at(later) - 1e9 for later in (BEAT_S, BEAT_S + 1, BEAT_S + 9, 2 * BEAT_S + 2)] == [
            0.0,
            BEAT_S + 1,
            BEAT_S + 1,
            2 * BEAT_S + 2,
        ]
    finally:
        clock.replace()


# -- one chain's answers, on a loop


def tier(answers: Answers, chain: bytes = b"chain", **more: Any) -> DiskTier:
    return DiskTier(answers, chain, {}, **more)


def test_an_answer_comes_back_with_all_that_is_known_of_it_to_its_own_chain_alone(
    opened: Callable[..., Answers],
) -> None:
    answers = opened()

    async def main() -> None:
        assert await tier(answers).ask(b"q") is Turn.MINE
        tier(answers).put(b"q", KEPT)
        assert await tier(answers).ask(b"q") == KEPT
        assert await tier(answers, b"other").ask(b"q") is Turn.MINE

    asyncio.run(main())


def test_an_answer_that_would_come_back_changed_is_not_kept_and_its_question_is_given_back(
    opened: Callable[..., Answers],
) -> None:
    one, other = opened(), opened()

    async def main() -> None:
        assert await tier(one).ask(b"q") is Turn.MINE
        tier(one).put(b"q", KEPT._replace(output={1, object()}))
        one.present([])
        assert await tier(other).ask(b"q") is Turn.MINE

    asyncio.run(main())


def test_a_tier_without_claims_holds_nobody_up_and_gives_nothing_of_others_back(
    opened: Callable[..., Answers],
) -> None:
    one, other = opened(), opened()

    async def main() -> None:
        quiet = tier(one, claims=False)
        assert await quiet.ask(b"q") is Turn.MINE
        assert await tier(other).ask(b"q") is Turn.MINE, "it was not claimed"
        assert await tier(one).ask(b"p") is Turn.MINE
        quiet.release(b"p")
        one.present([])
        assert await tier(other).ask(b"p") is Turn.ELSEWHERE

    asyncio.run(main())


def test_a_row_that_asks_without_a_claim_and_is_cancelled_gives_back_no_claim_of_its_own_process(
    opened: Callable[..., Answers],
) -> None:
    one, other = opened(), opened()

    async def main() -> None:
        assert await tier(one).ask(b"q") is Turn.MINE
        asking = asyncio.ensure_future(tier(one, claims=False).ask(b"q"))
        await asyncio.sleep(0)
        one.present([])
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(0)
        one.present([])
        assert await tier(other).ask(b"q") is Turn.ELSEWHERE

    asyncio.run(main())


@pytest.mark.parametrize("when", ["before the answer", "on its way", "there, but not taken"])
def test_a_row_that_is_cancelled_while_it_asks_gives_its_question_back(
    opened: Callable[..., Answers], when: str
) -> None:
    one, other = opened(), opened()

    async def main() -> None:
        asking = asyncio.ensure_future(tier(one).ask(b"q"))
        await asyncio.sleep(0)
        if when != "before the answer":
            one.present([])  # the answer is in this loop's queue now
        if when == "there, but not taken":
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        one.present([])
        await asyncio.sleep(0)
        one.present([])
        assert await tier(other).ask(b"q") is Turn.MINE

    asyncio.run(main())


def test_a_loop_that_is_closed_before_it_took_the_answer_gives_the_question_back(
    opened: Callable[..., Answers],
) -> None:
    one, other = opened(), opened()
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        asking = asyncio.ensure_future(tier(one).ask(b"q"))
        await asyncio.sleep(0)
        one.present([])  # its answer is in the loop's queue now, and stays there
        return asking

    asking = loop.run_until_complete(begin())
    loop.close()
    loop_shutdown.end(asking)
    one.present([])
    assert asked(other, b"chainq") is Turn.MINE


# -- the gate that asks there


def gate(answers: Answers, unparked: list[Item]) -> CacheGate:
    """As in a process of its own."""
    memory = SharedCache(9, disk=answers)
    return CacheGate(memory, b"memory", unparked.append, disk=tier(answers))


def item(index: int) -> Item:
    return Item(index, "row", question=b"q")


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_a_row_that_another_process_asks_waits_for_its_answer_or_asks_after_its_failure(
    opened: Callable[..., Answers], status: Any
) -> None:
    async def main() -> None:
        unparked, first, second, third = list[Item](), item(0), item(1), item(2)
        here, there = gate(opened(), []), gate(opened(), unparked)
        assert await known(here.admit(first)) is None
        assert await known(there.admit(second)) is PARKED
        assert await known(there.admit(third)) is PARKED, "it waits for the second"
        assert (here.counts.misses, there.counts.misses) == (1, 0)
        here.settle(first, Outcome(0, status, "yes"))
        while len(unparked) < (2 if status == "ok" else 1):
            await asyncio.sleep(0.001)
        found = await known(there.admit(unparked[0]))
        assert isinstance(found, Outcome) if status == "ok" else found is None
        assert (there.counts.hits, there.counts.misses) == ((1, 0) if status == "ok" else (0, 1))

    asyncio.run(main())


def test_an_answer_that_is_on_disk_serves_all_that_wait_here(opened: Callable[..., Answers]) -> None:
    async def main() -> None:
        written, told, unparked = opened(), list[Any](), list[Item]()
        tier(written).put(b"q", KEPT)
        written.present([])
        memory = SharedCache(9, disk=written)
        asks = CacheGate(memory, b"memory", unparked.append, disk=tier(written), tell=told.append)
        first, second = item(0), item(1)
        asking = asyncio.ensure_future(known(asks.admit(first)))
        await asyncio.sleep(0)
        assert asks.admit(second) is PARKED
        found = await asking
        assert isinstance(found, Outcome)
        assert (found.output, unparked) == ({"a": [1]}, [second])
        assert [hit.source for hit in told] == ["disk"]
        assert isinstance(asks.admit(item(2)), Outcome), "now it is in memory"

    asyncio.run(main())


def test_a_row_that_is_cancelled_at_the_disk_leaves_its_question_to_who_waits_here(
    opened: Callable[..., Answers],
) -> None:
    async def main() -> None:
        unparked = list[Item]()
        asks = gate(opened(), unparked)
        first, second = item(0), item(1)
        asking = asyncio.ensure_future(known(asks.admit(first)))
        await asyncio.sleep(0)
        assert asks.admit(second) is PARKED
        asking.cancel()
        await asyncio.wait([asking])
        assert (asking.cancelled(), unparked) == (True, [second])
        assert await known(asks.admit(second)) is None

    asyncio.run(main())


@pytest.mark.parametrize("last", ["an answer", "a question"])
def test_a_file_that_nobody_uses_any_more_is_closed_whatever_was_asked_last(
    tmp_path: Path, eventually: Eventually, last: str
) -> None:
    before = set(threading.enumerate())

    async def main() -> None:
        asks = tier(Answers(database_of(str(tmp_path / "answers.db"))))
        assert await asks.ask(b"q") is Turn.MINE
        asks.put(b"q", KEPT)
        if last == "a question":
            assert await asks.ask(b"q") == KEPT

    asyncio.run(main())

    def closed() -> bool:
        gc.collect()
        return not [thread for thread in set(threading.enumerate()) - before if "cache" in thread.name]

    eventually(closed)
