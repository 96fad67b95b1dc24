"""A network that fails in every way, under a real model class: what is tried again, and what a row is told."""

import json

import httpx
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.testing import FlakyTransport, Flaw

what_happens = {
    "first": iter(
        [
            500,  # a hiccup
            Flaw.DROP,  # the connection closes before the answer
            (429, {"retry-after-ms": "50"}),  # too many requests: everybody waits so long
            Flaw.CUT,  # the connection closes half-way through the answer
            "at last",
        ]
    ),
    "second": iter([400]),  # a bad request: asking again would not help
    "third": iter([None]),  # an ordinary answer
}


def script(request: httpx.Request) -> object:
    """The next thing that happens to a request with this question."""
    question = json.loads(request.content)["messages"][-1]["content"]
    return next(what_happens[question])


network = httpx.AsyncClient(transport=FlakyTransport(then=script))
model = ChatOpenAI(model="gpt-4o-mini", api_key="none", http_async_client=network)
processor = BatchProcessor(model | StrOutputParser(), retry=RetryPolicy(base_s=0.01))

processor.batch(list(what_happens), return_exceptions=True)
for outcome in processor.last_run.outcomes():
    if outcome.error is None:
        print(f"{outcome.input}: {outcome.output!r} after {outcome.attempts} requests")
    else:
        print(f"{outcome.input}: {outcome.error.kind}, {outcome.error.type}")
