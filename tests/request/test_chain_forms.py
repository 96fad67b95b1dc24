"""Whatever form a chain has, each of its model requests passes the limiter, and nothing of the user's is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.request.forms import FORMS, Form
from tests.request.kit import a_run, all_rows, all_rows_sync, anthropic, in_flight, openai
from tests.support.loopback import Loopback

pytestmark = [
    pytest.mark.core,
    pytest.mark.filterwarnings("ignore:.*MessageHistory"),  # deprecated, and used all the same
]
ROWS = 5
LIMIT = 2


def ids(form: Form) -> str:
    return form.name


def vitals(model: Any) -> dict[tuple[int, str], Any]:
    """All that a model and its clients hold, but for what they note themselves when first used."""
    parts = [model, model.root_async_client, model.root_client, model.http_async_client, model.http_client]
    held = {(n, name): value for n, part in enumerate(parts) for name, value in vars(part).items()}
    return {where: value for where, value in held.items() if where[1] not in ("_state", "_platform")}


def assert_unchanged(before: dict[tuple[int, str], Any], after: dict[tuple[int, str], Any]) -> None:
    assert not [where for where, value in before.items() if after[where] is not value]
    assert "send" not in {name for _, name in after}


def check(form: Form, server: Loopback, run: Any, results: list[tuple[Any, Any]]) -> None:
    failed = [result for result, _ in results if isinstance(result, Exception)]
    assert not failed, failed[0]
    assert server.requests == ROWS * form.per_row
    assert sum(row.attempts for _, row in results) == server.requests, "a request did not pass the limiter"
    assert server.peak <= LIMIT
    assert in_flight(run) == 0
    if form.plain:
        for index, (result, _) in enumerate(results):
            assert f"row {index}" in str(getattr(result, "content", result))


@pytest.mark.parametrize("form", FORMS, ids=ids)
def test_every_request_of_an_async_chain_passes_the_turnstile(form: Form) -> None:
    async def main() -> None:
        with Loopback(latency=0.004) as server:
            async with openai(server) as model:
                chain, before, run = form.make(model), vitals(model), a_run(LIMIT)
                works = [lambda text=f"row {n}": chain.ainvoke(text) for n in range(ROWS)]
                results = await all_rows(run, works)
                check(form, server, run, results)
                assert_unchanged(before, vitals(model))

    asyncio.run(main())


@pytest.mark.parametrize("form", [form for form in FORMS if form.sync], ids=ids)
def test_every_request_of_a_sync_chain_passes_the_turnstile(form: Form) -> None:
    async def main() -> None:
        with Loopback(latency=0.004) as server:
            async with openai(server) as model:
                chain, before, run = form.make(model), vitals(model), a_run(LIMIT)
                works = [lambda text=f"row {n}": chain.invoke(text) for n in range(ROWS)]
                results = await asyncio.to_thread(all_rows_sync, run, works)
                check(form, server, run, results)
                assert_unchanged(before, vitals(model))

    asyncio.run(main())


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("threads", [False, True])
def test_every_request_to_anthropic_passes_the_turnstile(structured: bool, threads: bool) -> None:
    async def main() -> None:
        with Loopback(latency=0.004) as server:
            async with anthropic(server) as model:
                from tests.request.forms import Label

                chain: Any = model.with_structured_output(Label) if structured else model
                run = a_run(LIMIT)
                texts = [f"row {n}" for n in range(ROWS)]
                if threads:
                    works = [lambda text=text: chain.invoke(text) for text in texts]
                    results = await asyncio.to_thread(all_rows_sync, run, works)
                else:
                    results = await all_rows(run, [lambda text=text: chain.ainvoke(text) for text in texts])
                form = Form("anthropic", lambda model: model, plain=not structured)
                check(form, server, run, results)

    asyncio.run(main())
