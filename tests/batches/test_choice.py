"""Which lane a live request has, and what has no place in a batch."""

from __future__ import annotations

from typing import Any

import pytest

from cottonpalm.providers.batches.choice import adapter_of, lane_for
from cottonpalm.providers.batches.lanes import Lane, NoLane, credentials_of, whose

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}], "stream": False}
MESSAGES = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": []}
SDK = {  # what an SDK sends of its own accord
    "host": "api.openai.com",
    "accept": "application/json",
    "content-type": "application/json",
    "content-length": "12",
    "user-agent": "OpenAI/Python",
    "x-stainless-lang": "python",
    "authorization": "Bearer sk-secret",
    "openai-organization": "org-1",
}


@pytest.mark.parametrize(
    ("url", "body", "provider", "root", "endpoint", "model"),
    [
        (
            "https://api.openai.com/v1/chat/completions",
            CHAT,
            "openai",
            "/v1",
            "/v1/chat/completions",
            "gpt-5-mini",
        ),
        (
            "https://us.api.openai.com/v1/responses",
            {"model": "m", "input": "x"},
            "openai",
            "/v1",
            "/v1/responses",
            "m",
        ),
        (
            "https://ours.openai.azure.com/openai/deployments/d1/chat/completions?api-version=2026-01-01",
            {"messages": []},
            "azure",
            "/openai/v1",
            "/chat/completions",
            "d1",
        ),
        (
            "https://ours.openai.azure.com/openai/v1/responses",
            {"model": "d2"},
            "azure",
            "/openai/v1",
            "/v1/responses",
            "d2",
        ),
        (
            "https://api.groq.com/openai/v1/chat/completions",
            CHAT,
            "groq",
            "/openai/v1",
            "/v1/chat/completions",
            "gpt-5-mini",
        ),
        (
            "https://api.together.xyz/v1/chat/completions",
            CHAT,
            "together",
            "/v1",
            "/v1/chat/completions",
            "gpt-5-mini",
        ),
        (
            "https://api.mistral.ai/v1/chat/completions",
            CHAT,
            "mistral",
            "/v1",
            "/v1/chat/completions",
            "gpt-5-mini",
        ),
        (
            "https://api.anthropic.com/v1/messages",
            MESSAGES,
            "anthropic",
            "/v1",
            "/v1/messages",
            "claude-haiku-4-5",
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
            {"contents": []},
            "gemini",
            "/v1beta",
            "generateContent",
            "gemini-2.5-flash",
        ),
    ],
)
def test_address_and_shape_tell_the_lane(
    url: str, body: dict[str, Any], provider: str, root: str, endpoint: str, model: str
) -> None:
    lane = lane_for(url, SDK, body)
    assert isinstance(lane, Lane)
    assert (lane.provider, lane.root, lane.endpoint, lane.model) == (provider, root, endpoint, model)
    assert adapter_of(lane).name == provider
    assert Lane.of(lane.text()) == lane
    assert "secret" not in lane.text()


@pytest.mark.parametrize(
    ("url", "headers", "body", "why"),
    [
        ("http://localhost:11434/api/chat", {}, CHAT, "no Batch API is known at localhost"),
        ("https://api.openai.com.evil.example/v1/chat/completions", {}, CHAT, "no Batch API"),
        ("https://notapi.openai.com/v1/chat/completions", {}, CHAT, "no Batch API"),
        ("https://api.openai.com/v1/audio/speech", {}, CHAT, "does not serve /v1/audio/speech"),
        ("https://api.groq.com/openai/v1/responses", {}, {"model": "m", "input": "x"}, "does not serve"),
        (
            "https://api.openai.com/v1/chat/completions",
            {"x-team": "a"},
            CHAT,
            "no place for the header 'x-team'",
        ),
        (
            "https://api.openai.com/v1/chat/completions?trace=1",
            {},
            CHAT,
            "no place for 'trace' in the address",
        ),
        ("https://api.openai.com/v1/chat/completions", {}, {**CHAT, "stream": True}, "is streamed"),
        ("https://api.openai.com/v1/chat/completions", {}, {"messages": []}, "does not serve"),
        ("https://api.anthropic.com/v1/messages", {}, {**MESSAGES, "speed": "fast"}, "do not take 'speed'"),
        ("https://api.anthropic.com/v1/messages", {}, {**MESSAGES, "max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_has_no_place_in_a_batch_runs_live_and_is_told_why(
    url: str, headers: dict[str, str], body: dict[str, Any], why: str
) -> None:
    found = lane_for(url, {**SDK, **headers}, body)
    assert isinstance(found, NoLane)
    assert why in found.why


def test_requests_with_other_betas_travel_apart() -> None:
    url = "https://api.anthropic.com/v1/messages"
    lanes = {lane_for(url, {**SDK, "anthropic-beta": betas}, MESSAGES) for betas in ("b, a", "a,b", "a")}
    found = {lane.headers for lane in lanes if isinstance(lane, Lane)}
    assert found == {(("anthropic-beta", "a,b"),), (("anthropic-beta", "a"),)}


def test_a_lane_keeps_the_version_that_the_live_request_asked_for() -> None:
    lane = lane_for(
        "https://api.anthropic.com/v1/messages", {**SDK, "anthropic-version": "2026-10-21"}, MESSAGES
    )
    assert isinstance(lane, Lane)
    assert lane.headers == (("anthropic-version", "2026-10-21"),)
    assert Lane.of(lane.text()) == lane


def test_an_address_that_is_not_the_providers_own_has_to_be_named() -> None:
    url = "https://gateway:8443/llm/v1/chat/completions"
    assert isinstance(lane_for(url, SDK, CHAT), NoLane)
    lane = lane_for(url, SDK, CHAT, hosts={"gateway:8443": "openai"})
    assert isinstance(lane, Lane)
    assert (lane.base, lane.endpoint) == ("https://gateway:8443/llm/v1", "/v1/chat/completions")


def test_credentials_are_the_headers_that_say_who_pays_and_nothing_else() -> None:
    assert credentials_of("https://api.openai.com/v1/x", SDK) == {
        "authorization": "Bearer sk-secret",
        "openai-organization": "org-1",
    }
    keyed = credentials_of("https://generativelanguage.googleapis.com/v1beta/x?key=AIza1", {})
    assert keyed == {"x-goog-api-key": "AIza1"}


def test_two_keys_are_told_apart_and_a_token_that_rotates_is_not() -> None:
    one, other = ({"authorization": f"Bearer sk-{name}"} for name in "ab")
    assert whose(one, "tag") == whose(dict(one), "tag") != whose(other, "tag")
    assert whose(one, "tag") != whose(one, "another tag")  # nobody can compare it across batches
    assert whose({"authorization": "Bearer eyJ.1"}, "t") == whose({"authorization": "Bearer eyJ.2"}, "t")
    assert len(whose(one, "tag")) == 8


def test_the_mark_that_older_sdks_of_anthropic_put_into_the_address_for_betas_keeps_nothing_out_of_a_batch() -> (
    None
):
    headers = {"x-api-key": "sk-ant", "anthropic-version": "2023-06-01", "anthropic-beta": "a-1"}
    found = [
        lane_for(f"https://api.anthropic.com/v1/messages{query}", headers, MESSAGES)
        for query in ("", "?beta=true")
    ]
    assert isinstance(found[0], Lane)
    assert found[0] == found[1]
