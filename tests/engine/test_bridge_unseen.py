"""Nobody may notice that a bridge existed: after a sync call, a model's own async calls work as before."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from cottonpalm import BatchProcessor
from cottonpalm.providers import classify
from cottonpalm.runtime import bridge
from cottonpalm.types import Kind
from tests.engine.test_loops import chain
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from types import ModuleType

    from langchain_core.embeddings import Embeddings

ROWS = [f"row {n}" for n in range(8)]
RIGHT = [f"answer to: {row}" for row in ROWS]
KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic"])


def model_of(server: Loopback, kind: str) -> Any:
    """The model and its parser alone, with the clients that its package shares."""
    return RunnableLambda(lambda x: x) | chain(server, kind).steps[1] | StrOutputParser()


@KINDS
def test_a_cell_that_batches_leaves_the_next_cells_await_alone(kind: str) -> None:
    async def cells() -> None:  # a notebook runs all its cells on one loop
        model = model_of(server, kind)
        for _ in range(3):
            assert BatchProcessor(model).batch(ROWS) == RIGHT
            assert await model.ainvoke("x") == "answer to: x"
            other = model_of(server, kind)  # another object, the same shared client
            assert await other.ainvoke("y") == "answer to: y"

    with Loopback() as server:
        asyncio.run(cells())


@KINDS
def test_a_script_may_batch_and_then_run_a_loop_of_its_own(kind: str) -> None:
    with Loopback() as server:
        model = model_of(server, kind)
        assert BatchProcessor(model).batch(ROWS) == RIGHT
        assert asyncio.run(model.ainvoke("x")) == "answer to: x"


@KINDS
def test_a_thread_that_batches_disturbs_no_await_meanwhile(kind: str) -> None:
    async def main() -> None:
        model = model_of(server, kind)
        batching = asyncio.create_task(
            asyncio.to_thread(BatchProcessor(model, concurrency=4).batch, ROWS * 5)
        )
        while not batching.done():
            assert await model.ainvoke("x") == "answer to: x"
        assert await batching == RIGHT * 5
        assert await model.ainvoke("x") == "answer to: x"

    with Loopback(latency=0.002) as server:
        asyncio.run(main())


def test_two_processors_of_one_model_at_once_and_then_an_await() -> None:
    with Loopback(latency=0.002) as server:
        model = model_of(server, "openai")
        results: list[Any] = []
        threads = [
            threading.Thread(target=lambda: results.append(BatchProcessor(model).batch(ROWS * 3)))
            for _ in "ab"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [RIGHT * 3] * 2
        assert asyncio.run(model.ainvoke("x")) == "answer to: x"


def test_a_batch_inside_a_row_and_then_an_await() -> None:
    with Loopback() as server:
        model = model_of(server, "openai")
        inner = BatchProcessor(model)
        step = RunnableLambda(lambda row: inner.batch([row, row])[1])
        assert BatchProcessor(step, concurrency=3).batch(ROWS) == RIGHT
        assert asyncio.run(model.ainvoke("x")) == "answer to: x"


@pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("own", [False, True], ids=["plain", "own transport"])
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
def test_both_generations_of_clients_are_left_without_connections_of_the_bridge(
    http: ModuleType, own: bool, path: str
) -> None:
    class Mine(http.AsyncHTTPTransport):
        """A transport that is not the library's own."""

    async def both() -> None:
        async with http.AsyncClient(transport=Mine() if own else None) as client:

            async def ask(text: str) -> int:
                body = {"model": "m", "messages": [{"role": "user", "content": text}], "input": text}
                return (await client.post(server.openai_url + path, json=body)).status_code

            assert BatchProcessor(RunnableLambda(ask), concurrency=3).batch(ROWS) == [200] * len(ROWS)
            assert await ask("x") == 200
            assert BatchProcessor(RunnableLambda(ask), concurrency=3).batch(ROWS) == [200] * len(ROWS)
            assert await ask("y") == 200

    with Loopback() as server:
        asyncio.run(both())


def test_embeddings_of_a_row_leave_no_connection_behind() -> None:
    async def main() -> None:
        found: Embeddings = OpenAIEmbeddings(
            base_url=server.openai_url, api_key="sk-0123456789", check_embedding_ctx_length=False
        )
        rows = BatchProcessor(RunnableLambda(found.aembed_query)).batch(ROWS)
        assert await found.aembed_query(ROWS[0]) == rows[0]

    with Loopback() as server:
        asyncio.run(main())


def test_the_same_holds_where_the_hook_is_off() -> None:
    code = """
        import asyncio, sys
        from langchain_openai import ChatOpenAI
        from cottonpalm import BatchProcessor
        async def main():
            model = ChatOpenAI(base_url=sys.argv[1], api_key="sk-0123456789", model="m", max_retries=0)
            for _ in range(3):
                print(len(BatchProcessor(model).batch(["a", "b", "c"])))
                print((await model.ainvoke("x")).content)
        asyncio.run(main())
    """
    with Loopback() as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), server.openai_url],
            env={**os.environ, "COTTONPALM_NO_HOOK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["3", "answer to: x"] * 3 + [""]


def test_a_connection_of_a_bridge_that_lasts_is_used_by_its_next_run() -> None:
    with Loopback() as server:
        model = model_of(server, "openai")
        processor = BatchProcessor(model, concurrency=1)
        assert processor.batch(ROWS) == RIGHT
        held = [connection.transport.get_extra_info("peername") for connection in server.connections]
        assert processor.batch(ROWS) == RIGHT
        assert [connection.transport.get_extra_info("peername") for connection in server.connections] == held


def test_what_a_client_of_the_past_kept_open_on_the_bridge_is_closed() -> None:
    with Loopback() as server:
        for _ in range(3):
            client = httpx2.AsyncClient()
            model = ChatOpenAI(
                base_url=server.openai_url, api_key="sk-0123456789", model="m", http_async_client=client
            )
            BatchProcessor(model, concurrency=1).batch(ROWS[:2])
            asyncio.run(client.aclose())
            del model, client
        import gc

        gc.collect()
        loop = next(found for found in bridge._bridges.values() if found.depth == 0).loop
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(10)
        assert len(server.connections) <= 1


@pytest.mark.parametrize(
    "message",
    [
        "Event loop is closed",
        "<asyncio.locks.Event object at 0x7f> is bound to a different event loop",
        "Task <Task pending> got Future <Future pending> attached to a different loop",
    ],
)
def test_a_fault_of_a_loop_is_never_the_rows(message: str) -> None:
    assert classify(RuntimeError(message)).kind is Kind.TRANSIENT
    assert classify(RuntimeError("my own loop is closed: rewind the tape")).kind is Kind.FAIL_ROW


@pytest.mark.skipif(
    not (importlib.util.find_spec("ipykernel") and importlib.util.find_spec("nbclient")),
    reason="ipykernel and nbclient are not installed",
)
@KINDS
def test_a_real_notebook_may_mix_batch_and_await(kind: str) -> None:
    import nbclient
    import nbformat.v4 as nb

    made = {
        "openai": "ChatOpenAI(base_url={url!r} + '/v1', api_key='sk-0123456789', model='m')",
        "anthropic": "ChatAnthropic(base_url={url!r}, api_key='sk-ant-0123456789', model_name='m')",
    }[kind]
    with Loopback() as server:
        sources = [
            f"from langchain_{kind} import {made.partition('(')[0]}",
            "from cottonpalm import BatchProcessor",
            f"m = {made.format(url=server.url)}",
            "[one.content for one in BatchProcessor(m).batch(['a', 'b'])]",
            "(await m.ainvoke('x')).content",
            "[one.content for one in await BatchProcessor(m).abatch(['a', 'b'])]",
            "[one.content for one in BatchProcessor(m).batch(['a', 'b'])]",
            "(await m.ainvoke('y')).content",
        ]
        notebook = nb.new_notebook(cells=[nb.new_code_cell(source) for source in sources])
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shown = [cell.outputs[-1].data["text/plain"] for cell in notebook.cells[3:]]
    both = "['answer to: a', 'answer to: b']"
    assert shown == [both, "'answer to: x'", both, both, "'answer to: y'"]
