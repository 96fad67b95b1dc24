"""What counts as a model request, and under which key its limits are kept."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.calls import recognise

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call

pytestmark = pytest.mark.core
MESSAGES = [{"role": "user", "content": "hi"}]
SECRET = "sk-proj-very-secret-0123456789"


def see(
    path: str = "/v1/chat/completions", body: Any = None, headers: Any = None, host: str = "h"
) -> Call | None:
    content = {"model": "m", "messages": MESSAGES} if body is None else body
    return recognise("POST", ("https", host, None, path), headers or {}, json.dumps(content).encode())


def key(**headers: str) -> str:
    call = see(headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert call is not None
    return call.key


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": MESSAGES}, "m"),
        ("/openai/deployments/dep-1/chat/completions", {"messages": MESSAGES}, "dep-1"),
        ("/v1/responses", {"model": "m", "input": "hi"}, "m"),
        ("/v1/responses", {"model": "m", "input": [{"role": "user", "content": "hi"}]}, "m"),
        ("/v1/completions", {"model": "m", "prompt": ["hi"], "max_tokens": 5}, "m"),
        ("/v1/completions", {"model": "m", "prompt": "hi"}, "m"),
        ("/api/generate", {"model": "l", "prompt": "hi"}, "l"),
        ("/v1/messages", {"model": "c", "max_tokens": 5, "messages": MESSAGES}, "c"),
        (
            "/model/anthropic.claude-v1:0/invoke",
            {"max_tokens": 5, "messages": MESSAGES},
            "anthropic.claude-v1:0",
        ),
        ("/v1beta/models/gemini-x:generateContent", {"contents": [{"parts": []}]}, "gemini-x"),
        ("/v1beta/models/gemini-x:streamGenerateContent", {"contents": [{"parts": []}]}, "gemini-x"),
        ("/openai/v1/chat/completions", {"model": "groq-m", "messages": MESSAGES}, "groq-m"),
        ("/api/chat", {"model": "llama", "messages": MESSAGES}, "llama"),
        ("/v2/chat", {"model": "command-a", "messages": MESSAGES, "stream": False}, "command-a"),
        ("/v1/chat", {"model": "command-r", "message": "hi", "stream": True}, "command-r"),
    ],
)
def test_a_listed_path_with_a_body_of_that_shape_is_a_model_request(path: str, body: Any, model: str) -> None:
    call = see(path, body)
    assert call is not None
    assert call.model == model


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "m"}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/messages", {"model": "m", "messages": MESSAGES}),
        ("/v1/messages/batches", {"requests": []}),
        ("/invoke", {"max_tokens": 5, "messages": MESSAGES}),
        ("/v1/embeddings", {"model": "m", "input": "hi"}),
        ("/graphql", {"messages": MESSAGES, "model": "m"}),
        ("/v2/chat", {"messages": MESSAGES, "model": "m"}),  # a service of the user's own
        ("/v1/chat", {"message": "hi", "model": "m", "stream": False, "connectors": [{"id": "web-search"}]}),
    ],
)
def test_anything_else_is_none(path: str, body: Any) -> None:
    assert see(path, body) is None


def test_only_a_post_is_one() -> None:
    content = json.dumps({"model": "m", "messages": MESSAGES}).encode()
    assert recognise("PUT", ("https", "h", None, "/v1/chat/completions"), {}, content) is None


def test_the_key_has_host_model_and_account_but_no_credential() -> None:
    call = see(headers={"authorization": f"Bearer {SECRET}"})
    assert call is not None
    assert re.fullmatch(r"h/m#[0-9a-f]{12}", call.key)
    assert call.label == "h/m"
    assert SECRET not in repr(call)
    assert call.key == key(authorization=f"Bearer {SECRET}")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-2"},
        {"x_api_key": "k"},
        {"api_key": "k"},
        {"authorization": "Bearer sk-1", "openai_organization": "org"},
        {"authorization": "Bearer sk-1", "openai_project": "p"},
    ],
)
def test_another_account_has_limits_of_its_own(headers: dict[str, str]) -> None:
    assert key(**headers) != key(authorization="Bearer sk-1")


@pytest.mark.parametrize("name", ["x_api_key", "api_key", "x_goog_api_key", "authorization"])
def test_two_accounts_are_told_apart_by_whatever_header_names_them(name: str) -> None:
    assert key(**{name: "one"}) != key(**{name: "two"})
    assert key(**{name: "one"}) == key(**{name: "one"})


def test_tokens_that_rotate_share_the_hosts_key() -> None:
    assert key(authorization="Bearer eyJhbGciOi.a.b") == key(authorization="Bearer eyJhbGciOi.c.d")
    assert key(authorization="Bearer ya29.one") == key(authorization="Bearer ya29.two")


def test_signatures_share_the_key_of_their_credential() -> None:
    def signed(credential: str, signature: str) -> str:
        return key(
            authorization=f"AWS4-HMAC-SHA256 Credential={credential}/20261125/x, Signature={signature}"
        )

    assert signed("AKIA1", "00") == signed("AKIA1", "11")
    assert signed("AKIA1", "00") != signed("AKIA2", "00")


def test_equal_questions_have_equal_identities() -> None:
    first, second, other = see(), see(), see(body={"model": "m", "messages": []})
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.identity == second.identity != other.identity


@pytest.mark.parametrize(
    ("path", "body", "bound"),
    [
        ("/v1/chat/completions", {"max_tokens": 7}, 7),
        ("/v1/chat/completions", {"max_completion_tokens": 8, "n": 2}, 16),
        ("/v1/chat/completions", {"max_tokens": None}, None),
        ("/v1/chat/completions", {"max_tokens": True}, None),
        ("/v1/messages", {"max_tokens": 9}, 9),
        ("/v1/responses", {"input": "x", "messages": ..., "max_output_tokens": 10}, 10),
        (
            "/v1beta/models/g:generateContent",
            {"contents": [], "generationConfig": {"maxOutputTokens": 11}},
            11,
        ),
        ("/api/chat", {"options": {"num_predict": 12}}, 12),
    ],
)
def test_the_requests_own_maximum_is_found(path: str, body: Any, bound: int | None) -> None:
    whole = {"model": "m", "messages": MESSAGES, **body}
    call = see(path, {name: value for name, value in whole.items() if value is not ...})
    assert call is not None
    maximum = call.family.maximum
    found = maximum.of(call.body)
    assert (found and found * maximum.answers_of(call.body)) == bound
