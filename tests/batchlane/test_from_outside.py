"""The lane attacked from outside: money that runs out, runs beside each other, batches that end badly, keys on disk."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import Budget
from cottonpalm.types import PICO
from tests.batchlane.chains import MODELS, PROMPT, two_steps
from tests.batchlane.kit import PICO_PRICES, batched, lane, live, rows
from tests.support.batch_provider import Faults, by_chance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

KEY = "sk-only-the-header-may-hold-this"


def bad_luck(rng: Random, count: int) -> Faults:
    return by_chance(rng, count, Faults(turnaround_s=rng.choice((0.0, 0.02))))


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_money_that_runs_out_while_batches_are_out_is_never_exceeded_and_more_of_it_pays_for_the_rest_only(
    server: BatchProvider, tmp_path: Path, provider: str, seed: int
) -> None:
    rng, count = Random(seed), 24
    chain = two_steps(MODELS[provider](server, max_tokens=40))
    asked_live = live(chain, hedge=False)
    wanted = [message.content for message in asked_live.batch(rows(count))]
    whole = server.charged(PICO_PRICES) / PICO
    server.bills.clear()
    server.script = lambda _, size: bad_luck(rng, size)
    total, found = 0.0, list[Any]()
    for _ in range(12):
        total += whole * rng.uniform(0.1, 1.0)
        more = {"budget": Budget(total), "lane": lane(server, rows=rng.choice((5, 9, 50)), quiet_s=0.1)}
        found = batched(chain, server, tmp_path, **more).batch(rows(count), return_exceptions=True)
        assert server.charged(PICO_PRICES) <= total * PICO
        if not any(type(one).__name__ in ("RunStopped", "BudgetReached") for one in found):
            break
    for number, answer in enumerate(found):
        said = getattr(answer, "content", None)
        assert said == wanted[number] or "400" in repr(answer), (number, answer)
    # What two batches left unanswered runs live, and is asked from its start where the money ends in its middle.
    in_batches = Counter((bill.model, bill.text) for bill in server.bills if bill.lane == "batch")
    assert max(in_batches.values()) == 1


@pytest.mark.parametrize("provider", MODELS)
def test_two_runs_beside_each_other_with_equal_rows_and_lost_submissions_do_not_take_each_others_batches(
    server: BatchProvider, tmp_path: Path, provider: str
) -> None:
    """Anthropic's batches bear no mark: time and number of rows are the same for both."""
    chain = PROMPT | MODELS[provider](server) | StrOutputParser()
    wanted = live(chain).batch(rows(10))
    server.bills.clear()
    rng = Random(7)
    server.script = lambda *_: Faults(lose=rng.choice(("before", "after", None)), hidden_s=0.02, shuffle=1)
    found: dict[str, list[Any]] = {}

    def runs(name: str, store: str) -> None:
        processor = batched(chain, server, tmp_path, run=name, store=tmp_path / store)
        found[name] = processor.batch(rows(10))

    threads = [
        threading.Thread(target=runs, args=told) for told in (("a", "1.db"), ("b", "1.db"), ("c", "2.db"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys("abc", wanted)
    assert set(Counter(bill.text for bill in server.bills).values()) == {3}


@pytest.mark.parametrize(
    "faults",
    [
        Faults(all_refused=True),
        Faults(expire=0.0),
        Faults(expire=0.5, shuffle=3, twice=frozenset({0, 1})),
        Faults(missing=frozenset(range(8))),
        Faults(broken=frozenset(range(8))),
        Faults(invalid="invalid_json_line"),
        Faults(gone=True),
    ],
    ids=["refused", "expired-empty", "expired-half", "missing", "broken", "invalid", "gone"],
)
@pytest.mark.parametrize("provider", MODELS)
def test_batches_that_all_end_badly_end_the_run_with_every_row_answered_and_the_bill_in_its_sums(
    server: BatchProvider, tmp_path: Path, provider: str, faults: Faults
) -> None:
    chain = PROMPT | MODELS[provider](server, max_tokens=40) | StrOutputParser()
    wanted = live(chain).batch(rows(8))
    server.bills.clear()
    server.faults = faults
    processor = batched(chain, server, tmp_path, budget=Budget(1.0))
    found = processor.batch(rows(8), return_exceptions=True)
    if faults.all_refused:
        assert all("400" in repr(one) or "invalid" in repr(one) for one in found)
    else:
        assert found == wanted
    run = processor.last_run
    assert run is not None
    stats, charged = run.stats, server.charged(PICO_PRICES)
    assert round(stats.reported_usd * PICO) <= charged
    assert round((stats.reported_usd + stats.uncertain_usd) * PICO) >= charged
    if not faults.gone:
        assert (server.paid_twice(), round(stats.uncertain_usd * PICO)) == ({}, 0)


def test_no_key_is_written_anywhere(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = two_steps(_with_key(server))
    caplog.set_level("DEBUG")
    server.faults = Faults(looks=10**6)
    with pytest.raises(Exception, match="are out"):
        batched(chain, server, tmp_path, detach=True).batch(rows(4))
    for job in server.jobs.values():
        job.faults = Faults(missing=frozenset({1}), broken=frozenset({2}))
    server.faults = Faults()
    server.weather.reads = [0, 500, 429]
    assert len(batched(chain, server, tmp_path).batch(rows(4))) == 4
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in caplog.text


def _with_key(server: BatchProvider) -> Any:
    from langchain_openai import ChatOpenAI

    model: Any = ChatOpenAI
    return model(model="gpt-test", base_url=server.openai_url, api_key=KEY, max_retries=0)
