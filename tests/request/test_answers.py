"""What is read from answers, whole and streamed: usage with its details, cuts, refusals, and whether it is one."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import SimpleChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.providers import CutAnswer, FilteredAnswer
from cottonpalm.providers.answer import Answer, read_bytes
from cottonpalm.providers.paths import ANTHROPIC, COHERE, GOOGLE, OPENAI_CHAT, family_of
from cottonpalm.testing import FlakyTransport, Flaw
from cottonpalm.types import Kind, Outcome, Usage
from tests.request.forms import Label
from tests.request.kit import a_run, anthropic, in_flight, one, openai
from tests.support import replies
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
RESPONSES, OLLAMA = family_of("/v1/responses"), family_of("/api/chat")


def read(family: Any, body: Any) -> Answer:
    return read_bytes(family, json.dumps(body).encode())


def chat(finish: str = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "some text", **message}
    return {"model": "m-1", "choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def response(status: str = "completed", part: Any = None, **more: Any) -> dict[str, Any]:
    parts = [part or {"type": "output_text", "text": "some text"}]
    return {"model": "m-1", "status": status, "output": [{"type": "message", "content": parts}], **more}


def message(stop: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {
        "model": "c-1",
        "content": [{"type": "text", "text": "some text"}],
        "stop_reason": stop,
        "usage": usage,
    }


def gemini(finish: str = "STOP", **more: Any) -> dict[str, Any]:
    parts = {"parts": [{"text": "some text"}]}
    return {"candidates": [{"content": parts, "finishReason": finish}], "modelVersion": "g-1", **more}


@pytest.mark.parametrize(
    ("family", "body", "usage"),
    [
        (
            OPENAI_CHAT,
            chat(
                usage={
                    "prompt_tokens": 100,
                    "completion_tokens": 20,
                    "prompt_tokens_details": {"cached_tokens": 30},
                    "completion_tokens_details": {"reasoning_tokens": 11},
                }
            ),
            Usage(100, 20, 30, 0, 11),
        ),
        (  # xAI
            OPENAI_CHAT,
            chat(
                usage={
                    "prompt_tokens": 12,
                    "completion_tokens": 1,
                    "total_tokens": 399,
                    "completion_tokens_details": {"reasoning_tokens": 386},
                }
            ),
            Usage(12, 387, 0, 0, 386),
        ),
        (  # Gemini at its OpenAI-compatible address
            OPENAI_CHAT,
            chat(usage={"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}),
            Usage(20, 603),
        ),
        (
            OPENAI_CHAT,
            chat(usage={"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 10**12}),
            Usage(20, 9),
        ),
        (
            OPENAI_CHAT,  # a part that no request can have would cost billions, and no store could keep it
            chat(
                usage={
                    "prompt_tokens": 20,
                    "completion_tokens": 9,
                    "prompt_tokens_details": {"cached_tokens": 10**18, "cache_write_tokens": 1 << 32},
                    "completion_tokens_details": {"reasoning_tokens": 10**20},
                }
            ),
            Usage(20, 9),
        ),
        (OPENAI_CHAT, chat(usage={"prompt_tokens": 100, "prompt_cache_hit_tokens": 4}), Usage(100, 0, 4)),
        (OPENAI_CHAT, chat(usage={"prompt_tokens": "many", "completion_tokens": -1}), Usage()),
        (OPENAI_CHAT, chat(), None),
        (
            RESPONSES,
            response(
                usage={
                    "input_tokens": 12,
                    "output_tokens": 1,
                    "total_tokens": 399,
                    "output_tokens_details": {"reasoning_tokens": 386},
                }
            ),
            Usage(12, 387, 0, 0, 386),
        ),
        (
            RESPONSES,
            response(
                usage={
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "input_tokens_details": {"cached_tokens": 30},
                    "output_tokens_details": {"reasoning_tokens": 11},
                }
            ),
            Usage(100, 20, 30, 0, 11),
        ),
        (
            ANTHROPIC,
            message(
                input_tokens=50, output_tokens=20, cache_read_input_tokens=30, cache_creation_input_tokens=7
            ),
            Usage(87, 20, 30, 7),
        ),
        (
            GOOGLE,
            gemini(
                usageMetadata={
                    "promptTokenCount": 90,
                    "toolUsePromptTokenCount": 10,
                    "candidatesTokenCount": 9,
                    "thoughtsTokenCount": 11,
                    "cachedContentTokenCount": 30,
                }
            ),
            Usage(100, 20, 30, 0, 11),
        ),
        (
            OLLAMA,
            {
                "model": "l",
                "message": {"content": "x"},
                "done": True,
                "prompt_eval_count": 5,
                "eval_count": 2,
            },
            Usage(5, 2),
        ),
    ],
)
def test_usage_is_read_with_its_details(family: Any, body: Any, usage: Usage | None) -> None:
    answer = read(family, body)
    assert answer.complete
    assert answer.usage == usage


@pytest.mark.parametrize(
    ("family", "body", "stop"),
    [
        (OPENAI_CHAT, chat(), None),
        (OPENAI_CHAT, chat("tool_calls"), None),
        (OPENAI_CHAT, chat("length"), "cut"),
        (OPENAI_CHAT, chat("content_filter"), "filtered"),
        (OPENAI_CHAT, chat(content=None, refusal="I cannot"), "filtered"),
        (OPENAI_CHAT, chat("sensitive"), "filtered"),  # Zhipu
        (OPENAI_CHAT, chat("model_context_window_exceeded"), "cut"),  # Zhipu
        (RESPONSES, response(), None),
        (RESPONSES, response("incomplete", incomplete_details={"reason": "max_output_tokens"}), "cut"),
        (RESPONSES, response("incomplete", incomplete_details={"reason": "content_filter"}), "filtered"),
        (RESPONSES, response(part={"type": "refusal", "refusal": "I cannot"}), "filtered"),
        (ANTHROPIC, message(), None),
        (ANTHROPIC, message("tool_use"), None),
        (ANTHROPIC, message("max_tokens"), "cut"),
        (ANTHROPIC, message("refusal"), "filtered"),
        (GOOGLE, gemini(), None),
        (GOOGLE, gemini("MAX_TOKENS"), "cut"),
        (GOOGLE, gemini("SAFETY"), "filtered"),
        (GOOGLE, {"promptFeedback": {"blockReason": "SAFETY"}}, "filtered"),
        (OLLAMA, {"message": {"content": "some text"}, "done": True, "done_reason": "length"}, "cut"),
    ],
)
def test_cut_and_filtered_answers_are_told_from_whole_ones(family: Any, body: Any, stop: str | None) -> None:
    answer = read(family, body)
    assert answer.complete
    assert answer.stop == stop
    if stop == "cut":
        assert answer.text == "some text"


GIVEN_UP = ["insufficient_system_resource", "network_error", "abort", "error"]


def outcome_over(network: FlakyTransport) -> Outcome:
    client = httpx.AsyncClient(transport=network)
    model = ChatOpenAI(model="m-1", base_url="http://h.test/v1", api_key="sk-test", http_async_client=client)
    processor = BatchProcessor(model | StrOutputParser(), retry=RetryPolicy(retries=1, base_s=0.01))
    processor.batch(["hi"], return_exceptions=True)
    [outcome] = processor.last_run.outcomes()
    return outcome


@pytest.mark.parametrize("reason", GIVEN_UP)
def test_half_an_answer_that_the_server_gave_up_is_paid_and_asked_for_again(reason: str) -> None:
    half = chat(reason, {"prompt_tokens": 1000, "completion_tokens": 3})
    outcome = outcome_over(FlakyTransport(half, "the whole text"))
    assert (outcome.status, outcome.output, outcome.attempts) == ("ok", "the whole text", 2)
    assert outcome.usage.input_tokens > 1000


def test_half_an_answer_that_stays_so_fails_its_row_and_says_why() -> None:
    outcome = outcome_over(FlakyTransport(then=lambda _: chat("network_error")))
    assert (outcome.status, outcome.attempts, outcome.error.kind) == ("failed", 2, Kind.TRANSIENT)
    assert outcome.error.message == "the answer of h.test/m-1 was not finished by the server (network_error)"


@pytest.mark.parametrize("reason", GIVEN_UP)
def test_a_stream_that_the_server_gave_up_is_no_whole_answer(reason: str) -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "some"}, "finish_reason": reason}]}
    answer = read_bytes(OPENAI_CHAT, b"data: " + json.dumps(piece).encode() + b"\n\ndata: [DONE]")
    assert not answer.complete
    assert answer.gave_up == reason


def test_what_moonshot_counts_in_the_last_choice_of_a_stream_is_read() -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 5}
    lines = [
        {"choices": [{"index": 0, "delta": {"content": "some text"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}]},
    ]
    content = b"\n".join(b"data: " + json.dumps(line).encode() for line in lines)
    answer = read_bytes(OPENAI_CHAT, content + b"\ndata: [DONE]")
    assert (answer.complete, answer.usage) == (True, Usage(9, 4, 5))


@pytest.mark.parametrize("family", [OPENAI_CHAT, RESPONSES, ANTHROPIC, GOOGLE, OLLAMA])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"<html>busy</html>", b"[]", b"{}", b'"x"', b"null", b"data: {"]
)
def test_what_is_no_answer_is_not_complete(family: Any, content: bytes) -> None:
    assert not read_bytes(family, content).complete


def test_a_streamed_response_is_read_from_its_last_event() -> None:
    whole = response(
        "incomplete", incomplete_details={"reason": "max_output_tokens"}, usage={"input_tokens": 4}
    )
    lines = [
        b"event: response.output_text.delta",
        b'data: {"type":"response.output_text.delta","delta":"some text"}',
        b"data: " + json.dumps({"type": "response.incomplete", "response": whole}).encode(),
    ]
    answer = read_bytes(RESPONSES, b"\n".join(lines))  # type: ignore[arg-type]
    assert answer.complete
    assert answer.stop == "cut"
    assert answer.usage == Usage(4)
    assert answer.text == "some text"


def test_anthropic_counts_input_in_the_first_event_and_output_in_the_last() -> None:
    events: list[Any] = [
        {
            "type": "message_start",
            "message": {"model": "c-1", "usage": {"input_tokens": 11, "output_tokens": 1}},
        },
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "some "}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "text"}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 20}},
        {"type": "message_stop"},
    ]
    answer = read_bytes(ANTHROPIC, b"\n".join(b"data: " + json.dumps(event).encode() for event in events))
    assert (answer.usage, answer.stop, answer.text) == (Usage(11, 20), "cut", "some text")


@pytest.mark.parametrize(
    ("family", "pieces"),
    [
        (
            OPENAI_CHAT,  # vLLM and others count in every piece, where they are asked to
            [
                {
                    "choices": [{"delta": {"content": "a"}}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
                }
            ],
        ),
        (
            ANTHROPIC,
            [{"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}],
        ),
        (GOOGLE, [gemini("", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 1})]),
    ],
    ids=["chat", "anthropic", "gemini"],
)
def test_what_a_stream_counted_before_it_broke_off_is_not_its_usage(family: Any, pieces: list[Any]) -> None:
    answer = read_bytes(family, b"\n".join(b"data: " + json.dumps(piece).encode() for piece in pieces))
    assert (answer.complete, answer.usage) == (False, None)


def test_gemini_and_ollama_streams_end_with_their_counts() -> None:
    pieces = [gemini(""), gemini("STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2})]
    for content in (
        json.dumps(pieces).encode(),
        b"\n".join(b"data: " + json.dumps(p).encode() for p in pieces),
    ):
        answer = read_bytes(GOOGLE, content)
        assert (answer.complete, answer.usage) == (True, Usage(3, 2))
    lines = [
        {"message": {"content": "a"}, "done": False},
        {"message": {"content": "b"}, "done": True, "eval_count": 2},
    ]
    answer = read_bytes(OLLAMA, b"\n".join(json.dumps(line).encode() for line in lines))  # type: ignore[arg-type]
    assert (answer.complete, answer.usage) == (True, Usage(0, 2))


@given(
    st.recursive(
        st.none() | st.integers() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "content",
                        "finish_reason",
                        "usage",
                        "output",
                        "status",
                        "error",
                        "candidates",
                        "usageMetadata",
                        "delta",
                        "type",
                        "response",
                        "parts",
                        "incomplete_details",
                        "promptFeedback",
                        "code",
                        "prompt_tokens_details",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_without_an_exception(value: Any) -> None:
    content = json.dumps(value).encode()
    for family in (OPENAI_CHAT, RESPONSES, ANTHROPIC, GOOGLE, OLLAMA, COHERE):
        assert family is not None
        read_bytes(family, content)
        read_bytes(family, b"data: " + content + b"\n")


OLLAMAS_END = {
    "model": "m-1",
    "done": True,
    "done_reason": "length",
    "prompt_eval_count": 5,
    "eval_count": 7,
}
OF_TEXT = {"prompt_tokens": 5, "completion_tokens": 7}


@pytest.mark.parametrize(
    ("path", "body", "stream"),
    [
        (
            "/v1/completions",
            {"model": "m-1", "choices": [{"text": "half", "finish_reason": "length"}], "usage": OF_TEXT},
            [
                b'data: {"model": "m-1", "choices": [{"text": "ha", "finish_reason": null}]}',
                b'data: {"model": "m-1", "choices": [{"text": "lf", "finish_reason": "length"}]}',
                b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}',
                b"data: [DONE]",
            ],
        ),
        (
            "/api/generate",
            {"response": "half", **OLLAMAS_END},
            [
                b'{"model": "m-1", "response": "half", "done": false}',
                json.dumps({"response": "", **OLLAMAS_END}).encode(),
            ],
        ),
    ],
    ids=["openai", "ollama"],
)
def test_text_for_text_is_read_as_messages_are(path: str, body: Any, stream: list[bytes]) -> None:
    family = family_of(path)
    reader = family.stream()
    for line in stream:
        reader.feed(line)
    for answer in (read(family, body), reader.answer()):
        assert (answer.complete, answer.usage, answer.stop, answer.text) == (True, Usage(5, 7), "cut", "half")
        assert answer.model == "m-1"
    assert not read(family, {"id": "x"}).complete


def cohere(finish: str = "COMPLETE", text: str = "half", **usage: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    message = {"role": "assistant", "content": content}
    return {"id": "x", "finish_reason": finish, "message": message, "usage": usage}


OF_COHERE = {
    "billed_units": {"input_tokens": 5.0, "output_tokens": 7.0},
    "tokens": {"input_tokens": 71, "output_tokens": 7},
}
ENDED = {"finish_reason": "MAX_TOKENS", "usage": OF_COHERE}
OF_OLD = {"text": "half", "finish_reason": "MAX_TOKENS", "meta": OF_COHERE}


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (
            cohere("MAX_TOKENS", **OF_COHERE),
            [
                b"event: content-delta",
                b'data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"ha"}}}}',
                b'data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"lf"}}}}',
                b"data: " + json.dumps({"type": "message-end", "delta": ENDED}).encode(),
                b"data: [DONE]",
            ],
        ),
        (
            OF_OLD,
            [
                b'{"is_finished": false, "event_type": "text-generation", "text": "half"}',
                json.dumps(
                    {"event_type": "stream-end", "finish_reason": "MAX_TOKENS", "response": OF_OLD}
                ).encode(),
            ],
        ),
    ],
    ids=["v2", "v1"],
)
def test_of_cohere_that_is_counted_what_is_billed(body: Any, stream: list[bytes]) -> None:
    reader = COHERE.stream()
    for line in stream:
        reader.feed(line)
    for answer in (read(COHERE, body), reader.answer()):
        assert (answer.complete, answer.usage, answer.stop, answer.text) == (True, Usage(5, 7), "cut", "half")


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        ({"tokens": {"input_tokens": 71, "output_tokens": 7}}, Usage(71, 7)),
        ({"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 71}}, Usage(71, 0)),
        ({"billed_units": {"input_tokens": 0.5, "output_tokens": "many"}}, Usage()),
        ({}, None),
    ],
)
def test_where_cohere_bills_no_tokens_those_of_its_model_count(usage: Any, read_as: Usage | None) -> None:
    assert read(COHERE, cohere(**usage)).usage == read_as


def test_how_an_answer_of_cohere_ended() -> None:
    calls = {"finish_reason": "TOOL_CALL", "message": {"role": "assistant", "tool_calls": [{"id": "t"}]}}
    assert (read(COHERE, calls).complete, read(COHERE, calls).stop) == (True, None)
    assert read(COHERE, cohere("ERROR_TOXIC")).stop == "filtered"
    assert not read(COHERE, {"id": "x", "message": {}}).complete
    assert not read(COHERE, {"finish_reason": "COMPLETE"}).complete
    broke = read(COHERE, cohere("TIMEOUT"))
    assert broke.error is not None
    assert not broke.complete
    reader = COHERE.stream()  # the SDK raises nothing there
    reader.feed(b'data: {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "oops"}}')
    assert (reader.answer().complete, reader.answer().error) == (False, None)


def test_each_request_to_cohere_is_sent_once_for_each_try_and_counted() -> None:
    network = FlakyTransport(500, cohere("ERROR"), cohere(text="fine", **OF_COHERE), then=lambda _: 500)

    async def by_sdk(text: str) -> str:  # it sends a failing request three times
        body = {"model": "m-1", "messages": [{"role": "user", "content": text}], "stream": False}
        async with httpx.AsyncClient(transport=network) as client:
            for _ in range(3):
                response = await client.post("http://cohere.test/v2/chat", json=body)
                if response.status_code == 200:
                    return str(response.json()["message"]["content"][0]["text"])
        response.raise_for_status()
        raise AssertionError

    processor = BatchProcessor(
        RunnableLambda(by_sdk), retry=RetryPolicy(base_s=0.01), prices={"m-1": (1.0, 2.0)}
    )
    assert processor.batch(["hi"]) == ["fine"]
    [outcome] = processor.last_run.outcomes()
    assert outcome.attempts == len(network.requests) == 3
    assert outcome.cost_usd > (5 + 7 * 2) / 1e6  # and what the broken one may have cost
    processor.batch(["never"], return_exceptions=True)
    [outcome] = processor.last_run.outcomes()
    assert outcome.error.kind is Kind.TRANSIENT
    assert outcome.attempts == len(network.requests) - 3 == 4


STRUCTURED = [
    ("plain", lambda model: model | StrOutputParser()),
    ("json_schema", lambda model: model.with_structured_output(Label, method="json_schema")),
    ("function_calling", lambda model: model.with_structured_output(Label, method="function_calling")),
    ("json_mode", lambda model: model.with_structured_output(Label, method="json_mode")),
    ("include_raw", lambda model: model.with_structured_output(Label, include_raw=True)),
]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replies.cut_by_length("half"), CutAnswer),
        (replies.filtered(), FilteredAnswer),
        (replies.refused(), FilteredAnswer),
    ],
    ids=["cut", "filtered", "refused"],
)
@pytest.mark.parametrize(("name", "make"), STRUCTURED, ids=[name for name, _ in STRUCTURED])
@pytest.mark.parametrize("vendor", [openai, anthropic], ids=["openai", "anthropic"])
def test_such_an_answer_passes_sdk_and_parser_unwrapped_and_unretried(
    vendor: Any, name: str, make: Any, reply: Any, error: type
) -> None:
    if vendor is anthropic and (name == "json_mode" or reply.finish == "filter"):
        pytest.skip("Anthropic has no such thing")

    async def main() -> None:
        with Loopback(script=[reply]) as server:
            async with vendor(server) as model:
                chain = make(model)
                result, row = await one(a_run(), 0, lambda: chain.ainvoke("hi"))
                assert isinstance(result, error), repr(result)
                assert server.requests == row.attempts == 1
                assert row.usage is not None

    asyncio.run(main())


AN_SDK: Final = """
import httpx

def create(url, body):
    for left in (2, 1, 0):
        try:
            response = httpx.Client().send(httpx.Request("POST", url, json=body))
        except Exception as error:
            if not left:
                raise ConnectionError("Connection error.") from error
        else:
            response.raise_for_status()
            return response.json()
"""


class BySdk(SimpleChatModel):
    """A model whose SDK takes any exception for a broken connection: groq's, fireworks', perplexity's, old ones."""

    url: str

    @property
    def _llm_type(self) -> str:
        return "by-sdk"

    def _call(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> str:
        sdk: dict[str, Any] = {"__name__": "an_sdk._base_client"}
        exec(AN_SDK, sdk)
        question = [{"role": "user", "content": messages[-1].content}]
        answer = sdk["create"](self.url + "/chat/completions", {"model": "m-1", "messages": question})
        return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("reply", "kind", "name"),
    [
        (replies.cut_by_length("half"), Kind.DEGRADE, "CutAnswer"),
        (replies.filtered(), Kind.FAIL_ROW, "FilteredAnswer"),
    ],
    ids=["cut", "filtered"],
)
def test_such_an_answer_is_asked_once_of_an_sdk_that_lets_no_exception_through(
    reply: Any, kind: Kind, name: str
) -> None:
    with Loopback(script=lambda _: reply) as server:
        processor = BatchProcessor(BySdk(url=server.openai_url) | StrOutputParser())
        processor.batch(["hi"], return_exceptions=True)
        [outcome] = processor.last_run.outcomes()
        assert server.requests == outcome.attempts == 1
        assert outcome.error.kind is kind
        assert outcome.error.message.startswith(f"{name}: ")
        assert outcome.output == ("half" if name == "CutAnswer" else "")


SPEAKEASYS: Final = """
import httpx

def retry(client, url, body):
    asked.append(url)
    try:
        response = client.post(url, json=body)
    except (httpx.NetworkError, httpx.TimeoutException):
        if len(asked) == 20:  # in truth, minutes later
            raise
        return retry(client, url, body)
    return retry(client, url, body) if response.status_code >= 500 and len(asked) < 20 else response
"""


@pytest.mark.parametrize(
    ("flaw", "words"),
    [(500, "500 Internal Server Error"), (Flaw.STALL, "The read operation timed out")],
    ids=["status", "lost"],
)
def test_an_sdk_that_asks_again_for_minutes_whatever_it_is_told_is_stopped_at_once(
    flaw: Any, words: str
) -> None:
    network = FlakyTransport(then=lambda _: flaw)
    sdk: dict[str, Any] = {"__name__": "an_sdk.utils.retries", "asked": []}
    exec(SPEAKEASYS, sdk)
    client = httpx.Client(transport=network, timeout=0.01)
    question = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
    chain = RunnableLambda(lambda _: sdk["retry"](client, "http://h.test/v1/chat/completions", question))
    processor = BatchProcessor(chain, retry=RetryPolicy(base_s=0.01))
    processor.batch(["hi"], return_exceptions=True)
    [outcome] = processor.last_run.outcomes()
    assert (len(sdk["asked"]), len(network.requests), outcome.attempts) == (2, 4, 4)
    assert outcome.error.kind is Kind.TRANSIENT
    assert outcome.error.message.startswith(words)


def test_the_chains_own_fallbacks_take_a_cut_answer() -> None:
    async def main() -> None:
        with Loopback(script=[replies.cut_by_length("half"), None]) as server:
            async with openai(server) as model:
                chain = model.with_fallbacks([model])
                result, row = await one(a_run(), 0, lambda: chain.ainvoke("hi"))
                assert result.content == "answer to: hi"
                assert row.attempts == 2
                assert row.partial == "half"

    asyncio.run(main())


def test_an_accepted_cut_answer_reaches_the_chain_as_the_sdk_gives_it() -> None:
    async def main() -> None:
        with Loopback(script=[replies.cut_by_length("half")]) as server:
            async with openai(server) as model:
                result, row = await one(a_run(accept_truncated=True), 0, lambda: model.ainvoke("hi"))
                assert result.content == "half"
                assert row.truncated

    asyncio.run(main())


def test_the_responses_api_is_read_through_the_real_stack() -> None:
    async def main() -> None:
        with Loopback(script=[replies.cut_by_length("half"), None]) as server:
            async with openai(server, use_responses_api=True) as model:
                cut, _ = await one(a_run(), 0, lambda: model.ainvoke("hi"))
                assert isinstance(cut, CutAnswer)
                whole, row = await one(a_run(), 0, lambda: model.ainvoke("hi"))
                assert whole.text == "answer to: hi"
                assert row.usage.output_tokens == whole.usage_metadata["output_tokens"]

    asyncio.run(main())


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}])
def test_an_answer_that_ends_within_a_character_is_one_and_costs_what_it_says(usage: Any) -> None:
    body = json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, **chat(usage=usage, content="\ud83d")}
    )

    async def main() -> None:
        with Loopback(lambda _: replies.Reply(raw=body)) as server:
            async with openai(server) as model:
                limits = a_run()
                result, row = await one(limits, 0, lambda: model.ainvoke("hi"))
                assert result.content == "\ud83d"
                assert (server.requests, in_flight(limits)) == (1, 0)
                assert row.usage == (Usage(5, 7) if usage else row.usage)

    asyncio.run(main())


def ollama(**counts: Any) -> dict[str, Any]:
    return {"model": "o-1", "message": {"content": "some text"}, "done": True, **counts}


USAGES: list[tuple[Any, Any, tuple[str, str]]] = [
    (OPENAI_CHAT, lambda told: chat(usage=told), ("prompt_tokens", "completion_tokens")),
    (RESPONSES, lambda told: response(usage=told), ("input_tokens", "output_tokens")),
    (ANTHROPIC, lambda told: message(**told), ("input_tokens", "output_tokens")),
    (GOOGLE, lambda told: gemini(usageMetadata=told), ("promptTokenCount", "candidatesTokenCount")),
    (OLLAMA, lambda told: ollama(**told), ("prompt_eval_count", "eval_count")),
]
NONSENSE = [(-5, 7), (5, -7), (-5, -7), (0, 0), (2.5, 7), ("5", 7), (True, 7), (1 << 40, 7), (5, 1 << 62)]


@pytest.mark.parametrize("told", NONSENSE, ids=str)
@pytest.mark.parametrize(("family", "body", "names"), USAGES, ids=["chat", "responses", "claude", "g", "o"])
def test_counts_that_no_request_can_have_are_no_usage(
    family: Any, body: Any, names: tuple[str, str], told: tuple[Any, Any]
) -> None:
    content = json.dumps(body(dict(zip(names, told, strict=True)))).encode()
    found = read_bytes(family, content)
    assert found.usage is None or not found.usage.counted
    assert found.text_wanted, "its cost is estimated by it"
    [half, whole] = [read(family, body({names[0]: 5, names[1]: n})).usage for n in (0, 7)]
    assert half is not None
    assert whole is not None
    assert (half.output_tokens, whole.output_tokens) == (0, 7)
