"""The user's own ceilings over real sockets: what nobody knows of an answer must not hold the rows up for minutes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Limits, RateLimit
from cottonpalm.request.limiter.rules.ceilings import WINDOW_S
from cottonpalm.testing import virtual_run
from tests.support.loopback import Loopback
from tests.support.replies import Reply, fails, no_usage, too_many

if TYPE_CHECKING:
    from tests.support.replies import Request, Script

pytestmark = pytest.mark.waits

ROWS = ["a", "b", "c"]
SOON_S = 20.0  # a minute each would be what a guess of a thousand tokens costs


def never_told(request: Request) -> Reply:
    return no_usage()


def only_tools(request: Request) -> Reply:
    return Reply(usage=False, tool=("look", {}))


SCRIPTS: dict[str, Script] = {
    "usage is told": None,
    "usage is never told": never_told,
    "usage is never told, and there is no text": only_tools,
    "the first is rejected": [too_many(retry_after_ms=1)],
    "the first ones fail": [fails(500), fails(500)],
    "one is refused for good": [fails(400)],
}


@pytest.mark.parametrize(
    ("said", "streaming"), [*((said, False) for said in SCRIPTS), ("usage is never told", True)]
)
def test_three_rows_of_ten_tokens_take_seconds_under_six_hundred_a_minute(said: str, streaming: bool) -> None:
    script = SCRIPTS[said]
    with Loopback(script=script, latency=0.05) as server:
        model = ChatOpenAI(
            base_url=server.openai_url, api_key="sk-x", model="small", max_retries=0, streaming=streaming
        )  # fmt: skip
        began = time.monotonic()
        outcomes = run(model, RateLimit(tokens_per_minute=600))
    assert time.monotonic() - began < SOON_S
    assert sum(outcome.status == "ok" for outcome in outcomes) == (2 if "for good" in said else 3)


@pytest.mark.parametrize(("words", "size", "seconds"), [("yes", 5, 0.0), ("yes " * 300, 305, 2 * WINDOW_S)])
def test_a_model_that_speaks_no_http_is_held_to_the_tokens_of_its_answers(
    words: str, size: int, seconds: float
) -> None:
    """Of six hundred a minute, small ones go at once; of three hundred and five, one in each minute."""
    processor = BatchProcessor(
        FakeListChatModel(responses=[words]), rate_limit=RateLimit(tokens_per_minute=600), limits=Limits()
    )

    async def main() -> float:
        await processor.abatch(ROWS)
        return asyncio.get_running_loop().time()

    assert virtual_run(main()) == pytest.approx(seconds, abs=0.5)
    assert processor.last_run is not None
    assert processor.last_run.stats.allowed_per_s == pytest.approx(10 / size)


def run(model: Any, rate_limit: RateLimit) -> list[Any]:
    with BatchProcessor(model, rate_limit=rate_limit, limits=Limits(), max_failures=1.0).start(ROWS) as rows:
        return list(rows)
