"""What each try of a failed row met, and how long it waited: kept with the row, and shown by report and live page."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.cli.commands.report import story_of
from cottonpalm.cli.store.held_store import HeldStore
from cottonpalm.live.server import Dashboard
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.page.tries import timeline
from cottonpalm.request.row_usage import TRIES
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.testing import FlakyTransport, virtual_run
from cottonpalm.types import ErrorRecord, Kind, Outcome, Try
from tests.report.stories import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
TOOK = r"(?:waited [\d.]+ s, )?took [\d.]+ s"


def outcome_of(*steps: Any, **options: Any) -> Outcome:
    """One row, whose requests meet these in virtual time; a float is a wait before the step after it."""

    async def main() -> Outcome:
        client = httpx2.AsyncClient(transport=FlakyTransport(*steps))
        model = ChatOpenAI(model="m", max_retries=0, api_key="sk-1", http_async_client=client)  # type: ignore[arg-type]
        async with BatchProcessor(model, **options).astart(["x"]) as run:
            [outcome] = [outcome async for outcome in run]
        return outcome

    return virtual_run(main())


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", markup).replace("\u00a0", " ").split())


def test_a_failed_row_says_what_each_try_met_and_when() -> None:
    outcome = outcome_of(1.0, 500, 0.5, (429, {"retry-after": "7"}), 2.0, 400)
    assert outcome.error is not None
    tries = outcome.error.tries
    assert [each.met for each in tries] == ["500 transient", "429 throttle", "400 fail_row"]
    assert [round(each.took_s, 3) for each in tries] == [1.0, 0.5, 2.0]
    assert tries[0].at_s == pytest.approx(0.0, abs=0.01)
    assert round(tries[2].at_s - (tries[1].at_s + 0.5), 6) >= 7.0, "it waited what the provider asked for"
    assert (
        sum(each.took_s for each in tries) < outcome.latency_s == pytest.approx(tries[2].at_s + 2.0, abs=0.01)
    )


def test_an_answer_that_was_refused_is_a_try_like_any_other() -> None:
    def refuse(_: Any) -> None:
        raise ValueError("not so")

    outcome = outcome_of("one", 400, validate=refuse)
    assert outcome.error is not None
    assert [each.met for each in outcome.error.tries] == ["", "400 fail_row"]


def test_calls_of_a_chain_whose_requests_are_not_seen_are_its_tries() -> None:
    called_s = list[float]()

    async def fails(_: str) -> str:
        called_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.25)
        raise ConnectionError("broken off")

    async def main() -> Outcome:
        async with BatchProcessor(RunnableLambda(fails), retry=2).astart(["x"]) as run:
            [outcome] = [outcome async for outcome in run]
        return outcome

    outcome = virtual_run(main())
    assert outcome.error is not None
    tries = outcome.error.tries
    assert [each.met for each in tries] == ["transient"] * 3
    assert [each.took_s for each in tries] == pytest.approx([0.25] * 3)
    begun_s = [at - called_s[0] for at in called_s]  # the waits are drawn evenly from 0, so any may be short
    assert [each.at_s for each in tries] == pytest.approx(begun_s, abs=0.001)
    assert begun_s[2] - begun_s[1] > 0.25 < begun_s[1], "it waited between them"


def test_of_many_tries_the_first_and_the_last_are_kept() -> None:
    policy = RetryPolicy(retries=39, base_s=1.0, cap_s=1.0)
    outcome = outcome_of(502, 504, *[500] * 100, retry=policy)
    assert outcome.error is not None
    tries = outcome.error.tries
    assert (outcome.attempts, len(tries)) == (40, TRIES)
    assert [each.met[:3] for each in tries[:3]] == ["502", "504", "500"]
    assert all(one.at_s < other.at_s for one, other in pairwise(tries))
    assert tries[-1].at_s + tries[-1].took_s == pytest.approx(outcome.latency_s, abs=0.01)


def test_tries_come_back_from_a_store_and_records_without_them_are_read_as_ever() -> None:
    tries = (Try(0.0, 0.25, "503 transient"), Try(2.5, 1.0, ""))
    for where in (None, "app.py:1, in f: x"):
        for kept in (tries, ()):
            error = ErrorRecord(Kind.FAIL_ROW, "E", "m", where=where, tries=kept)
            record = pack(Outcome(0, "failed", error=error, attempts=2), keep_input=False, types={})
            back = unpack(record, 0, {}).error
            assert back is not None
            assert (back.where, back.tries) == (where, kept)
    later = b'{"o":null,"a":1,"l":0.1,"e":["fail_row","E","m",false,null,[[1,2,"x","more"],"odd"],"more"]}'
    read = unpack(later, 0, {}).error
    assert read is not None
    assert read.tries == (Try(1, 2, "x"),)


def test_the_timeline_says_in_words_what_its_bars_show() -> None:
    said = timeline([Try(0.5, 1.0, "503 transient"), Try(4.0, 2.0, "429 throttle"), Try(6.0, 2.0, "")], 5)
    assert words(said) == (
        "503 transient waited 0.5 s, took 1.0 s 429 throttle waited 2.5 s, took 2.0 s answered took 2.0 s"
        " 2 more between them are not kept."
    )
    bars = re.findall(r'<rect class="share (\w+)" x="([\d.]+)%" width="([\d.]+)%"', said)
    assert bars == [("bad", "6.25", "12.5"), ("bad", "50", "25"), ("plain", "75", "25")]
    for text in HOSTILE:
        assert "<script" not in timeline([Try(0.0, 1.0, text)], 1)


def test_report_and_live_page_show_the_tries_of_a_failed_row(tmp_path: Path) -> None:
    path, transport = tmp_path / "s.db", FlakyTransport(500, 400)
    client = httpx2.AsyncClient(transport=transport)
    model = ChatOpenAI(model="m", max_retries=0, api_key="sk-1", http_async_client=client)  # type: ignore[arg-type]
    policy = RetryPolicy(base_s=0.01, cap_s=0.01)
    BatchProcessor(model, store=path, run="night", retry=policy).batch(["x"], return_exceptions=True)
    store = HeldStore(open_store(path), str(path))
    page = page_of(story_of(store, "night", str(path)))
    store.release()
    shown = words(page)
    assert "What its 2 tries met" in shown
    with Dashboard(path, 0) as live, httpx.Client(follow_redirects=True, trust_env=False) as visitor:
        visitor.get(live.url)
        row = visitor.get(f"http://127.0.0.1:{live.port}/row", params={"run": "night", "at": "0"}).text
    for said in (shown, words(row)):
        found = re.search(
            r"500 transient (waited [\d.]+ m?s, )?took [\d.]+ m?s 400 fail_row (waited [\d.]+ m?s, )?took",
            said,
        )
        assert found is not None
