"""A whole run through Azure OpenAI's Batch API: its addresses, its key, its names of endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser

from tests.batchlane.chains import PROMPT, City, two_steps
from tests.batchlane.kit import batched, live, rows
from tests.batchlane.test_equal_to_live import run_of, seen
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

PRICES = {"my-deployment": (2.0, 8.0)}


def azure(server: BatchProvider) -> Any:
    from langchain_openai import AzureChatOpenAI

    model: Any = AzureChatOpenAI
    return model(
        azure_endpoint=server.url("azure"),
        azure_deployment="my-deployment",
        api_key="az-test",
        api_version="2025-04-01-preview",
        max_retries=0,
    )


@pytest.mark.parametrize("kind", ["text", "schema", "two steps"])
def test_azure_openai_goes_through_the_executor_and_gives_the_same_as_live_at_half_the_price(
    server: BatchProvider, tmp_path: Path, kind: str
) -> None:
    model = azure(server)
    chain = {
        "text": PROMPT | model | StrOutputParser(),
        "schema": PROMPT | model.with_structured_output(City),
        "two steps": two_steps(model),
    }[kind]
    _, wanted = run_of(live(chain, prices=PRICES), 6)
    server.bills.clear()
    server.script = lambda job, _: Faults(shuffle=3, broken=frozenset() if job else frozenset({2}))
    _, found = run_of(batched(chain, server, tmp_path, prices=PRICES), 6)
    for one, other in zip(wanted, found, strict=True):
        assert seen(other.output) == seen(one.output)
        assert (other.usage, other.lane) == (one.usage, "batch")
        assert other.cost_pico == (one.cost_pico or 0) // 2
    assert {bill.lane for bill in server.bills} == {"batch"}
    assert server.paid_twice() == {}
    assert {job.account for job in server.jobs.values()} == {"az-test"}


def test_a_run_at_azure_that_was_left_is_collected_by_the_next_call(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = PROMPT | azure(server) | StrOutputParser()
    server.faults = Faults(looks=10**6)
    with pytest.raises(Exception, match="are out"):
        batched(chain, server, tmp_path, prices=PRICES, detach=True).batch(rows(4))
    for job in server.jobs.values():
        job.faults = Faults()
    answers = batched(chain, server, tmp_path, prices=PRICES).batch(rows(4))
    assert answers == [f"answer to: About: row {number}" for number in range(4)]
    assert (len(server.jobs), server.paid_twice()) == (1, {})
