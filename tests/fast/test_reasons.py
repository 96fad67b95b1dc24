"""Which requests go by their SDK although the fast transport is wanted, and what the report says of it."""

from __future__ import annotations

import asyncio
import functools
import json
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, Mock

import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai.chat_models.base import BaseChatOpenAI
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion

from cottonpalm import BatchProcessor
from tests.fast.cases import PROMPT, chat, claude, openai, said
from tests.fast.wires import Server, wire
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = [{"text": f"row {number}"} for number in range(4)]


@dataclass
class Odd:
    """No JSON."""


FIRST = "stock: the model's first request"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(wire=wire(chat())) as server:
        yield server


class Signing(httpx2.AsyncClient):
    """A client of somebody's that does more than to send."""

    async def send(self, request: Any, **options: Any) -> Any:
        request.headers["X-Signed"] = "yes"
        return await super().send(request, **options)


async def _noted(request: Any) -> None:
    """Somebody's hook."""


def _own(**options: Any) -> Callable[[str], Any]:
    return lambda url: openai(url, http_async_client=httpx2.AsyncClient(**options))


def _echo(_: Any) -> Any:
    return httpx2.Response(200, json=chat())


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (openai, ""),
        (_own(limits=httpx2.Limits(max_connections=3)), ""),
        (_own(event_hooks={"request": [_noted]}), "its HTTP client has event hooks"),
        (
            _own(transport=httpx2.MockTransport(_echo)),
            "its HTTP client has a transport or a proxy of its own",
        ),
        (_own(auth=("me", "secret")), "its HTTP client uses a proxy, mounts or an auth of its own"),
        (
            lambda url: openai(url, http_async_client=Signing()),
            "Signing.send is not its library's own",
        ),
        (lambda url: openai(url, use_responses_api=True), "the Responses API"),
        (lambda url: openai(url, include_response_headers=True), "its results hold more than the answer"),
    ],
    ids=["plain", "limits", "event hooks", "a transport", "an auth", "a send", "Responses", "its headers"],
)
def test_what_is_not_a_plain_client_and_answer_goes_by_its_sdk(
    server: Server, made: Callable[[str], Any], why: str
) -> None:
    async def main() -> dict[str, int]:
        processor = BatchProcessor(
            PROMPT | made(server.url), transport="fast", concurrency=1, retry=0, max_failures=1.0
        )
        async with processor.astart(ROWS) as run:
            async for _ in run:
                pass
        return dict(run.report.transports)

    found = asyncio.run(main())
    assert found.pop(FIRST) == 1
    assert found == ({f"stock: {why}": 3} if why else {"fast": 3})


@pytest.mark.parametrize(
    ("made", "kind", "answer"), [(openai, BaseChatOpenAI, chat()), (claude, ChatAnthropic, said())]
)
def test_a_model_of_a_langchain_that_knows_no_gateway_is_carried(
    made: Callable[[str], Any], kind: type, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_before(model: Any) -> Any:
        raise AttributeError(f"{type(model).__name__} has no _uses_gateway")

    monkeypatch.setattr(kind, "_uses_gateway", property(of_before), raising=False)

    async def main() -> dict[str, int]:
        with Server(wire=wire(answer)) as provider:
            processor = BatchProcessor(PROMPT | made(provider.url), transport="fast", concurrency=1)
            async with processor.astart(ROWS) as run:
                async for _ in run:
                    pass
            return dict(run.report.transports)

    assert asyncio.run(main())["fast"] == 3


@pytest.mark.parametrize(
    ("told", "is_as"),
    [("9400111899223100001234", int), ("-9223372036854775809", int), ("1e30", float), ("0.5", float)],
)
def test_numbers_of_a_tools_call_keep_all_their_digits(told: str, is_as: type) -> None:
    call = {"type": "tool_use", "id": "tool_1", "name": "track", "input": {"number": 7.5}}
    body = json.dumps(said([call], stop="tool_use"))

    async def main() -> Any:
        with Server(wire=wire(body.encode())) as provider:
            processor = BatchProcessor(PROMPT | claude(provider.url), transport="fast", concurrency=1)
            await processor.abatch(ROWS)  # the shape of the answers is known from here on
            provider.wire = wire(body.replace("7.5", told).encode())
            return await processor.abatch(ROWS)

    numbers = [answer.tool_calls[0]["args"]["number"] for answer in asyncio.run(main())]
    assert numbers == [json.loads(told)] * 4
    assert {type(number) for number in numbers} == {is_as}


@pytest.mark.parametrize(
    ("made", "answer"), [(openai, chat(finish={"why": "stop"})), (claude, said(stop=["end_turn"]))]
)
def test_an_answer_with_an_object_in_place_of_a_word_is_as_its_sdk_makes_it(
    made: Callable[[str], Any], answer: dict[str, Any]
) -> None:
    async def main(transport: Any) -> list[Any]:
        with Server(wire=wire(answer)) as provider:
            processor = BatchProcessor(PROMPT | made(provider.url), transport=transport, concurrency=1)
            return [message.response_metadata for message in await processor.abatch(ROWS)]

    assert asyncio.run(main("fast")) == asyncio.run(main("stock"))


@pytest.mark.parametrize("changed", ["the HTTP client's header", "the organization", "the address"])
def test_what_a_user_changes_on_a_client_holds_from_the_next_row_on(server: Server, changed: str) -> None:
    http = httpx2.AsyncClient(headers={"X-Token": "0"})
    model = openai(server.url, http_async_client=http)

    def change(row: dict[str, str]) -> dict[str, str]:
        number = row["text"].removeprefix("row ")
        match changed:
            case "the organization":
                model.root_async_client.organization = number
            case "the address":
                model.root_async_client.base_url = f"{server.url}/{number}/v1"
            case _:
                http.headers["X-Token"] = number
        return row

    before = len(server.sent)
    asyncio.run(_all_rows(RunnableLambda(change) | PROMPT | model))
    seen = server.sent[before:]
    told = {
        "the organization": [one.headers.get("openai-organization") for one in seen],
        "the address": [one.line.split("/")[1] for one in seen],
        "the HTTP client's header": [one.headers.get("x-token") for one in seen],
    }
    assert told[changed] == ["0", "1", "2", "3"]


MOCKED = chat({"content": "by the mock"})


@pytest.mark.parametrize(
    ("patched", "name"),
    [
        (lambda _: httpx2.AsyncHTTPTransport, "handle_async_request"),
        (lambda model: model.root_async_client._client._transport, "handle_async_request"),
        (lambda _: httpx2.AsyncClient, "_send_single_request"),
    ],
    ids=["all transports", "one transport", "all clients"],
)
def test_a_mock_below_the_sdk_answers_every_row_while_it_is_there(
    server: Server, patched: Callable[[Any], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mock(*_: Any) -> Any:
        return httpx2.Response(200, json=MOCKED, request=httpx2.Request("POST", "http://provider"))

    async def main() -> tuple[list[str], dict[str, int]]:
        model = openai(server.url, timeout=78)  # an HTTP client of its own
        processor = BatchProcessor(PROMPT | model, transport="fast", concurrency=1)
        await processor.abatch(ROWS)  # all is learnt
        with monkeypatch.context() as patch:
            patch.setattr(patched(model), name, mock)
            before = len(server.sent)
            mocked = await processor.abatch(ROWS)
            assert len(server.sent) == before
        async with processor.astart(ROWS) as run:
            after = [outcome.output async for outcome in run]
        assert [message.content for message in after] == ["an answer"] * 4
        return [message.content for message in mocked], dict(run.report.transports)

    assert asyncio.run(main()) == (["by the mock"] * 4, {"fast": 4})


@pytest.mark.parametrize(
    "patched", [lambda _: AsyncCompletions, lambda model: model.async_client], ids=["its class", "its object"]
)
def test_a_mock_of_the_sdk_is_asked_once_for_each_row(
    server: Server, patched: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = openai(server.url)
    answer = Mock(headers={}, parse=lambda: ChatCompletion.model_validate(MOCKED))
    create = AsyncMock(return_value=answer)
    monkeypatch.setattr(patched(model), "create", create)
    before = len(server.sent)
    messages = asyncio.run(BatchProcessor(PROMPT | model, transport="fast", concurrency=1).abatch(ROWS))
    assert [message.content for message in messages] == ["by the mock"] * 4
    assert (create.await_count, len(server.sent)) == (4, before)


def test_a_wrapper_with_the_name_of_what_it_wraps_sees_every_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = httpx2.AsyncHTTPTransport.handle_async_request, []

    @functools.wraps(original)
    async def traced(self: Any, request: Any) -> Any:
        seen.append(request)
        return await original(self, request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", traced)
    asyncio.run(_all_rows(PROMPT | openai(server.url)))
    assert len(seen) == 4


def test_a_function_call_that_lacks_a_field_is_as_its_sdk_makes_it() -> None:
    whole, part = (
        {"function_call": call} for call in ({"name": "f", "arguments": "{}"}, {"arguments": "{}"})
    )

    async def main(transport: Any) -> list[Any]:
        with Server(wire=wire(chat(whole))) as provider:
            processor = BatchProcessor(PROMPT | openai(provider.url), transport=transport, concurrency=1)
            await processor.abatch(ROWS)
            provider.wire = wire(chat(part))
            return [message.additional_kwargs for message in await processor.abatch(ROWS)]

    assert asyncio.run(main("fast")) == asyncio.run(main("stock"))


async def _all_rows(chain: Any) -> None:
    await BatchProcessor(chain, transport="fast", concurrency=1).abatch(ROWS)


@pytest.mark.parametrize("odd", [float("nan"), float("-inf"), date(2026, 1, 1), Odd()], ids=repr)
def test_what_the_sdk_refuses_to_send_is_not_sent(odd: object) -> None:
    def asked(row: dict[str, str]) -> list[Any]:
        called = {"name": "f", "args": {"x": 1.5 if row["text"] != "row 3" else odd}, "id": "c"}
        return [
            HumanMessage(row["text"]),
            AIMessage("", tool_calls=[called]),
            ToolMessage("1", tool_call_id="c"),
        ]

    async def main(transport: Any) -> tuple[list[str], int]:
        with Server(wire=wire(said())) as provider:
            chain = RunnableLambda(asked) | claude(provider.url)
            processor = BatchProcessor(chain, transport=transport, concurrency=1, retry=0, max_failures=1.0)
            answers = await processor.abatch(ROWS, return_exceptions=True)
            return [repr(answer) for answer in answers if isinstance(answer, Exception)], len(provider.sent)

    fast = asyncio.run(main("fast"))
    assert fast == asyncio.run(main("stock"))
    assert isinstance(odd, date) or fast[1] == 3, "nothing was sent for the last row"


def test_a_model_made_anew_for_each_row_goes_by_its_sdk(server: Server) -> None:
    async def asks(row: dict[str, str]) -> Any:
        return await openai(server.url).ainvoke(row["text"])

    async def main() -> dict[str, int]:
        async with BatchProcessor(RunnableLambda(asks), transport="fast", concurrency=1).astart(ROWS) as run:
            async for _ in run:
                pass
        return dict(run.report.transports)

    assert asyncio.run(main()) == {FIRST: 4}


@pytest.mark.parametrize("transport", ["fast", "stock"])
@pytest.mark.parametrize("stream", [True, False], ids=["by the run", "by the model"])
def test_streams_go_by_their_sdk_and_the_report_says_so(stream: bool, transport: Any) -> None:
    """They stood in no count, so that the report said nothing of how they were sent."""

    async def main() -> tuple[dict[str, int], str]:
        with Loopback() as server:
            model = openai("", base_url=server.openai_url, **({} if stream else {"streaming": True}))
            processor = BatchProcessor(PROMPT | model, transport=transport)
            async with processor.astart(ROWS, stream=stream) as run:
                async for _ in run:
                    pass
            return dict(run.report.transports), run.report.text()

    found, text = asyncio.run(main())
    assert found == ({"stock: a streamed answer": 4} if transport == "fast" else {})
    assert ("4 by the SDK (a streamed answer)" in text) is (transport == "fast")


@pytest.mark.parametrize("way", ["fast", "its SDK"])
def test_a_call_for_which_nothing_is_sent_counts_by_no_transport(way: str) -> None:
    async def main() -> tuple[dict[str, int], int]:
        with Server(wire=wire({"error": {"message": "no"}}, "400 Bad Request")) as server:
            model = openai(server.url) if way == "fast" else openai(server.url, use_responses_api=True)
            chain = PROMPT | model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
            processor = BatchProcessor(chain, transport="fast", concurrency=1, retry=0, max_failures=1.0)
            async with processor.astart(ROWS) as run:
                outcomes = [outcome async for outcome in run]
            assert [outcome.status for outcome in outcomes] == ["failed"] * 4
            return dict(run.report.transports), len(server.sent)

    found, sent = asyncio.run(main())
    assert sent == 4, "what failed for good is not asked again for the same row"
    assert sum(found.values()) == sent


def test_outside_of_a_run_a_model_is_its_own(server: Server) -> None:
    async def main() -> list[Any]:
        model = openai(
            server.url, timeout=77
        )  # for which LangChain makes an HTTP client that no other loop has used
        processor = BatchProcessor(PROMPT | model, transport="fast", concurrency=1)
        within = await processor.abatch(ROWS)
        seen = len(server.sent)
        without = [await model.ainvoke(row["text"]) for row in ROWS]
        by_httpx = [one.headers["accept-encoding"] != "gzip" for one in server.sent[seen:]]
        assert by_httpx == [True] * 4
        return [message.content for message in (*within, *without)]

    assert asyncio.run(main()) == ["an answer"] * 8
