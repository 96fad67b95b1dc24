"""Chat models that send by clients we do not see: what they raise is judged by the status that it names."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import botocore.exceptions
import httpx
import pytest
import requests
from langchain_core.language_models import SimpleChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.config import RetryPolicy
from cottonpalm.providers import classify
from cottonpalm.types import Fault, Kind
from tests.support import replies
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.core
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)


def body(text: str) -> dict[str, Any]:
    return {"model": "own-1", "messages": [{"role": "user", "content": text}]}


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


def by_requests(url: str, text: str) -> str:
    response = requests.post(url, json=body(text), timeout=5)
    response.raise_for_status()
    return text_of(response.json())


def by_urllib(url: str, text: str) -> str:
    content, told = json.dumps(body(text)).encode(), {"content-type": "application/json"}
    request = urllib.request.Request(url, content, told)
    with urllib.request.urlopen(request, timeout=5) as response:
        return text_of(json.load(response))


def told_in_a_bare_exception(url: str, text: str) -> str:
    response = requests.post(url, json=body(text), timeout=5)
    try:
        response.raise_for_status()
    except requests.HTTPError:
        raise Exception("it did not work") from None
    return text_of(response.json())


def by_aiohttp(url: str, text: str) -> str:
    async def main() -> str:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(url, json=body(text)) as response,
        ):
            return text_of(await response.json())

    return asyncio.run(main())


class Own(SimpleChatModel):
    """A user's chat model."""

    ask: Any

    @property
    def _llm_type(self) -> str:
        return "own"

    def _call(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> str:
        return str(self.ask(messages[-1].content))


class OwnText(LLM):
    """The same in the old style: text in, text out."""

    ask: Any

    @property
    def _llm_type(self) -> str:
        return "own"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any) -> str:
        return str(self.ask(prompt))


@pytest.mark.parametrize("awaited", [False, True], ids=["batch", "abatch"])
@pytest.mark.parametrize("model", [Own, OwnText])
@pytest.mark.parametrize("ask", [by_requests, by_urllib, by_aiohttp, told_in_a_bare_exception])
def test_a_row_is_tried_again_after_what_may_pass_and_not_after_what_may_not(
    ask: Callable[[str, str], str], model: Any, awaited: bool
) -> None:
    again = {"busy": replies.too_many(0), "broken": replies.fails(500)}
    asked: set[str] = set()

    def reply(arrival: Any) -> Any:
        first = arrival.text not in asked
        asked.add(arrival.text)
        return replies.fails(400) if arrival.text == "bad" else again.get(arrival.text) if first else None

    with Loopback(script=reply) as server:
        url = f"{server.openai_url}/chat/completions"
        chain = model(ask=lambda text: ask(url, text)) | StrOutputParser()
        processor = BatchProcessor(chain, retry=QUICK)
        rows = ["busy", "fine", "broken", "bad"]
        if awaited:
            answers = asyncio.run(processor.abatch(rows, return_exceptions=True))
        else:
            answers = processor.batch(rows, return_exceptions=True)
        assert answers[:3] == ["answer to: busy", "answer to: fine", "answer to: broken"]
        assert isinstance(answers[3], Exception)
        assert [server.counts[row] for row in rows] == [2, 1, 2, 1]
        assert [outcome.error and outcome.error.kind for outcome in processor.last_run.outcomes()] == [
            None,
            None,
            None,
            Kind.FAIL_ROW,
        ]


def raised_by(model: Any) -> Fault:
    try:
        model.invoke("hi")
    except Exception as exc:
        return classify(exc)
    raise AssertionError("it raises")


def raises(exc: Exception) -> Callable[[str], str]:
    def ask(_: str) -> str:
        raise exc

    return ask


def refused(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    response._content = json.dumps({"error": {"message": "of the server", "code": None}}).encode()
    return requests.HTTPError("of the client", response=response)


def test_its_wait_and_its_words_are_read() -> None:
    fault = raised_by(Own(ask=raises(refused(429, Retry_After="7"))))
    assert (fault.kind, fault.retry_after_s) == (Kind.THROTTLE, 7.0)
    assert (fault.type, fault.message) == ("HTTPError", "429 Too Many Requests: of the server")


def test_a_key_that_is_refused_stops_the_run() -> None:
    assert raised_by(Own(ask=raises(refused(401)))).kind is Kind.STOP_RUN


def test_the_status_of_an_aws_error_counts_where_its_code_is_not_known() -> None:
    said = {"Error": {"Code": "429", "Message": "slow"}, "ResponseMetadata": {"HTTPStatusCode": 429}}
    assert raised_by(Own(ask=raises(botocore.exceptions.ClientError(said, "Converse")))).kind is Kind.THROTTLE


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Too many tokens per day, please wait before trying again.", Kind.STOP_RUN),
        ("Too many tokens, please wait before trying again.", Kind.THROTTLE),
    ],
)
def test_a_quota_of_a_day_that_is_used_up_at_bedrock_is_no_limit_that_passes(
    message: str, kind: Kind
) -> None:
    said = {
        "Error": {"Code": "ThrottlingException", "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 429},
    }
    assert raised_by(Own(ask=raises(botocore.exceptions.ClientError(said, "Converse")))).kind is kind


def test_a_status_is_of_a_model_only_where_a_model_raised_it() -> None:
    assert raised_by(RunnableLambda(raises(refused(429)))).kind is Kind.FAIL_ROW

    def aside(text: str) -> str:
        try:
            raise refused(401)  # of a search, say, without which it goes on
        except requests.HTTPError:
            return Own(ask=raises(KeyError("a mistake"))).invoke(text).text

    assert raised_by(RunnableLambda(aside)).kind is Kind.FAIL_ROW


def test_a_number_that_is_no_status_of_an_error_tells_nothing() -> None:
    error = ValueError("no")
    error.code = 7  # type: ignore[attr-defined]
    assert raised_by(Own(ask=raises(error))).kind is Kind.FAIL_ROW


@pytest.mark.parametrize(
    "exc",
    [
        requests.ConnectionError("gone"),
        requests.ReadTimeout("late"),
        requests.exceptions.ChunkedEncodingError("half"),
        urllib.error.URLError(OSError("no route")),
        aiohttp.ClientPayloadError("half"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
        httpx.ReadTimeout("late"),
    ],
    ids=lambda exc: f"{type(exc).__module__}.{type(exc).__name__}",
)
def test_a_broken_connection_is_one_in_every_client(exc: Exception) -> None:
    assert classify(exc).kind is Kind.TRANSIENT
