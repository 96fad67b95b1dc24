"""A cell is interrupted, as a person does it: in a real kernel, by its signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the kernel's own packages warn of themselves
    pytest.mark.waits,
]
ROWS = 40
BEFORE = 8  # calls, then the interrupt is sent
MAKE = f"""
import asyncio
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor

calls = []

def of(times):
    async def answer(row):
        calls.append(row)
        if len(calls) == {BEFORE}:
            print("INTERRUPT", flush=True)
        if len(calls) >= {BEFORE}:
            await asyncio.sleep(0.4)
        return row * times
    return RunnableLambda(answer)

def made(run, times=2, **more):
    return BatchProcessor(of(times), concurrency=2, **({{"store": "book.db", "run": run}} if run else {{}}), **more)

rows = list(range({ROWS}))
"""


class Kernel:
    """A kernel of its own, in a folder; cells are run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kernel = manager.KernelManager(kernel_name="python3")
        self._kernel.start_kernel(cwd=str(folder))
        self._client = self._kernel.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def stop(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=True)

    def cell(self, source: str) -> str:
        """What a cell shows; where it prints INTERRUPT, the kernel is interrupted, once."""
        asked, shown, interrupted = self._client.execute(source), "", False
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return shown
            shown += _shown(kind, content)
            if "INTERRUPT" in shown and not interrupted:
                self._kernel.interrupt_kernel()
                interrupted = True


def _shown(kind: str, content: dict[str, Any]) -> str:
    if kind == "error":
        return "\n".join(content["traceback"]) + f"\n{content['ename']}\n"
    return (
        str(content.get("text", ""))
        if kind == "stream"
        else str(content.get("data", {}).get("text/plain", ""))
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    made = Kernel(tmp_path_factory.mktemp("book"))
    assert made.cell(MAKE) == ""
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("run", "call"),
    [
        ("plain", "p.batch(rows)"),
        ("awaited", "await p.abatch(rows)"),
        ("completed", "[answer for _, answer in sorted(p.batch_as_completed(rows))]"),
        (
            "completed awaited",
            "[answer for _, answer in sorted([pair async for pair in p.abatch_as_completed(rows)])]",
        ),
    ],
)
def test_an_interrupted_cell_keeps_its_answers_says_so_and_goes_on_when_it_is_run_again(
    kernel: Kernel, run: str, call: str
) -> None:
    kernel.cell(f"calls.clear(); p = made({run!r}, progress=True)")
    shown = kernel.cell(f"answers = {call}")
    assert ("CancelledError" if "awaited" in run else "KeyboardInterrupt") in shown
    kept = f"'{kernel.folder / 'book.db'}', run '{run}'"
    assert f"of {ROWS} rows. What is done is kept in {kept}: the same call again does" in shown
    asked, stored = map(int, kernel.cell("print(len(calls), p.last_run.stats.ok)").split())
    assert BEFORE - 2 <= stored <= asked < ROWS
    assert int(kernel.cell("await asyncio.sleep(1); print(len(calls))")) == asked  # nothing goes on behind it
    kernel.cell(f"p = made({run!r})\nanswers = {call}")  # the cells are run again, as they stand
    assert (
        kernel.cell("print(answers == [row * 2 for row in rows], p.last_run.stats.stored)")
        == f"True {stored}\n"
    )


def test_without_a_store_the_answers_so_far_are_with_the_processor(kernel: Kernel) -> None:
    kernel.cell("calls.clear(); p = made(None)")
    shown = kernel.cell("answers = p.batch(rows)")
    assert "processor.last_run.outcomes()" in shown
    assert "with store= and run= they would be kept" in shown
    said = kernel.cell("print(p.last_run.stats.ok, sum(o.status == 'ok' for o in p.last_run.outcomes()))")
    assert said.split()[0] == said.split()[1] != "0"


def test_an_edited_function_in_a_cell_goes_on_and_says_whose_answers_are_kept(kernel: Kernel) -> None:
    kernel.cell("calls.clear(); calls.extend([None] * 100); p = made('edited')\np.batch(rows[:3])")
    source = MAKE[MAKE.index("def of") : MAKE.index("def made")].replace("row * times", "row * times + 1000")
    kernel.cell(source)
    shown = kernel.cell("answers = made('edited').batch(rows[:5])")
    assert "run 'edited' goes on, but the code of" in shown
    assert "stored answers were made by the old one" in shown
    assert kernel.cell("print(answers)") == "[0, 2, 4, 1006, 1008]\n"
