"""The most that a request can use: what is counted, what is allowed for, and what is refused with what to set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cottonpalm.request.money.bounds import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    TOOLS_TOKENS,
    _seen,
    extent,
    text_input,
)
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.rules.rates import Extent
from tests.support.calls import recognise

pytestmark = pytest.mark.core
BOOK = PriceBook({"ours": (1.0, 2.0)})
HI = [{"role": "user", "content": "hi"}]
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"


def see(path: str = "/v1/chat/completions", **body: Any) -> tuple[Extent | str, int]:
    """What is made of a request, and the bytes of its body."""
    whole = {"model": "gpt-4o-mini", "max_tokens": 10, **body}
    if path == "/v1/chat/completions":
        whole.setdefault("messages", HI)
    call = recognise("POST", ("https", "h", None, path), {}, json.dumps(whole).encode())
    assert call is not None
    return extent(call, BOOK.tariff(call.model, call.url)), len(call.content)


def bound(path: str = "/v1/chat/completions", **body: Any) -> Extent:
    found, _ = see(path, **body)
    assert isinstance(found, Extent), found
    return found


def test_a_text_is_at_most_its_bytes_and_what_is_put_round_each_message() -> None:
    found, size = see(messages=HI * 3)
    assert found == Extent(size + 4 * MESSAGE_TOKENS, 10)


def test_a_text_that_only_speaks_of_files_and_tools_is_bounded_by_its_bytes() -> None:
    found, size = see(messages=[{"role": "user", "content": '"file_id": "x", "type": "mcp", "plugins": [1]'}])
    assert found == Extent(size + 2 * MESSAGE_TOKENS, 10)


def test_tools_and_images_have_an_allowance_and_images_the_rates_of_media() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    found, size = see(tools=tools)
    assert found == Extent(size + 2 * MESSAGE_TOKENS + TOOLS_TOKENS, 10)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    found, size = see(messages=[{"role": "user", "content": [image]}])
    assert isinstance(found, Extent)
    assert found.input_tokens >= size + IMAGE_TOKENS
    assert found.media


def test_audio_is_bounded_by_its_bytes_at_the_rates_of_media() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert bound(messages=[{"role": "user", "content": [audio]}]).media
    assert bound(modalities=["text", "audio"]).media


def test_each_of_several_answers_counts_whole() -> None:
    one, three = bound(), bound(n=3)
    assert three.output_tokens == 3 * one.output_tokens
    assert three.input_tokens > 3 * one.input_tokens


def test_each_of_several_prompts_has_answers_of_its_own() -> None:
    def text(**body: Any) -> Extent:
        return bound("/v1/completions", **body)

    one = text(prompt="hi")
    assert text(prompt=["hi"]).output_tokens == text(prompt=[1, 2, 3]).output_tokens == one.output_tokens
    assert text(prompt=["hi", "ho"], n=3).output_tokens == 6 * one.output_tokens
    assert text(prompt="hi", n=1, best_of=4).output_tokens == 4 * one.output_tokens


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "x", "previous_response_id": "r"}),
        ("/v1/responses", {"input": "x", "conversation": {"id": "c"}}),
        ("/v1/responses", {"input": "x", "conversation": "conv_1"}),
        ("/v1/responses", {"input": "x", "prompt": {"id": "p", "version": "2"}}),
        ("/v1/responses", {"input": [{"type": "input_file", "file_id": "f"}]}),
        (
            "/v1/chat/completions",
            {"messages": [{"content": [{"type": "file", "file": {"file_data": "QUJD"}}]}]},
        ),
        ("/v1/messages", {"messages": [{"content": [{"type": "document", "source": {"type": "base64"}}]}]}),
        (GEMINI, {"model": None, "contents": [{"parts": [{"fileData": {"fileUri": "gs://x"}}]}]}),
        (GEMINI, {"model": None, "contents": [], "cachedContent": "cachedContents/1"}),
    ],
)
def test_what_is_not_in_the_body_is_at_most_the_context_window(path: str, body: Any) -> None:
    whole = {"max_output_tokens": 10, "generationConfig": {"maxOutputTokens": 10}, **body}
    found = bound(path, **whole)
    assert found.input_tokens == (1_048_576 if path == GEMINI else 128_000)
    assert found.media, "nobody knows what is in there"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"model": "ours", "input": "x", "previous_response_id": "r"}, "context window is not known"),
        ({"input": "x", "tools": [{"type": "code_interpreter"}]}, "code_interpreter"),
        ({"input": "x", "tools": [{"type": "mcp", "server_url": "u"}]}, "mcp"),
        ({"input": "x", "tools": [{"type": "web_search_preview"}]}, "max_tool_calls"),
        ({"model": "ours", "input": "x", "max_tool_calls": 2, "tools": [{"type": "web_search"}]}, "fee"),
        ({"model": "ours", "input": "x", "max_output_tokens": None}, "--max-output-tokens"),
    ],
)
def test_what_cannot_be_bounded_says_what_to_set(body: Any, says: str) -> None:
    found, _ = see("/v1/responses", **{"max_output_tokens": 10, **body})
    assert isinstance(found, str)
    assert says in found


def test_searches_of_the_provider_may_read_the_window_anew_at_each_use_and_cost_their_fee() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]
    found = bound("/v1/messages", model="claude-haiku-4-5", messages=HI, tools=tools)
    assert (found.input_tokens, found.output_tokens, found.searches) == (4 * 200_000, 40, 3)
    rates = BOOK.rates("claude-haiku-4-5")
    assert rates is not None
    assert rates.bound(found) >= 3 * 10**10 + rates.bound(Extent(4 * 200_000, 40)), "a cent each"


def test_a_request_without_a_maximum_is_bounded_by_what_its_model_can_write() -> None:
    call = recognise(
        "POST",
        ("https", "h", None, "/v1/chat/completions"),
        {},
        json.dumps({"model": "gpt-4o-mini", "messages": HI}).encode(),
    )
    assert call is not None
    tariff = BOOK.tariff(call.model, call.url)
    assert tariff.most_output == 16_384
    assert isinstance(extent(call, tariff, tariff.most_output), Extent)


ANSWER = {"role": "assistant", "content": "yes"}
PLAIN: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"messages": [*HI, ANSWER, *HI]}, True),
    ({"system": "be brief"}, True),
    ({"temperature": 0.1, "stop": ["x"], "stream": True, "user": "u"}, True),
    ({"system": [{"type": "text", "text": "be brief"}]}, False),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, False),
    ({"messages": [*HI, {"role": "user", "content": None}]}, False),
    ({"messages": [{**HI[0], "name": "ann"}]}, False),
    ({"messages": [{"content": "hi"}]}, False),
    ({"messages": ["hi"]}, False),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": {}}}}, True),
    ({"response_format": {"type": "json_object"}}, True),
    ({"response_format": {"type": "image"}}, False),
    ({"response_format": "json_object"}, False),
    ({"response_format": {"type": ["text"]}}, False),
    ({"n": 3}, False),
    ({"tools": []}, False),
    ({"metadata": {"file_id": "f"}}, False),
]


@pytest.mark.parametrize(("body", "short"), PLAIN, ids=str)
def test_the_short_way_is_for_plain_text_alone_and_gives_what_the_long_way_does(
    body: dict[str, Any], short: bool
) -> None:
    whole = {"model": "gpt-4o-mini", "max_tokens": 10, "messages": HI, **body}
    call = recognise("POST", ("https", "h", None, "/v1/chat/completions"), {}, json.dumps(whole).encode())
    assert call is not None
    found = text_input(call)
    assert (found is not None) is short
    if short:
        messages = whole["messages"]
        assert found == len(call.content) + MESSAGE_TOKENS * (len(messages) + 1) == _seen(call)


def test_messages_of_another_shape_are_no_plain_text() -> None:
    call = recognise(
        "POST",
        ("https", "h", None, "/v1/chat/completions"),
        {},
        json.dumps({"model": "m", "messages": HI}).encode(),
    )
    assert call is not None
    for messages in ("hi", {"role": "user", "content": "hi"}, None):
        call.body["messages"] = messages
        assert text_input(call) is None
