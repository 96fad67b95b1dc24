"""What `plan` says of a chain that is to go through batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from tests.batchlane.kit import batched, rows, simple

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


def test_a_chain_without_code_of_its_own_has_nothing_to_list(server: BatchProvider, tmp_path: Path) -> None:
    assert not any(
        "each round" in note for note in batched(simple(server), server, tmp_path).plan(rows(2)).notes
    )
