"""One table for what failures mean: the SDKs' exceptions, LangChain's, the HTTP libraries', and anybody else's."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import ContextOverflowError, ModelRefusalError, OutputParserException
from pydantic import BaseModel, ValidationError

from cottonpalm.errors import RowFailed
from cottonpalm.providers import (
    BrokenAnswer,
    BudgetReached,
    CutAnswer,
    FilteredAnswer,
    SignatureExpired,
    classify,
    dressed,
)
from cottonpalm.providers.classify import judge_status, never_sent
from cottonpalm.providers.paths import ANTHROPIC, COHERE, GOOGLE, OPENAI_CHAT
from cottonpalm.types import ErrorRecord, Kind

pytestmark = pytest.mark.core
S, T, D, F, H, R = Kind.STOP_RUN, Kind.TRANSIENT, Kind.DEGRADE, Kind.FAIL_ROW, Kind.THROTTLE, Kind.REASK


def body_of(family: Any, code: str | None, message: str) -> dict[str, Any]:
    if family is ANTHROPIC:
        details = {"error_code": code} if code and code.endswith("_reached") else None
        kind = None if details else code
        return {"type": "error", "error": {"type": kind, "message": message, "details": details}}
    return {"error": {"message": message, "type": None, "code": code}}


def as_raised(family: Any, status: int, body: Any) -> Exception:
    """What the family's SDK makes of an error answer."""
    response = httpx2.Response(
        status, json=body, request=httpx2.Request("POST", "http://x/v1/chat/completions")
    )
    if family is ANTHROPIC:
        return anthropic.Anthropic(api_key="k")._make_status_error_from_response(response)
    return openai.OpenAI(api_key="k")._make_status_error_from_response(response)


TABLE = [
    (OPENAI_CHAT, 401, "invalid_api_key", "Incorrect API key", S),
    (OPENAI_CHAT, 403, "unsupported_country", "no", S),
    (OPENAI_CHAT, 404, "model_not_found", "no such model", S),
    (OPENAI_CHAT, 429, "rate_limit_exceeded", "Rate limit reached", H),
    (OPENAI_CHAT, 429, "insufficient_quota", "You exceeded your current quota", S),
    (OPENAI_CHAT, 429, "billing_hard_limit_reached", "no", S),
    (OPENAI_CHAT, 429, "rate_limit_exceeded", "Request too large for m: Limit 100, Requested 200.", D),
    (OPENAI_CHAT, 429, "rate_limit_exceeded", "Limit 200, Used 150, Requested 100.", H),
    (OPENAI_CHAT, 413, None, "Request too large for model: Limit 6000, Requested 9000", D),
    (OPENAI_CHAT, 400, "context_length_exceeded", "too long", D),
    (OPENAI_CHAT, 400, None, "This model's maximum context length is 128000 tokens", D),
    (OPENAI_CHAT, 400, "string_above_max_length", "too long", D),
    (OPENAI_CHAT, 400, "content_filter", "filtered", F),
    (OPENAI_CHAT, 400, "unsupported_parameter", "no", F),
    (OPENAI_CHAT, 422, None, "no", F),
    (OPENAI_CHAT, 408, None, "slow", T),
    (OPENAI_CHAT, 409, None, "locked", T),
    (OPENAI_CHAT, 425, None, "too early", T),
    (OPENAI_CHAT, 500, None, "oops", T),
    (OPENAI_CHAT, 502, None, "oops", T),
    (OPENAI_CHAT, 503, "slow_down", "slow down", H),
    (OPENAI_CHAT, 504, None, "oops", T),
    (OPENAI_CHAT, 418, None, "teapot", F),
    (ANTHROPIC, 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", D),
    (ANTHROPIC, 400, "invalid_request_error", "Your credit balance is too low", S),
    (ANTHROPIC, 400, "invalid_request_error", "no", F),
    (ANTHROPIC, 401, "authentication_error", "no", S),
    (ANTHROPIC, 402, "billing_error", "no", S),
    (ANTHROPIC, 403, "permission_error", "no", S),
    (ANTHROPIC, 404, "not_found_error", "no", S),
    (ANTHROPIC, 413, "request_too_large", "no", D),
    (ANTHROPIC, 429, "rate_limit_error", "no", H),
    (ANTHROPIC, 429, "enforced_spend_limit_reached", "no", S),
    (ANTHROPIC, 500, "api_error", "no", T),
    (ANTHROPIC, 504, "timeout_error", "no", T),
    (ANTHROPIC, 529, "overloaded_error", "no", H),
]


@pytest.mark.parametrize(("family", "status", "code", "message", "kind"), TABLE)
def test_a_raw_answer_and_the_sdks_exception_mean_the_same(
    family: Any, status: int, code: str | None, message: str, kind: Kind
) -> None:
    body = body_of(family, code, message)
    raw = judge_status(family, status, {}, json.dumps(body).encode())
    assert raw.kind is kind
    assert raw.message == message
    raised = as_raised(family, status, body)
    fault = classify(raised)
    assert fault.kind is kind
    assert fault.cause is raised
    assert fault.overload is raw.overload
    assert fault.message.endswith(f": {message}")
    assert str(status) in fault.message.split(":")[0]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"status": "INVALID_ARGUMENT", "message": "input token limit exceeded: token limit is 5"}, D),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, S),
        (
            429,
            {"status": "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "RequestsPerMinute"}]}]},
            H,
        ),
        (
            429,
            {"status": "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]},
            S,
        ),
        (503, {"status": "UNAVAILABLE"}, H),
        (500, {"status": "INTERNAL"}, T),
    ],
)
def test_googles_reasons_are_understood(status: int, body: Any, kind: Kind) -> None:
    assert judge_status(GOOGLE, status, {}, json.dumps({"error": body}).encode()).kind is kind
    assert judge_status(GOOGLE, status, {}, json.dumps([{"error": body}]).encode()).kind is kind


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "too many tokens: size limit exceeded by 11326 tokens. Try using shorter or fewer inputs", D),
        (400, "invalid request: temperature must be between 0 and 1.0 inclusive.", F),
        (401, "invalid api token", S),
        (402, "Please add or update your payment method", S),
        (404, "model 'command-x' not found, make sure the correct model ID was used", S),
        (404, "no such dataset", F),
        (429, "You are using a Trial key, which is limited to 20 API calls / minute", H),
        (429, "trial token rate limit exceeded, limit is 100000 tokens per minute", H),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month", S),
        (498, "the prompt holds a word of the deny list", F),
        (500, "internal server error", T),
    ],
)
def test_coheres_words_are_understood(status: int, message: str, kind: Kind) -> None:
    fault = judge_status(COHERE, status, {}, json.dumps({"id": "x", "message": message}).encode())
    assert (fault.kind, fault.message) == (kind, message)


@pytest.mark.parametrize(
    ("status", "body", "of_all"),
    [
        (529, b"", True),
        (503, b'{"error": {"type": "server_error", "message": "The server is overloaded"}}', True),
        (503, b'[{"error": {"status": "UNAVAILABLE"}}]', True),
        (503, b'{"error": {"code": "slow_down"}}', False),
        (503, b"<html>503 Service Temporarily Unavailable</html>", False),
        (503, b'{"error": "server busy, please try again. maximum pending requests exceeded"}', False),
        (429, b'{"error": {"code": "rate_limit_exceeded"}}', False),
        (500, b'{"error": {"type": "server_error"}}', False),
    ],
)
def test_only_a_provider_that_says_so_by_a_code_is_overloaded_by_all_its_users(
    status: int, body: bytes, of_all: bool
) -> None:
    assert judge_status(OPENAI_CHAT, status, {}, body).overload is of_all


class _Model(BaseModel):
    x: int


def _invalid() -> ValidationError:
    try:
        _Model.model_validate({"x": "no"})
    except ValidationError as exc:
        return exc
    raise AssertionError


class UsersOwnError(Exception):
    """Also named like one that stops a run elsewhere."""

    status_code = 401
    code = "invalid_api_key"


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (OutputParserException("no JSON"), R),
        (_invalid(), R),
        (json.JSONDecodeError("no", "x", 0), R),
        (ValueError("Structured Output response does not have a 'parsed' field nor a 'refusal' field."), R),
        (ValueError("something of the user's"), F),
        (KeyError("column"), F),
        (TypeError("no"), F),
        (UsersOwnError("401 Unauthorized: insufficient_quota, rate limit"), F),
        (TimeoutError(), T),
        (ConnectionResetError(), T),
        (OSError(errno.EMFILE, "Too many open files"), T),
        (OSError(errno.ENOSPC, "No space left on device"), T),
        (OSError(errno.ENOENT, "No such file or directory"), F),
        (RuntimeError("can't start new thread"), T),
        (RuntimeError("something of the user's"), F),
        (httpx.ConnectError("no"), T),
        (httpx.TooManyRedirects("round and round"), T),
        (httpx.DecodingError("not packed as it says"), T),
        (httpx2.ReadTimeout("late"), T),
        (openai.APIConnectionError(request=httpx2.Request("POST", "http://x")), T),
        (openai.APITimeoutError(request=httpx2.Request("POST", "http://x")), T),
        (anthropic.APIConnectionError(request=httpx2.Request("POST", "http://x")), T),
        (ContextOverflowError("too long"), D),
        (ModelRefusalError("no"), F),
        (dressed(CutAnswer, "cut"), D),
        (dressed(FilteredAnswer, "no"), F),
        (dressed(BudgetReached, "spent"), S),
        (dressed(BrokenAnswer, "half"), T),
        (dressed(SignatureExpired, "old"), T),
        (RowFailed(ErrorRecord(Kind.DEGRADE, "X", "x")), D),
        (asyncio.CancelledError(), F),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_means(exc: BaseException, kind: Kind) -> None:
    assert classify(exc).kind is kind


def test_a_cause_is_asked_where_the_exception_itself_says_nothing() -> None:
    limit = as_raised(OPENAI_CHAT, 429, body_of(OPENAI_CHAT, "rate_limit_exceeded", "no"))
    wrapped = RuntimeError("step failed")
    wrapped.__cause__ = limit
    fault = classify(wrapped)
    assert fault.kind is H
    assert fault.type == "RuntimeError"
    aside = KeyError("in an except block")
    aside.__context__ = limit
    assert classify(aside).kind is F


def test_what_litellm_made_of_an_exception_of_ours_means_what_ours_means() -> None:
    theirs = type("InternalServerError", (openai.APIConnectionError,), {"__module__": "litellm.exceptions"})
    lost = theirs(request=httpx2.Request("POST", "http://x"))
    lost.__context__ = dressed(CutAnswer, "cut")
    assert (classify(lost).kind, classify(lost).type, classify(lost).cause) == (D, "CutAnswer", lost)
    lost.__context__ = KeyError("another one")
    assert classify(lost).kind is T


def test_half_a_surrogate_pair_in_a_providers_words_is_no_matter() -> None:
    response = httpx.Response(
        400, request=httpx.Request("POST", "https://api.openai.com/v1/chat/completions")
    )
    assert classify(openai.BadRequestError("no \ud800", response=response, body=None)).kind is Kind.FAIL_ROW


def test_of_a_group_the_worst_counts() -> None:
    limit = as_raised(OPENAI_CHAT, 401, body_of(OPENAI_CHAT, "invalid_api_key", "no"))
    assert classify(ExceptionGroup("both", [KeyError("x"), TimeoutError(), limit])).kind is S
    assert classify(ExceptionGroup("both", [KeyError("x"), TimeoutError()])).kind is T


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_status_error_stops_the_run_only_if_it_is_a_models(http: Any) -> None:
    def error(path: str) -> Exception:
        request = http.Request("POST", f"http://x{path}")
        return http.HTTPStatusError("401", request=request, response=http.Response(401, request=request))

    assert classify(error("/v1/chat/completions")).kind is S
    assert classify(error("/some/other/service")).kind is F


@pytest.mark.parametrize(
    "body", [{"code": "exhausted", "error": "Too many requests"}, {"error": "Too many requests"}]
)
def test_an_error_that_is_a_mere_text_keeps_its_words(body: dict[str, str]) -> None:
    """The exception itself says "Error code: 429"."""
    request = httpx2.Request("POST", "http://x/v1/chat/completions")
    response = httpx2.Response(429, json=body, request=request)
    exc = openai.OpenAI(api_key="k")._make_status_error_from_response(response)
    assert classify(exc).message == "429 Too Many Requests: Too many requests"


@pytest.mark.parametrize(("limit", "kind"), [("0", S), ("1", H), ("none", H)])
def test_a_model_of_which_a_plan_allows_no_requests_stops_the_run(limit: str, kind: Kind) -> None:
    """Mistral says no more than that a limit is exceeded; the headers say that it is none."""
    headers = {"x-ratelimit-limit-req-minute": limit, "x-ratelimit-remaining-req-minute": "0"}
    body = {"message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}
    assert judge_status(OPENAI_CHAT, 429, headers, json.dumps(body).encode()).kind is kind


def test_the_wait_is_found_in_the_response_of_an_exception() -> None:
    request = httpx2.Request("POST", "http://x/v1/chat/completions")
    response = httpx2.Response(429, headers={"retry-after-ms": "1500"}, json={}, request=request)
    exc = openai.OpenAI(api_key="k")._make_status_error_from_response(response)
    assert classify(exc).retry_after_s == 1.5


def test_what_surely_never_arrived_was_not_billed() -> None:
    assert never_sent(httpx.ConnectError("x"))
    assert never_sent(httpx2.PoolTimeout("x"))
    assert never_sent(ConnectionRefusedError())
    assert never_sent(httpx.LocalProtocolError("Illegal header value b'Bearer k\\n'"))
    assert not never_sent(httpx.LocalProtocolError("of a connection"))
    assert not never_sent(httpx.ReadTimeout("x"))
    assert not never_sent(httpx2.RemoteProtocolError("x"))


def test_classifying_imports_no_sdk() -> None:
    code = """
import sys
from cottonpalm.providers import classify, dressed, CutAnswer
assert classify(ValueError("x")).kind == "fail_row"
assert type(dressed(CutAnswer, "x")) is CutAnswer
assert not {"openai", "anthropic", "httpx2", "google.genai", "botocore"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.integers(400, 599),
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "type", "message", "details", "status", "reason"]), inner
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_any_error_body_gets_a_kind(status: int, content: bytes) -> None:
    for family in (OPENAI_CHAT, ANTHROPIC, GOOGLE):
        assert judge_status(family, status, {}, content).kind in Kind
