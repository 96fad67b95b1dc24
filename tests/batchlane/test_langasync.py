"""HybridBatchProcessor through langasync: where it can carry a chain, and kept from what it does wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import HybridBatchProcessor, clock
from cottonpalm.errors import CottonpalmError
from cottonpalm.presets import by_langasync
from cottonpalm.types import PICO
from tests.batchlane.chains import PROMPT, two_steps
from tests.batchlane.kit import anthropic, lane, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

pytestmark = pytest.mark.skipif(not by_langasync.INSTALLED, reason="langasync is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO, "cottonpalm")
    return tmp_path / "cottonpalm"


def hybrid(chain: Any, server: BatchProvider) -> HybridBatchProcessor:
    return HybridBatchProcessor(chain, lane=lane(server))


def by_whom(server: BatchProvider) -> set[str]:
    """langasync numbers its lines; ours bear a tag."""
    ids = {row.custom_id for job in server.jobs.values() for row in job.rows}
    return {"langasync" if id_.isdigit() else "ours" for id_ in ids}


def test_the_documents_listing_goes_through_langasync_and_gives_what_live_gives(
    server: BatchProvider, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = simple(server)
    wanted = live(chain).batch(rows(12))
    server.bills.clear()
    caplog.clear()
    processor = hybrid(chain, server)
    assert processor.langasync_available
    assert processor.batch(rows(12), use_batch_api=True) == wanted
    assert not [record for record in caplog.records if record.levelno > logging.INFO], "nothing to warn of"
    assert (by_whom(server), Counter(bill.lane for bill in server.bills)) == ({"langasync"}, {"batch": 12})
    assert not list(cache.glob("hybrid-*"))


def test_what_it_cost_is_told_to_the_token_whoever_carried_the_rows(server: BatchProvider) -> None:
    """gpt-4o-mini costs 0.15 and 0.60 dollars a million tokens, half of that in a batch."""
    prices = {"gpt-4o-mini": (150_000, 600_000)}
    chain = PROMPT | openai(server, "gpt-4o-mini") | StrOutputParser()
    server.script = lambda number, _: Faults(missing=frozenset({1, 4})) if not server.jobs else Faults()
    processor = hybrid(chain, server)
    processor.batch(rows(8), use_batch_api=True)
    assert by_whom(server) == {"langasync", "ours"}
    assert processor.cost_usd is not None
    assert round(processor.cost_usd * PICO) == server.charged(prices)
    server.bills.clear()
    processor.batch(rows(3))
    assert round(processor.cost_usd * PICO) == server.charged(prices)


class Fails(StrOutputParser):
    """Does not take the answer of row 2."""

    def parse(self, text: str) -> str:
        if "row 2" in text:
            raise KeyError(text)
        return text


def test_an_answer_that_no_parser_takes_raises_what_live_raises_and_the_batch_is_kept_for_the_next_call(
    server: BatchProvider, cache: Path
) -> None:
    """The next call asks that row anew, and no other; where its parser was mended, none."""
    chain = PROMPT | openai(server) | Fails()
    wanted = live(mended := simple(server)).batch(rows(6))
    server.bills.clear()
    server.script = lambda number, _: Faults(missing=frozenset({1, 4})) if not server.jobs else Faults()
    with pytest.raises(KeyError, match="row 2") as raised:
        hybrid(chain, server).batch(rows(6), use_batch_api=True)
    assert "row 3 (index 2) of 6 rows" in raised.value.__notes__[0]
    assert (by_whom(server), len(server.bills)) == ({"langasync", "ours"}, 6)
    with pytest.raises(KeyError, match="row 2"):
        hybrid(chain, server).batch(rows(6), use_batch_api=True)
    assert [text for (_, text), _ in server.paid_twice().items()] == ["About: row 2"]
    processor = hybrid(mended, server)
    assert processor.batch(rows(6), use_batch_api=True) == wanted
    assert not list(cache.glob("hybrid-*"))


@pytest.mark.parametrize(
    "faults",
    [
        {"missing": frozenset({1, 4})},
        {"expire": 0.5},
        {"broken": frozenset({0})},
        {"twice": frozenset({2}), "shuffle": 7},
        {"gone": True},
    ],
)
def test_what_it_would_lose_or_mix_up_comes_back_right_and_only_the_rest_is_asked_again(
    server: BatchProvider, faults: dict[str, Any]
) -> None:
    chain, made = simple(server), Faults(**faults)
    wanted = live(chain).batch(rows(8))
    server.bills.clear()
    server.script = lambda number, _: made if not server.jobs else Faults()
    assert hybrid(chain, server).batch(rows(8), use_batch_api=True) == wanted
    assert len(server.paid_twice()) == (8 if "gone" in faults else 0)


def test_a_call_that_was_left_goes_on_with_the_same_batch(server: BatchProvider) -> None:
    chain = simple(server)
    server.weather.reads = [0, *[500] * 10_000]
    with pytest.raises(CottonpalmError, match="the same call again goes on with it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    server.weather.reads = []
    assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_a_batch_that_cannot_be_looked_at_or_found_for_a_moment_is_waited_for(server: BatchProvider) -> None:
    """A wait of a day meets with that; it ended the call, or had all rows paid again."""
    server.weather.reads = [0, 500, 404, 429, 503]
    assert len(hybrid(simple(server), server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (1, {})


@pytest.mark.parametrize("ahead_s", [0.0, -60.0])
def test_a_batch_whose_making_was_not_answered_is_found_again_whatever_the_providers_clock_says(
    server: BatchProvider, ahead_s: float
) -> None:
    chain = simple(server)
    server.ahead_s = ahead_s
    server.script = lambda number, _: Faults(lose="after" if not server.jobs else None)
    with pytest.raises(CottonpalmError, match="looks for it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_it_is_found_behind_hundreds_that_others_made_meanwhile(server: BatchProvider) -> None:
    """Only the newest hundred were looked at: the batch was taken for one that was never made, and paid again."""
    chain = simple(server)
    server.script = lambda number, _: Faults(lose="after" if not server.jobs else None)
    with pytest.raises(CottonpalmError, match="looks for it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    [made] = server.jobs.values()
    for number in range(250):
        server.make(f"other-{number}", made.api, made.path, made.account, made.rows[:1])
    assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (251, {})


@pytest.mark.parametrize("lose", [None, "after"])
def test_a_batch_that_was_made_with_another_key_is_not_paid_again_by_this_one(
    server: BatchProvider, lose: Any
) -> None:
    """Another account's key does not see it: it was taken for gone, or for never made."""
    chain = simple(server)
    server.script = lambda number, _: Faults(lose=lose)
    server.weather.reads = [] if lose else [0, *[500] * 10_000]
    with pytest.raises(CottonpalmError, match="same call again"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    server.weather.reads = []
    other = PROMPT | openai(server, api_key="sk-other") | StrOutputParser()
    with pytest.raises(CottonpalmError, match="made with another one"):
        hybrid(other, server).batch(rows(5), use_batch_api=True)
    assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_a_list_of_batches_that_fails_for_a_moment_is_asked_for_again(server: BatchProvider) -> None:
    """The call ended with the bare error of the client; one that had looked in vain for longer says what to do."""
    chain = simple(server)
    server.script = lambda number, _: Faults(lose="after" if not server.jobs else None)
    with pytest.raises(CottonpalmError, match="looks for it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    for status in (503, 404):
        server.weather.reads = [status] * 10_000
        with pytest.raises(
            CottonpalmError, match=r"(?s)the list of batches could not be looked at.*same call again"
        ):
            hybrid(chain, server).batch(rows(5), use_batch_api=True)
    server.weather.reads = [503, 404, 429]
    assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_a_clock_that_was_set_back_does_not_hold_up_the_search_for_a_batch_that_was_never_made(
    server: BatchProvider,
) -> None:
    chain = simple(server)
    server.script = lambda number, _: Faults(lose="before")
    with pytest.raises(CottonpalmError, match="looks for it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    server.script = None
    back = clock.wall() - 3_600
    clock.replace(wall_=lambda: back)
    try:
        assert len(hybrid(chain, server).batch(rows(5), use_batch_api=True)) == 5
    finally:
        clock.replace()
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_a_batch_of_somebody_else_with_as_many_rows_is_not_taken_for_the_one_whose_making_was_not_answered(
    server: BatchProvider,
) -> None:
    chain, other = simple(server), PROMPT | openai(server, model="gpt-other") | StrOutputParser()
    wanted = live(chain).batch(rows(5))
    server.bills.clear()
    server.script = lambda number, _: Faults(lose="before")
    with pytest.raises(CottonpalmError, match="looks for it"):
        hybrid(chain, server).batch(rows(5), use_batch_api=True)
    server.script = None
    hybrid(other, server).batch([{"text": f"other {number}"} for number in range(5)], use_batch_api=True)
    assert hybrid(chain, server).batch(rows(5), use_batch_api=True) == wanted
    assert (len(server.jobs), server.paid_twice()) == (2, {})


def test_the_same_call_in_another_process_is_refused_as_long_as_the_first_one_waits(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Begun before the first has written down its file, it would pay for the same rows again."""
    server.faults = Faults(looks=10**6)
    program = (
        "import sys, orjson\n"
        "from types import SimpleNamespace\n"
        "from tests.batchlane.test_langasync import hybrid, rows, simple\n"
        "server = SimpleNamespace(**orjson.loads(sys.argv[1]))\n"
        "hybrid(simple(server), server).batch(rows(5), use_batch_api=True)"
    )
    told = orjson.dumps({"openai_url": server.openai_url, "hosts": server.hosts}).decode()
    answers = list[str]()
    ask = lambda: answers.extend(hybrid(simple(server), server).batch(rows(5), use_batch_api=True))  # noqa: E731
    first = threading.Thread(target=ask)
    first.start()
    moment = threading.Event()
    server.watch(4, moment.set)  # a file, a batch, and looks at it
    assert moment.wait(60)
    done = subprocess.run(
        [sys.executable, "-c", program, told], capture_output=True, text=True, check=False, timeout=60
    )
    for job in server.jobs.values():
        job.faults = Faults(looks=1)
    first.join(60)
    assert len(answers) == 5
    assert "RunBusy" in done.stderr
    assert (len(server.jobs), server.paid_twice()) == (1, {})


def test_answers_whose_place_is_told_after_the_end_are_waited_for(server: BatchProvider) -> None:
    server.script = lambda number, _: Faults(late=3, refused=frozenset() if number else frozenset({1}))
    assert len(hybrid(simple(server), server).batch(rows(5), use_batch_api=True)) == 5
    assert (len(server.bills), server.paid_twice()) == (5, {})


@pytest.mark.parametrize("how", ["short", "fewer"])
@pytest.mark.parametrize("refused", [0, 2])
def test_answers_of_which_half_is_fetched_are_fetched_again_and_not_paid_again(
    server: BatchProvider, refused: int, how: str
) -> None:
    """Whether what came ends within a line or, which nothing tells but the provider's count, behind one."""
    setattr(server.weather, how, 2)
    server.script = lambda number, _: Faults(refused=frozenset() if number else frozenset(range(refused)))
    processor = HybridBatchProcessor(simple(server), lane=lane(server, listing_wait_s=10.0))
    assert len(processor.batch(rows(8), use_batch_api=True)) == 8
    assert (by_whom(server) >= {"langasync"}, len(server.bills), server.paid_twice()) == (True, 8, {})


def test_a_chain_whose_parameters_it_would_drop_goes_through_our_own_adapters(server: BatchProvider) -> None:
    chain = PROMPT | openai(server, max_tokens=50) | StrOutputParser()
    assert len(hybrid(chain, server).batch(rows(4), use_batch_api=True)) == 4
    assert by_whom(server) == {"ours"}


@pytest.mark.parametrize(
    "chain",
    [
        lambda server: two_steps(openai(server)) | StrOutputParser(),
        lambda server: PROMPT | openai(server),
        lambda server: PROMPT | anthropic(server) | StrOutputParser(),
        lambda server: PROMPT | openai(server, default_headers={"x-own": "1"}) | StrOutputParser(),
        lambda server: PROMPT | openai(server).with_fallbacks([anthropic(server)]) | StrOutputParser(),
    ],
)
def test_langasync_available_is_false_where_it_cannot_carry_the_chain(
    server: BatchProvider, chain: Any
) -> None:
    assert not hybrid(chain(server), server).langasync_available


def test_nor_where_the_processor_was_told_what_it_knows_nothing_of(server: BatchProvider) -> None:
    assert not HybridBatchProcessor(simple(server), lane=lane(server), retry=2).langasync_available
    assert not HybridBatchProcessor(simple(server)).langasync_available  # no Batch API is known there


class Loud(StrOutputParser):
    """Answers in capitals."""

    def parse(self, text: str) -> str:
        return text.upper()


def test_another_chain_in_place_of_the_first_is_the_one_that_answers(server: BatchProvider) -> None:
    processor, other = hybrid(simple(server), server), PROMPT | openai(server) | Loud()
    processor.chain = other
    assert processor.batch(rows(3), use_batch_api=True) == live(other).batch(rows(3))
    assert by_whom(server) == {"langasync"}
    processor.chain = openai(server)
    assert not processor.langasync_available


def test_langasync_is_left_out_where_it_is_said_to_be_unavailable(server: BatchProvider) -> None:
    processor = hybrid(simple(server), server)
    processor.langasync_available = False
    assert len(processor.batch(rows(3), use_batch_api=True)) == 3
    assert by_whom(server) == {"ours"}
