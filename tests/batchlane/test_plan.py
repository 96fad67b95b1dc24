"""What `plan` says of a chain that is to go through batches."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchLane
from tests.batchlane.agent import agent
from tests.batchlane.kit import batched, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


class Finder(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(query)]


def clean(row: dict[str, str]) -> str:
    return row["text"].strip()


def test_it_lists_the_functions_and_retrievers_that_run_once_in_each_round(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = (
        RunnableLambda(clean) | Finder() | (lambda found: {"text": found[0].page_content}) | simple(server)
    )
    [note] = [note for note in batched(chain, server, tmp_path).plan(rows(2)).notes if "each round" in note]
    assert "steps[0] RunnableLambda (clean)" in note
    assert "steps[1] Finder" in note
    assert "steps[2] RunnableLambda (lambda)" in note
    live = batched(chain, server, tmp_path, mode="live").plan(rows(2)).notes
    assert not any("each round" in note for note in live)


def test_it_lists_the_nodes_of_a_graph_that_are_functions_but_not_its_tools(
    server: BatchProvider, tmp_path: Path
) -> None:
    plan = batched(agent(server, bool), server, tmp_path).plan(rows(2))
    [note] = [note for note in plan.notes if "each round" in note]
    assert "steps[1].nodes[think] RunnableCallable (think)" in note
    assert "nodes[tools]" not in note


def test_it_prices_batches_at_an_address_that_is_named_as_a_providers(
    server: BatchProvider, tmp_path: Path
) -> None:
    chain = simple(server, max_tokens=99)
    plan = batched(chain, server, tmp_path).plan(rows(40))
    assert plan.cost_usd is not None
    assert plan.batch_usd is not None
    assert plan.batch_usd.high == plan.cost_usd.high / 2
    assert batched(chain, server, tmp_path, lane=BatchLane()).plan(rows(40)).batch_usd is None


def test_its_sample_runs_live_as_somebody_waits_for_it(server: BatchProvider, tmp_path: Path) -> None:
    server.faults = Faults(looks=10**6)
    processor = batched(simple(server), server, tmp_path)
    plan = processor.plan(rows(40), sample=3)
    assert (plan.basis, plan.sampled) == ("sample", 3)
    assert [bill.lane for bill in server.bills] == ["live"] * 3
    server.faults = Faults()
    assert len(processor.batch(rows(40))) == 40
    assert Counter(bill.lane for bill in server.bills) == {"live": 3, "batch": 37}  # its answers are kept


def test_a_chain_without_code_of_its_own_has_nothing_to_list(server: BatchProvider, tmp_path: Path) -> None:
    assert not any(
        "each round" in note for note in batched(simple(server), server, tmp_path).plan(rows(2)).notes
    )
