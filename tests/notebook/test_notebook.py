"""A real kernel runs cells, as a person does."""

from __future__ import annotations

from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

pytestmark = [pytest.mark.filterwarnings("ignore")]  # the kernel's own packages warn of themselves
MAKE = """
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor

def answer(row):
    if row == 7:
        raise ValueError("<script>harm()</script>")
    return row * 2

processor = BatchProcessor(RunnableLambda(answer), progress=True, retry=0)
"""
BEGIN = """
import asyncio

began, free = asyncio.Event(), asyncio.Event()

async def waits(row):
    began.set()
    await free.wait()

task = asyncio.create_task(BatchProcessor(RunnableLambda(waits), progress=True).abatch(list(range(30))))
_ = await began.wait()
"""


@pytest.fixture(scope="module")
def cells() -> list[Any]:
    """The outputs of each cell."""
    sources = [
        MAKE,
        "answers = processor.batch(list(range(30)), return_exceptions=True)",
        "answers = await processor.abatch(list(range(30)), return_exceptions=True)",
        "run = processor.last_run; run",
        "run.report",
        BEGIN,
        "free.set(); await task",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(book, timeout=100, kernel_name="python3").execute()
    return [cell.outputs for cell in book.cells]


@pytest.mark.parametrize("cell", [1, 2], ids=["batch", "abatch"])
def test_a_cell_has_one_display_that_ends_with_the_last_numbers(cells: list[Any], cell: int) -> None:
    [shown] = cells[cell]  # updated in place: however often, there is one
    assert shown.output_type == "display_data"
    assert "30" in shown.data["text/plain"].splitlines()[0]
    assert '<progress value="30" max="30"' in shown.data["text/html"]
    assert "ValueError: <script>harm()</script>" in shown.data["text/plain"]
    assert "<script>" not in shown.data["text/html"]


def test_a_run_is_its_report_in_short(cells: list[Any]) -> None:
    [shown] = cells[3]
    assert shown.data["text/plain"].startswith("<AsyncRun: 29 ok, 1 failed, ")


def test_a_report_is_a_page_in_a_frame_of_its_own(cells: list[Any]) -> None:
    [shown] = cells[4]
    html = shown.data["text/html"]
    assert html.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert 'sandbox="allow-scripts' in html
    assert "Failed rows" in html


def test_a_run_that_ends_in_a_later_cell_ends_with_its_last_numbers_where_it_began(cells: list[Any]) -> None:
    [shown] = cells[5]
    assert "30 of 30 (100 %)" in shown.data["text/plain"]
