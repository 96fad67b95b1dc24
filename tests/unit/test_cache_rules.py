"""The cache's parts one by one: what is kept how long, who asks and who waits, what is counted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel, ConfigDict, PrivateAttr

from cottonpalm import clock
from cottonpalm.engine.gates.cache import OPT_OUT, CacheGate, SharedCache
from cottonpalm.engine.gates.checkpoint import CheckpointGate
from cottonpalm.engine.gates.entries import AnswerShelf, KnownAnswer, answer_of, own
from cottonpalm.engine.gates.singleflight import SingleFlight
from cottonpalm.events import CacheHit
from cottonpalm.stores.codec.equality import same
from cottonpalm.stores.codec.records import pack
from cottonpalm.testing import virtual_run
from cottonpalm.types import PARKED, Item, Outcome, Usage


class Text(str):
    """A text that adds nothing, as LangChain's texts do not."""

    __slots__ = ()


class Noted(str):
    """A text that can be changed after all."""

    notes: list[str]


ANSWER = KnownAnswer("yes", 0.0, Usage(3, 4), 500, "m", truncated=True)


# -- the shelf


def test_an_answer_is_too_old_from_its_ttl_on() -> None:
    async def main() -> None:
        shelf, now = AnswerShelf(9, ttl_s=10.0), clock.wall()
        shelf.answers.update({b"old": KnownAnswer(1, now - 10.0), b"young": KnownAnswer(2, now - 9.5)})
        assert [key in shelf for key in (b"old", b"young", b"none")] == [False, True, False]
        assert shelf.find(b"old") is None
        assert list(shelf.answers) == [b"young"], "what is too old is dropped when it is looked for"
        found = shelf.find(b"young")
        assert found is not None
        assert found.output == 2
        assert AnswerShelf(9).is_fresh(0.0), "without a ttl nothing is too old"

    virtual_run(main())


def test_the_least_recently_used_goes_first_whether_one_comes_or_the_room_shrinks() -> None:
    shelf = AnswerShelf(3)
    flights = SingleFlight(shelf)
    run = Run()
    for key in (b"a", b"b", b"c"):
        assert flights.ask(key, run, row()) is None
        flights.answered(key, ANSWER)
    assert flights.ask(b"a", run, row()) is ANSWER
    assert flights.ask(b"d", run, row()) is None
    flights.answered(b"d", ANSWER)
    assert list(shelf.answers) == [b"c", b"a", b"d"]
    shelf.resize(1)
    assert (list(shelf.answers), len(shelf), shelf.max_entries) == ([b"d"], 1, 1)


class Word(BaseModel):
    text: str
    seen: list[int] = []
    inner: Word | None = None


class Secret(Word):
    _hidden: list[int] = PrivateAttr(default_factory=list)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


NESTED = Word(text="a", seen=[1], inner=Word(text="b", seen=[2]))
LOOP: list[Any] = [[1]]
LOOP.append(LOOP)


def parts(value: Any, seen: set[int] | None = None) -> list[Any]:
    """All that can be changed in a value."""
    seen = set() if seen is None else seen
    if id(value) in seen or not isinstance(value, list | dict | set | BaseModel):
        return []
    seen.add(id(value))
    inside = value.__getstate__().values() if isinstance(value, BaseModel) else value
    inside = value.values() if isinstance(value, dict) else inside
    return [value, *(found for part in inside for found in parts(part, seen))]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, {"b": [None, 2.5, True]}], "c": {}},
        [[[[[[[["deep"]]]]]]]],
        {(1, 2): {3}},
        NESTED,
        [NESTED, {"x": NESTED}],
        Secret(text="a"),
        Open(more=[1]),  # type: ignore[call-arg]
        AIMessage("hi", response_metadata={"a": [1]}),
    ],
    ids=repr,
)
def test_a_copy_is_equal_of_the_same_type_and_shares_nothing_that_can_be_changed(value: Any) -> None:
    copied = own(value)
    assert same(copied, value)
    if isinstance(value, BaseModel):
        assert copied.model_fields_set == value.model_fields_set
    theirs = {id(part) for part in parts(value)}
    assert len(parts(copied)) == len(parts(value)) or type(value) is list
    assert not [part for part in parts(copied) if id(part) in theirs]


def test_what_holds_itself_is_copied_too() -> None:
    copied = own(LOOP)
    assert copied is not LOOP
    assert copied[0] is not LOOP[0]
    assert copied[1][1][0] == [1]


def test_each_row_gets_a_copy_of_its_own_where_there_can_be_one() -> None:
    class Alone:
        def __deepcopy__(self, _: Any) -> Any:
            raise TypeError("no copies")

    first, alone = ["a", ["b"]], Alone()
    kept = answer_of(Outcome(0, "ok", first, usage=Usage(1), cost_pico=7, model="m", truncated=True), 5.0)
    first[1].append("changed later")  # type: ignore[attr-defined]
    assert kept == KnownAnswer(["a", ["b"]], 5.0, Usage(1), 7, "m", truncated=True)
    given = kept.for_row(3)
    given.output.clear()
    assert kept.for_row(4).output == ["a", ["b"]]
    assert (given.index, given.status, given.cost_pico, given.cached) == (3, "ok", 0, True)
    assert (given.model, given.truncated) == ("m", True)
    assert own(alone) is alone
    text = Text("yes")
    assert own(text) is text, "nothing of it can be changed"
    assert own(Noted("yes")) is not None
    noted = Noted("yes")
    noted.notes = ["a"]
    assert own(noted).notes is not noted.notes
    plain = KnownAnswer("yes", 0.0)
    assert (plain.truncated, plain.cost_usd, ANSWER.cost_usd) == (False, None, 5e-10)


# -- who asks


class Run:
    """A run whose rows wait: what it was told."""

    def __init__(self) -> None:
        self.served: list[int] = []
        self.again: list[int] = []

    def serve(self, items: list[Item], answer: KnownAnswer) -> None:
        assert answer is ANSWER
        self.served += [item.index for item in items]

    def try_again(self, item: Item) -> None:
        self.again.append(item.index)


def row(index: int = 0, question: bytes = b"q", **more: Any) -> Item:
    return Item(index, "row", question=question, **more)


def test_all_that_wait_for_an_answer_are_served_once_and_later_ones_find_it() -> None:
    flights, one, other = SingleFlight(AnswerShelf(9)), Run(), Run()
    assert flights.ask(b"k", one, row(0)) is None
    assert [flights.ask(b"k", run, row(n)) for n, run in ((1, one), (2, other), (3, one))] == [PARKED] * 3
    flights.wait(b"k", other, row(4))
    flights.answered(b"k", ANSWER)
    assert (one.served, other.served) == ([1, 3], [4, 2])
    assert flights.ask(b"k", one, row(5)) is ANSWER


def test_a_failure_nobody_waits_for_leaves_the_question_to_the_next_that_comes() -> None:
    flights, run = SingleFlight(AnswerShelf(9)), Run()
    for _ in range(2):
        assert flights.ask(b"k", run, row()) is None
        flights.failed(b"k")
    assert run.again == []


def test_after_a_failure_one_row_of_each_run_is_let_in_and_the_first_to_arrive_asks() -> None:
    flights, one, other = SingleFlight(AnswerShelf(9)), Run(), Run()
    assert flights.ask(b"k", one, row(0)) is None
    for n, run in ((1, one), (2, one), (3, other)):
        assert flights.ask(b"k", run, row(n)) is PARKED
    flights.failed(b"k")
    assert (one.again, other.again) == ([1], [3])
    assert flights.ask(b"k", other, row(3)) is None
    assert flights.ask(b"k", one, row(1)) is PARKED
    flights.answered(b"k", ANSWER)
    assert (one.served, other.served) == ([2, 1], [])


def test_a_row_that_waits_for_another_process_goes_before_those_that_wait_for_it() -> None:
    """It may have its answer in a batch, which they have not."""
    flights, run = SingleFlight(AnswerShelf(9)), Run()
    assert [flights.ask(b"k", run, row(n)) for n in (0, 1)] == [None, PARKED]
    flights.wait(b"k", run, row(0))
    flights.failed(b"k")
    assert run.again == [0]


def test_a_question_whose_last_waiting_rows_were_let_in_is_asked_by_whoever_comes() -> None:
    flights, run = SingleFlight(AnswerShelf(9)), Run()
    assert flights.ask(b"k", run, row(0)) is None
    assert flights.ask(b"k", run, row(1)) is PARKED
    flights.failed(b"k")
    assert run.again == [1]
    assert flights.ask(b"k", run, row(2)) is None
    assert flights.ask(b"k", run, row(1)) is PARKED


def test_a_run_that_leaves_waits_for_nothing_any_more_and_takes_no_question_from_its_asker() -> None:
    flights, leaves, stays = SingleFlight(AnswerShelf(9)), Run(), Run()
    for key in (b"asked", b"alone", b"both"):
        assert flights.ask(key, stays, row(0)) is None
    for key, run in ((b"asked", leaves), (b"both", leaves), (b"both", stays), (b"both", leaves)):
        assert flights.ask(key, run, row(1)) is PARKED
    flights.failed(b"both")  # one of each was let in; one of the run that leaves still waits
    flights.leave(leaves)
    assert flights.ask(b"asked", stays, row(2)) is PARKED, "it is asked still"
    flights.answered(b"asked", ANSWER)
    flights.answered(b"alone", ANSWER)
    assert flights.ask(b"both", stays, row(1)) is None, "nobody asks it, nobody waits for it"
    assert (leaves.served, stays.served) == ([], [2])


# -- the gate


def gate(memory: SharedCache, unparked: list[Item], **more: Any) -> CacheGate:
    return CacheGate(memory, b"chain", unparked.append, **more)


def test_a_good_answer_is_kept_and_given_and_what_it_saved_is_counted_and_told() -> None:
    async def main() -> None:
        told: list[Any] = []
        memory, unparked = SharedCache(9), list[Item]()
        asks = gate(memory, unparked, tell=told.append)
        first, second = row(0), row(1)
        assert asks.admit(first) is None
        assert asks.admit(second) is PARKED
        asks.settle(first, Outcome(0, "ok", "yes", usage=Usage(3, 4), cost_pico=500))
        assert unparked == [second]
        served, later = asks.admit(second), asks.admit(row(2))
        assert isinstance(served, Outcome)
        assert isinstance(later, Outcome)
        assert (served.index, served.output, later.index) == (1, "yes", 2)
        counts = asks.counts
        assert (counts.hits, counts.coalesced, counts.misses, counts.saved_usd) == (
            2,
            1,
            1,
            pytest.approx(1e-9),
        )
        assert [(hit.index, hit.source, hit.saved_usd) for hit in told if isinstance(hit, CacheHit)] == [
            (1, "flight", 5e-10),
            (2, "memory", 5e-10),
        ]
        assert (len(memory), b"chain" + b"q" in memory, b"q" in memory) == (1, True, False)
        assert memory.shelf.answers[b"chainq"].born == 0.0, "without a ttl nobody asks when it came"

    asyncio.run(main())


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_what_is_no_answer_is_not_kept_and_settled_once(status: Any) -> None:
    async def main() -> None:
        unparked = list[Item]()
        asks = gate(SharedCache(9), unparked)
        first, second, third = row(0), row(1), row(2)
        assert [asks.admit(item) for item in (first, second, third)] == [None, PARKED, PARKED]
        asks.settle(first, Outcome(0, status))
        asks.settle(first, Outcome(0, status))
        assert unparked == [second], "only one is let in, though the first was settled twice"
        assert asks.admit(second) is None
        asks.settle(second, PARKED)
        assert unparked == [second, third]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("metadata", "out"), [({OPT_OUT: False}, True), ({OPT_OUT: True}, False), ({}, False)]
)
def test_a_row_stays_out_only_where_its_config_says_so(metadata: dict[str, Any], out: bool) -> None:
    async def main() -> None:
        memory = SharedCache(9)
        asks = gate(memory, [])
        item = row(0, config={"metadata": metadata})
        assert asks.admit(item) is None
        asks.settle(item, Outcome(0, "ok", "yes"))
        assert (len(memory), asks.counts.misses) == ((0, 0) if out else (1, 1))

    asyncio.run(main())


def test_the_counts_of_all_runs_add_up_while_they_go_and_afterwards() -> None:
    async def main() -> None:
        memory = SharedCache(9)
        one, other = gate(memory, []), gate(memory, [])
        for asks, question in ((one, b"a"), (other, b"b")):
            item = row(0, question)
            assert asks.admit(item) is None
            asks.settle(item, Outcome(0, "ok", "yes"))
            for index in (1, 2):
                assert isinstance(asks.admit(row(index, question)), Outcome)
        assert (memory.hits, memory.misses) == (4, 2)
        one.close()
        one.close()
        assert (memory.hits, memory.misses) == (4, 2), "a run that is over still counts, once"
        assert isinstance(other.admit(row(3, b"b")), Outcome)
        other.close()
        assert (memory.hits, memory.misses) == (5, 2)

    asyncio.run(main())


@pytest.mark.parametrize("answered", [True, False])
def test_rows_of_a_run_that_is_over_are_neither_served_nor_let_in_by_those_of_another(answered: bool) -> None:
    async def main() -> None:
        memory, theirs, mine = SharedCache(9), list[Item](), list[Item]()
        asks, leaves = gate(memory, mine), gate(memory, theirs)
        first, waits, other = row(0), row(1), row(2)
        assert asks.admit(first) is None
        assert leaves.admit(waits) is PARKED
        assert asks.admit(other) is PARKED
        leaves.close()
        asks.settle(first, Outcome(0, "ok", "yes") if answered else Outcome(0, "failed"))
        assert theirs == []
        assert waits.answer is None
        assert mine == [other]

    asyncio.run(main())


def test_a_gate_that_shares_with_nobody_still_waits_for_its_own_rows() -> None:
    async def main() -> None:
        memory = SharedCache(9)
        shared, alone = gate(memory, []), gate(memory, [], shared=False)
        assert shared.admit(row(0)) is None
        assert alone.admit(row(0)) is None, "it does not wait for the other run"
        assert alone.admit(row(1)) is PARKED

    asyncio.run(main())


def test_rows_that_wait_on_another_loop_are_let_in_on_their_own() -> None:
    async def main() -> None:
        memory, where = SharedCache(9), list[int]()
        waits = CacheGate(memory, b"chain", lambda _: where.append(threading.get_ident()))
        first = row(0)

        async def elsewhere() -> None:
            asks = gate(memory, [])
            assert asks.admit(first) is None
            taken.set()
            asked.wait(20)
            asks.settle(first, Outcome(0, "ok", "yes"))

        taken, asked = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await asyncio.to_thread(taken.wait, 20)
        assert waits.admit(row(1)) is PARKED
        asked.set()
        await asyncio.to_thread(thread.join)
        while not where:
            await asyncio.sleep(0)
        assert where == [threading.get_ident()]

    asyncio.run(main())


# -- the gate of what is stored


def test_a_stored_row_is_answered_as_it_was_and_holds_what_it_is_now() -> None:
    gate = CheckpointGate({})
    record = pack(Outcome(3, "ok", "yes", id="old", input="old", cost_pico=7), keep_input=True, types={})
    outcome = gate.admit(Item(5, "new", id="now", stored=record))
    assert isinstance(outcome, Outcome)
    assert (outcome.index, outcome.status, outcome.output, outcome.cost_pico) == (5, "ok", "yes", 7)
    assert (outcome.id, outcome.input, outcome.stored) == ("now", "new", True)
    assert gate.admit(Item(5, "new")) is None
