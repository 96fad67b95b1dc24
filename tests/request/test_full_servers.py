"""Servers that take so many requests at once, and say 503 to the others, over real sockets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support.loopback import Loopback
from tests.support.replies import Reply

if TYPE_CHECKING:
    from tests.support.replies import Request

pytestmark = pytest.mark.waits

ROOM, ROWS = 5, 400
PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"
BUSY = '{"error": "server busy, please try again. maximum pending requests exceeded"}'


CODED = '{"error": {"message": "The engine is overloaded", "type": "server_error", "code": null}}'


@pytest.mark.parametrize("said", [PAGE, BUSY, CODED], ids=["a proxy", "a full queue", "an overload of all"])
@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_a_server_that_says_503_when_it_is_full_is_learnt_like_one_that_says_429(
    said: str, transport: str
) -> None:
    seen: Counter[int] = Counter()

    def full(request: Request) -> Reply:
        reply = Reply() if request.in_flight <= ROOM else Reply(status=503, raw=said, delay_s=0.002)
        seen[reply.status] += 1
        return reply

    with Loopback(script=full, latency=0.03) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x", model="small")  # type: ignore[arg-type]
        with BatchProcessor(model, transport=transport).start([f"row {n}" for n in range(ROWS)]) as run:  # type: ignore[arg-type]
            outcomes = list(run)
    assert Counter(outcome.status for outcome in outcomes) == {"ok": ROWS}
    assert any("found from" in words for words in run.report.bound_by), run.report.bound_by
    assert seen[503] < ROWS / 4
