"""Rows whose answers are out are known by what they ask: the input may grow, shrink or be sorted anew meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import Budget, Cache, ConfigError, RunStopped
from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.batchlane.chains import two_steps
from tests.batchlane.kit import PICO_PRICES, batched, lane, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

NEW = [{"text": "a new row"}]


def leave(chain: Any, server: BatchProvider, folder: Path, given: list[Any], **more: Any) -> None:
    """Submit these rows and go."""
    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped, match="are out"):
        batched(chain, server, folder, detach=True, **more).batch(given)


def end_all(server: BatchProvider) -> None:
    server.faults = Faults(looks=1)
    for job in server.jobs.values():
        job.faults = Faults(looks=1)


def right(answers: list[Any], given: list[dict[str, str]]) -> bool:
    return answers == [f"answer to: About: {row['text']}" for row in given]


def lanes(server: BatchProvider) -> dict[str, int]:
    return dict(Counter(bill.lane for bill in server.bills))


@pytest.mark.parametrize(
    "changed",
    [
        lambda given: given[::-1],
        lambda given: [*NEW, *given],
        lambda given: [*given[5:], *given[:5]],
        lambda given: [*given[:4], *NEW, *given[4:]],
    ],
    ids=["reversed", "grown at its head", "turned", "grown in its middle"],
)
def test_an_input_that_is_sorted_anew_or_grows_while_its_rows_are_out_pays_no_row_twice(
    changed: Callable[[list[Any]], list[Any]], server: BatchProvider, tmp_path: Path
) -> None:
    chain, given = simple(server), rows(12)
    leave(chain, server, tmp_path, given)
    end_all(server)
    later = changed(given)
    assert right(batched(chain, server, tmp_path).batch(later), later)
    assert (lanes(server), server.paid_twice()) == ({"batch": len(later)}, {})


def test_rows_with_ids_find_their_answers_wherever_they_stand(server: BatchProvider, tmp_path: Path) -> None:
    chain, given = simple(server), rows(6)
    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped, match="are out"):
        batched(chain, server, tmp_path, detach=True).batch(given, ids=list("abcdef"))
    end_all(server)
    found = batched(chain, server, tmp_path).batch([*NEW, *given[::-1]], ids=list("nfedcba"))
    assert right(found, [*NEW, *given[::-1]])
    assert (lanes(server), server.paid_twice()) == ({"batch": 7}, {})


def test_equal_rows_that_are_out_take_an_answer_each(server: BatchProvider, tmp_path: Path) -> None:
    chain, given = simple(server), [*rows(2), *rows(2)]
    leave(chain, server, tmp_path, given)
    end_all(server)
    later = [*NEW, *sorted(given, key=lambda row: row["text"])]
    assert right(batched(chain, server, tmp_path).batch(later), later)
    assert lanes(server) == {"batch": 5}


def test_a_row_in_its_second_round_is_found_again_in_an_input_that_was_sorted_anew(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain, given = two_steps(openai(server)), rows(6)
    leave(chain, server, tmp_path, given)
    end_all(server)
    server.faults = Faults(looks=10**6)
    with pytest.raises(RunStopped, match="are out"):
        batched(chain, server, tmp_path, detach=True).batch(given[::-1])
    end_all(server)
    assert len(batched(chain, server, tmp_path).batch([*given[3:], *given[:3]])) == 6
    assert (lanes(server), len(server.jobs), server.paid_twice()) == ({"batch": 12}, 2, {})


def test_some_of_the_rows_can_be_answered_live_while_the_others_are_out(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, given = simple(server), rows(12)
    leave(chain, server, tmp_path, given[4:])
    caplog.clear()
    urgent = batched(chain, server, tmp_path, mode="live")
    assert right(urgent.batch(given[:4]), given[:4])  # it does not wait for what nobody here asked
    assert lanes(server) == {"live": 4}
    assert "8 requests are out in 1 batch" in caplog.text
    end_all(server)
    assert right(batched(chain, server, tmp_path).batch(given), given)
    assert (lanes(server), server.paid_twice()) == ({"live": 4, "batch": 8}, {})


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_whose_a_batch_is_that_is_out_need_not_be_named_again(
    mode: str, server: BatchProvider, tmp_path: Path
) -> None:
    chain, given = simple(server), rows(6)
    leave(chain, server, tmp_path, given)
    end_all(server)
    unnamed = replace(lane(server), hosts={})
    assert right(batched(chain, server, tmp_path, mode=mode, lane=unnamed).batch(given), given)
    assert (lanes(server), server.paid_twice()) == ({"batch": 6}, {})


def test_a_call_that_has_nothing_to_ask_tells_of_what_is_out_and_of_no_loss(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, given = simple(server), rows(12)
    batched(chain, server, tmp_path, mode="live").batch(given[:4])
    leave(chain, server, tmp_path, given)
    for mode in ("live", "batch"):
        caplog.clear()
        assert right(batched(chain, server, tmp_path, mode=mode).batch(given[:4]), given[:4])
        assert "8 requests are out in 1 batch" in caplog.text
        assert "cannot be looked at" not in caplog.text
        assert "twice" not in caplog.text
    end_all(server)
    assert right(batched(chain, server, tmp_path).batch(given), given)
    assert (lanes(server), server.paid_twice()) == ({"live": 4, "batch": 8}, {})


def test_a_batch_whose_rows_were_answered_elsewhere_meanwhile_is_settled(
    server: BatchProvider, tmp_path: Path
) -> None:
    """By a cache that another program fills: the answers are there at once, what the batch cost is known later."""
    chain, given, cache = simple(server), rows(3), tmp_path / "c.db"
    leave(chain, server, tmp_path, given, cache=Cache(path=cache))
    live(chain, cache=Cache(path=cache)).batch(given)
    end_all(server)
    processor = batched(chain, server, tmp_path, cache=Cache(path=cache), budget=Budget(1.0))
    assert right(processor.batch(given), given)
    with contextlib.closing(open_store(tmp_path / "s.db")) as store:
        assert [batch.stage for batch in store.batches("r")] == ["collected"]
    run = processor.last_run
    assert run is not None
    assert round(run.stats.reported_usd * PICO) == server.charged(PICO_PRICES) / 3  # the others were live


def test_a_stream_is_refused_where_a_batch_would_bring_the_answers_whole(
    server: BatchProvider, tmp_path: Path
) -> None:
    processor = batched(simple(server), server, tmp_path)

    async def pieces() -> list[Any]:
        return [piece async for piece in processor.stream_batch(rows(2))]

    with pytest.raises(ConfigError, match='mode="live"'):
        asyncio.run(pieces())
    with pytest.raises(ConfigError, match='mode="live"'):
        processor.start(rows(2), stream=True)
    assert (server.bills, server.jobs) == ([], {})
    assert len(processor.batch(rows(2))) == 2, "the run is free"


def test_a_stream_is_refused_while_answers_of_its_run_are_out(server: BatchProvider, tmp_path: Path) -> None:
    chain = simple(server)
    leave(chain, server, tmp_path, rows(3))
    with pytest.raises(ConfigError, match="3 requests are out in 1 batch"):
        batched(chain, server, tmp_path, mode="live").start(rows(3), stream=True)
