"""What we say it cost is what the server charged, to the token, for every shape of answer."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO
from tests.request.kit import MODEL, a_run, all_rows, anthropic, openai
from tests.support import replies
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHAPES = ["chat", "responses", "anthropic"]
CLAUDE = "claude-haiku-4-5"


@asynccontextmanager
async def model_of(shape: str, server: Loopback, **options: Any) -> AsyncIterator[Any]:
    if shape == "anthropic":
        async with anthropic(server, model=CLAUDE, **options) as model:
            yield model
    else:
        own = {"use_responses_api": True} if shape == "responses" else {"stream_usage": True}
        async with openai(server, max_tokens=100, **own, **options) as model:
            yield model


async def said(model: Any, text: str, *, stream: bool) -> None:
    if not stream:
        await model.ainvoke(text)
        return
    async for _ in model.astream(text):
        pass


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_reported_total_is_what_the_server_charged(shape: str, stream: bool) -> None:
    def script(request: replies.Request) -> replies.Reply | None:
        if request.nth == 1 and request.seq % 5 == 0:
            return replies.fails(500)
        return replies.ok(cached=request.seq % 7, reasoning=request.seq % 11)

    async def main() -> None:
        with Loopback(script=script) as server:
            async with model_of(shape, server) as model:
                run = a_run(8, ledger=Ledger(PICO), prices=PriceBook())
                works = [lambda n=n: said(model, f"row {n} " + "x" * n, stream=stream) for n in range(40)]
                results = await all_rows(run, works)
                assert not [result for result, _ in results if result is not None]
                billed, rates = server.billed, PriceBook().rates(CLAUDE if shape == "anthropic" else MODEL)
        assert rates is not None
        assert billed.answers == 40
        assert billed.cached_tokens > 0
        plain = billed.input_tokens - billed.cached_tokens
        charged = plain * rates.input + billed.cached_tokens * rates.cache_read
        charged += billed.output_tokens * rates.output
        assert run.spending.reported == charged
        assert run.spending.uncertain == 0
        assert sum(row.cost_pico or 0 for _, row in results) == charged
        assert {row.cost_source for _, row in results} == {"reported"}

    asyncio.run(main())


def test_a_stream_that_does_not_ask_for_usage_is_booked_at_its_bound_and_shown_as_an_estimate() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server, max_tokens=100, stream_usage=False) as model:
                run = a_run(2, ledger=Ledger(PICO), prices=PriceBook())
                [(_, row)] = await all_rows(run, [lambda: said(model, "hello there", stream=True)])
                rates, billed = PriceBook().rates(MODEL), server.billed_unseen
        assert rates is not None
        charged = billed.input_tokens * rates.input + billed.output_tokens * rates.output
        assert run.spending.reported == 0
        assert charged < run.spending.uncertain
        assert row.cost_source == "estimated"
        assert 0 < row.cost_pico < run.spending.uncertain

    asyncio.run(main())


@pytest.mark.parametrize("ending", [replies.cut_body(), replies.error_in_stream()], ids=["cut", "error"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_that_broke_off_may_have_cost_more_than_it_had_counted_until_then(
    shape: str, ending: replies.Reply
) -> None:
    def script(request: replies.Request) -> replies.Reply:
        return replace(ending, text="word " * 60) if request.stream else replies.ok("short")

    async def main() -> None:
        with Loopback(script=script) as server:
            async with model_of(shape, server) as model:
                run = a_run(1, ledger=Ledger(PICO), prices=PriceBook())
                [(result, _)] = await all_rows(run, [lambda: _streamed_then_whole(model)])
                assert result is None
                billed, unseen = server.billed, server.billed_unseen
                rates = PriceBook().rates(CLAUDE if shape == "anthropic" else MODEL)
        assert rates is not None

        def dollars(bill: Any) -> int:
            return int(bill.input_tokens * rates.input + bill.output_tokens * rates.output)

        assert (billed.answers, unseen.answers) == (1, 1)
        assert run.spending.reported == dollars(billed)
        assert run.spending.reported + run.spending.uncertain >= dollars(billed) + dollars(unseen)

    asyncio.run(main())


async def _streamed_then_whole(model: Any) -> None:
    with contextlib.suppress(Exception):
        await said(model, "hello", stream=True)
    await said(model, "hello again", stream=False)
