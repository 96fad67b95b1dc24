"""A network that fails in every way, under a real model class: what is tried again, and what a row is told."""

import httpx
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.testing import FlakyTransport, Flaw

network = FlakyTransport(
    500,  # a hiccup
    Flaw.DROP,  # the connection closes before the answer
    (429, {"retry-after-ms": "50"}),  # too many requests: everybody waits so long
    Flaw.CUT,  # the connection closes half-way through the answer
    "at last",
    400,  # a bad request: asking again would not help
)
model = ChatOpenAI(
    model="gpt-4o-mini", api_key="none", http_async_client=httpx.AsyncClient(transport=network)
)
processor = BatchProcessor(model | StrOutputParser(), concurrency=1, retry=RetryPolicy(base_s=0.01))

processor.batch(["first", "second", "third"], return_exceptions=True)
for outcome in processor.last_run.outcomes():
    if outcome.error is None:
        print(f"row {outcome.index}: {outcome.output!r} after {outcome.attempts} requests")
    else:
        print(f"row {outcome.index}: {outcome.error.kind}, {outcome.error.type}")
