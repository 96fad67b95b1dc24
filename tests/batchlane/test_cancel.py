"""Batches that are out are stopped on request; batches that nobody can look at are waited for no longer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.prompts import ChatPromptTemplate

from cottonpalm import RunStopped
from cottonpalm.events import RunStarted
from tests.batchlane.kit import anthropic, batched, lane, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.events import Event
    from tests.support.batch_provider import BatchProvider


def spoken(model: Any) -> Any:
    return ChatPromptTemplate.from_template("About: {text}") | model


def leave(chain: Any, server: BatchProvider, folder: Path, **faults: Any) -> None:
    server.faults = Faults(**{"looks": 10**6, **faults})
    with pytest.raises(RunStopped, match="are out"):
        batched(chain, server, folder, detach=True, fingerprint="same").batch(rows(10))


def test_cancel_stops_what_is_out_and_the_next_call_asks_only_what_was_not_done(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = simple(server)
    leave(chain, server, tmp_path, looks=4, cancel_looks=1)
    with pytest.raises(RunStopped) as stopped:
        batched(chain, server, tmp_path, lane=lane(server, cancel=True), fingerprint="same").batch(rows(10))
    assert stopped.value.reason == "cancelled"
    assert {job.end for job in server.jobs.values()} == {"cancelled"}
    server.faults = Faults()
    assert len(batched(chain, server, tmp_path, fingerprint="same").batch(rows(10))) == 10
    assert (Counter(bill.lane for bill in server.bills), server.paid_twice()) == ({"batch": 10}, {})


def test_a_batch_of_a_model_that_the_chain_asks_no_more_is_told_of_and_not_waited_for(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(spoken(openai(server)), server, tmp_path)
    server.faults = Faults()
    chain = spoken(anthropic(server))
    found = batched(chain, server, tmp_path, fingerprint="same").batch(rows(10))
    assert len(found) == 10
    assert "cannot be looked at" in caplog.text


def test_left_by_the_user_a_run_says_what_is_out_and_how_to_go_on(
    server: BatchProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    server.faults = Faults(looks=10**6)
    with batched(simple(server), server, tmp_path).start(rows(5)) as run:
        eventually(lambda: server.jobs)
        run.stop()
        with pytest.raises(RunStopped):
            list(run)
    assert "5 requests are out in 1 batch" in caplog.text
    assert "cottonpalm collect" in caplog.text


def test_a_run_that_is_stopped_before_its_rows_begin_stops_without_an_error(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stops:
        def see(self, event: Event) -> None:
            if isinstance(event, RunStarted):
                run.stop()

    run = batched(simple(server), server, tmp_path, observers=[Stops()]).start(rows(2))
    with run, pytest.raises(RunStopped):
        list(run)
    assert not server.bills
    assert not [record for record in caplog.records if record.exc_info]
