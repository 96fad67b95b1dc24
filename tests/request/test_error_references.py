"""What the providers' public error references say, and the kind each line is taken for."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx
import openai
import pytest

from cottonpalm.providers.classify import classify, is_bare_refusal, judge_status
from cottonpalm.providers.paths import ANTHROPIC, GOOGLE, OPENAI_CHAT, family_of
from cottonpalm.request.refusals import ENOUGH
from cottonpalm.types import Fault, Kind
from tests.request.kit import in_flight
from tests.request.test_attempts import Hand, a_hand, answer

pytestmark = pytest.mark.core
S, F, D, T, H = Kind.STOP_RUN, Kind.FAIL_ROW, Kind.DEGRADE, Kind.TRANSIENT, Kind.THROTTLE
OLLAMA, QWEN = family_of("/api/chat"), family_of("/compatible-mode/v1/chat/completions")

OPENAI = "platform.openai.com/docs/guides/error-codes"
AZURE = "learn.microsoft.com/azure/ai-foundry/openai/reference (error responses)"
CLAUDE = "platform.claude.com/docs/en/api/errors"
GEMINI = "ai.google.dev/gemini-api/docs/troubleshooting"
MISTRAL = "docs.mistral.ai/api (error responses)"
GROQ = "console.groq.com/docs/errors"
OPENROUTER = "openrouter.ai/docs/api-reference/errors"
TOGETHER = "docs.together.ai/docs/error-codes"
BEDROCK = "docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html"
OLLAMAS = "docs.ollama.com/api/errors"
VLLM = "docs.vllm.ai/en/latest/serving/openai_compatible_server"
LLAMA = "github.com/ggml-org/llama.cpp (server)"
ALIBABA = "alibabacloud.com/help/en/model-studio/error-code"
VOLCENGINE = "volcengine.com/docs/82379/1299023"
MOONSHOT = "platform.moonshot.cn/docs/api/chat (error responses)"
ZHIPU = "docs.bigmodel.cn/cn/api/api-code"
LITELLM = "docs.litellm.ai/docs/proxy/users (budgets)"
XAI = "docs.x.ai/docs/api-reference (error responses)"


class Line(NamedTuple):
    """One line of a reference. `bare`: only where it repeats before anything succeeded, the run stops."""

    source: str
    family: Any
    status: int
    error: Any
    kind: Kind
    bare: bool = False
    amazon: str | None = None


def chat(code: str | None, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def claude(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini(status: str, message: str = "no", reason: str | None = None) -> dict[str, Any]:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return {"error": {"code": 400, "status": status, "message": message, "details": details}}


def of_a_quota(name: str) -> dict[str, Any]:
    violations = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": [violations]}}


NO_CREDITS = (
    "Your team 12 has either used all available credits or reached its monthly spending limit. To continue"
)
PER_DAY = of_a_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
PER_MINUTE = of_a_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")


def amazon(status: int, name: str, kind: Kind, message: str = "no") -> Line:
    return Line(BEDROCK, ANTHROPIC, status, {"message": message}, kind, amazon=name)


LINES = [
    Line(OPENAI, OPENAI_CHAT, 401, chat("invalid_api_key"), S),
    Line(OPENAI, OPENAI_CHAT, 401, chat(None, "You must be a member of an organization to use the API"), S),
    Line(OPENAI, OPENAI_CHAT, 403, chat("unsupported_country_region_territory"), S),
    Line(OPENAI, OPENAI_CHAT, 404, chat("model_not_found"), S),
    Line(OPENAI, OPENAI_CHAT, 429, chat("rate_limit_exceeded"), H),
    Line(OPENAI, OPENAI_CHAT, 429, chat("insufficient_quota"), S),
    Line(OPENAI, OPENAI_CHAT, 500, chat("server_error"), T),
    Line(OPENAI, OPENAI_CHAT, 503, chat("slow_down"), H),
    Line(AZURE, OPENAI_CHAT, 401, chat("401", "Access denied due to invalid subscription key"), S),
    Line(AZURE, OPENAI_CHAT, 404, chat("DeploymentNotFound"), S),
    Line(AZURE, OPENAI_CHAT, 404, chat("404", "Resource not found"), F, bare=True),
    Line(AZURE, OPENAI_CHAT, 403, chat("403", "Public access is disabled"), F, bare=True),
    Line(
        AZURE,
        OPENAI_CHAT,
        400,
        chat("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        F,
    ),
    Line(AZURE, OPENAI_CHAT, 429, chat("429", "Requests have exceeded the call rate limit"), H),
    Line(CLAUDE, ANTHROPIC, 400, claude("invalid_request_error"), F),
    Line(
        CLAUDE,
        ANTHROPIC,
        400,
        claude("invalid_request_error", "You have reached your specified workspace API usage limits."),
        S,
    ),
    Line(CLAUDE, ANTHROPIC, 400, claude("invalid_request_error", "This organization has been disabled."), S),
    Line(
        CLAUDE,
        ANTHROPIC,
        400,
        claude(
            "invalid_request_error",
            "You have reached your specified API usage limits. You will regain access on",
        ),
        S,
    ),
    Line(
        CLAUDE,
        ANTHROPIC,
        400,
        claude(
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        ),
        D,
    ),
    Line(CLAUDE, ANTHROPIC, 401, claude("authentication_error"), S),
    Line(CLAUDE, ANTHROPIC, 402, claude("billing_error"), S),
    Line(CLAUDE, ANTHROPIC, 403, claude("permission_error"), S),
    Line(CLAUDE, ANTHROPIC, 404, claude("not_found_error"), S),
    Line(CLAUDE, ANTHROPIC, 413, claude("request_too_large"), D),
    Line(CLAUDE, ANTHROPIC, 429, claude("rate_limit_error"), H),
    Line(CLAUDE, ANTHROPIC, 500, claude("api_error"), T),
    Line(CLAUDE, ANTHROPIC, 504, claude("timeout_error"), T),
    Line(CLAUDE, ANTHROPIC, 529, claude("overloaded_error"), H),
    Line(GEMINI, GOOGLE, 400, gemini("INVALID_ARGUMENT"), F),
    Line(GEMINI, GOOGLE, 400, gemini("INVALID_ARGUMENT", reason="API_KEY_INVALID"), S),
    Line(
        GEMINI,
        GOOGLE,
        400,
        gemini("FAILED_PRECONDITION", "User location is not supported for the API use."),
        S,
    ),
    Line(
        GEMINI,
        GOOGLE,
        400,
        gemini(
            "FAILED_PRECONDITION",
            "Gemini API free tier is not available in your country. Please enable billing.",
        ),
        S,
    ),
    Line(GEMINI, GOOGLE, 403, gemini("PERMISSION_DENIED", reason="SERVICE_DISABLED"), S),
    Line(GEMINI, GOOGLE, 403, gemini("PERMISSION_DENIED", "no access to the file abc"), F, bare=True),
    Line(
        GEMINI, GOOGLE, 404, gemini("NOT_FOUND", "models/x is not found for API version v1beta"), F, bare=True
    ),
    Line(GEMINI, GOOGLE, 429, gemini("RESOURCE_EXHAUSTED"), H),
    Line(GEMINI, GOOGLE, 429, gemini("RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), S),
    Line(GEMINI, GOOGLE, 429, gemini("RESOURCE_EXHAUSTED", "It has exceeded its monthly spending cap."), S),
    Line(GEMINI, GOOGLE, 429, PER_DAY, S),
    Line(GEMINI, GOOGLE, 429, PER_MINUTE, H),
    Line(GEMINI, OPENAI_CHAT, 429, [PER_DAY], S),
    Line(GEMINI, OPENAI_CHAT, 429, [PER_MINUTE], H),
    Line(
        GEMINI, OPENAI_CHAT, 429, [gemini("RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")], S
    ),
    Line(GEMINI, GOOGLE, 500, gemini("INTERNAL"), T),
    Line(GEMINI, GOOGLE, 503, gemini("UNAVAILABLE"), H),
    Line(GEMINI, GOOGLE, 504, gemini("DEADLINE_EXCEEDED"), T),
    Line(MISTRAL, OPENAI_CHAT, 401, {"message": "Unauthorized"}, S),
    Line(MISTRAL, OPENAI_CHAT, 403, {"message": "Forbidden"}, F, bare=True),
    Line(MISTRAL, OPENAI_CHAT, 422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, F),
    Line(
        MISTRAL,
        OPENAI_CHAT,
        400,
        {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
        D,
    ),
    Line(MISTRAL, OPENAI_CHAT, 429, {"message": "Requests rate limit exceeded"}, H),
    Line(GROQ, OPENAI_CHAT, 403, chat("model_permission_blocked_org"), S),
    Line(GROQ, OPENAI_CHAT, 404, chat("model_not_found"), S),
    Line(GROQ, OPENAI_CHAT, 400, chat("blocked_api_access"), S),
    Line(
        GROQ,
        OPENAI_CHAT,
        413,
        chat("rate_limit_exceeded", "Request too large: Limit 6000, Requested 9000"),
        D,
    ),
    Line(GROQ, OPENAI_CHAT, 422, chat(None), F),
    Line(GROQ, OPENAI_CHAT, 424, chat(None), T),
    Line(GROQ, OPENAI_CHAT, 498, chat("capacity_exceeded"), H),
    Line(GROQ, OPENAI_CHAT, 503, chat(None), H),
    Line(OPENROUTER, OPENAI_CHAT, 401, chat(None), S),
    Line(OPENROUTER, OPENAI_CHAT, 402, chat(None, "Insufficient credits"), S),
    Line(
        OPENROUTER,
        OPENAI_CHAT,
        403,
        chat(None, "Input was flagged", metadata={"reasons": ["violence"], "flagged_input": "..."}),
        F,
    ),
    Line(OPENROUTER, OPENAI_CHAT, 403, chat(None, "Key limit exceeded (daily limit). Manage it using"), S),
    Line(
        OPENROUTER,
        OPENAI_CHAT,
        429,
        chat(None, "Rate limit exceeded: free-models-per-day. Add 10 credits"),
        S,
    ),
    Line(OPENROUTER, OPENAI_CHAT, 429, chat(None, "Rate limit exceeded: free-models-per-min. "), H),
    Line(OPENROUTER, OPENAI_CHAT, 404, chat(None, "No endpoints found for x/y."), F, bare=True),
    Line(OPENROUTER, OPENAI_CHAT, 408, chat(None), T),
    Line(OPENROUTER, OPENAI_CHAT, 502, chat(None), T),
    Line(OPENROUTER, OPENAI_CHAT, 503, chat(None), H),
    Line(TOGETHER, OPENAI_CHAT, 402, chat(None), S),
    Line(TOGETHER, OPENAI_CHAT, 403, chat(None, "Input token count + max_tokens must be below the limit"), D),
    Line(
        TOGETHER,
        OPENAI_CHAT,
        422,
        chat(None, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097"),
        D,
    ),
    Line(TOGETHER, OPENAI_CHAT, 404, chat(None, "Invalid endpoint URL or model name"), F, bare=True),
    Line(TOGETHER, OPENAI_CHAT, 504, chat(None), T),
    Line(TOGETHER, OPENAI_CHAT, 524, chat(None), T),
    Line(TOGETHER, OPENAI_CHAT, 529, chat(None), H),
    amazon(429, "ThrottlingException", S, "Too many tokens per day, please wait before trying again."),
    amazon(400, "ValidationException", F),
    amazon(400, "ValidationException", D, "Input is too long for requested model."),
    amazon(400, "ServiceQuotaExceededException", H),
    amazon(403, "AccessDeniedException", S),
    amazon(404, "ResourceNotFoundException", S),
    amazon(408, "ModelTimeoutException", T),
    amazon(424, "ModelErrorException", T),
    amazon(429, "ThrottlingException", H),
    amazon(429, "ModelNotReadyException", T),
    amazon(500, "InternalServerException", T),
    amazon(503, "ServiceUnavailableException", T),
    Line(OLLAMAS, OLLAMA, 400, {"error": "invalid request"}, F),
    Line(OLLAMAS, OLLAMA, 404, {"error": "model 'x' not found, try pulling it first"}, F, bare=True),
    Line(OLLAMAS, OLLAMA, 500, {"error": "model failed to load"}, T),
    Line(OLLAMAS, OLLAMA, 502, {"error": "the cloud model cannot be reached"}, T),
    Line(OLLAMAS, OLLAMA, 503, {"error": "server busy, maximum pending requests exceeded"}, H),
    Line(
        VLLM,
        OPENAI_CHAT,
        404,
        {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}},
        S,
    ),
    Line(
        VLLM,
        OPENAI_CHAT,
        400,
        {
            "error": {
                "message": "This model's maximum context length is 4096 tokens",
                "type": "BadRequestError",
            }
        },
        D,
    ),
    Line(VLLM, OPENAI_CHAT, 401, {"error": "Unauthorized"}, S),
    Line(
        VLLM,
        OPENAI_CHAT,
        400,
        {"message": "The decoder prompt (length 9000) is longer than the maximum model length of 8192."},
        D,
    ),
    Line(LLAMA, OPENAI_CHAT, 400, chat(None, "too long", type="exceed_context_size_error"), D),
    Line(LLAMA, OPENAI_CHAT, 500, chat(None, "too long", type="exceed_context_size_error"), D),
    Line(ALIBABA, OPENAI_CHAT, 400, chat("Arrearage", "make sure your account is in good standing"), S),
    Line(ALIBABA, OPENAI_CHAT, 403, chat("AllocationQuota.FreeTierOnly"), S),
    *(
        Line(ALIBABA, OPENAI_CHAT, 429, chat(code), S)
        for code in ("CommodityNotPurchased", "PrepaidBillOverdue", "PostpaidBillOverdue")
    ),
    Line(ALIBABA, QWEN, 429, chat("insufficient_quota", "You exceeded your current quota"), H),
    Line(ALIBABA, QWEN, 429, chat("insufficient_quota", "Free allocated quota exceeded."), S),
    Line(ALIBABA, QWEN, 400, chat("Arrearage"), S),
    Line(
        ALIBABA,
        QWEN,
        400,
        chat("invalid_parameter_error", "<400> InternalError: Range of input length should be [1, 129024]"),
        D,
    ),
    Line(ALIBABA, QWEN, 400, chat("data_inspection_failed"), F),
    Line(VOLCENGINE, OPENAI_CHAT, 400, chat("OutofContextError"), D),
    Line(
        VOLCENGINE,
        OPENAI_CHAT,
        400,
        chat("InvalidParameter", "Total tokens of image and text exceed max message tokens."),
        D,
    ),
    Line(VOLCENGINE, OPENAI_CHAT, 403, {"code": "AccountOverdueError", "type": "Forbidden"}, S),
    Line(MOONSHOT, OPENAI_CHAT, 429, chat(None, "suspended", type="exceeded_current_quota_error"), S),
    Line(
        MOONSHOT, OPENAI_CHAT, 429, chat(None, "request reached organization TPD rate limit, current: 15"), S
    ),
    Line(
        MOONSHOT, OPENAI_CHAT, 429, chat(None, "request reached organization TPM rate limit, current: 15"), H
    ),
    *(
        Line(
            LITELLM,
            OPENAI_CHAT,
            status,
            chat(str(status), "Budget has been exceeded!", type="budget_exceeded"),
            S,
        )
        for status in (400, 429)
    ),
    Line(XAI, OPENAI_CHAT, 403, {"code": "permission-denied", "error": NO_CREDITS}, S),
    Line(XAI, OPENAI_CHAT, 429, {"code": "Some resource has been exhausted", "error": NO_CREDITS}, S),
    Line(
        XAI, OPENAI_CHAT, 429, {"code": "Some resource has been exhausted", "error": "Too many requests"}, H
    ),
    Line(
        MOONSHOT,
        OPENAI_CHAT,
        400,
        chat(None, "Your request exceeded model token limit: 8192 (requested: 9000)"),
        D,
    ),
    Line(ZHIPU, OPENAI_CHAT, 429, chat("1113"), S),
    Line(ZHIPU, OPENAI_CHAT, 400, chat("1261"), D),
    *(
        Line(ZHIPU, OPENAI_CHAT, 429, chat(code, "Your limit will reset at 2026-09-16 06:28:10"), S)
        for code in ("1304", "1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321")
    ),
    *(Line(ZHIPU, OPENAI_CHAT, 429, chat(code), S) for code in ("1309", "1311", "1314", "1315")),
    *(Line(ZHIPU, OPENAI_CHAT, 429, chat(code), H) for code in ("1302", "1303", "1305", "1313")),
    Line(ZHIPU, ANTHROPIC, 429, {"error": {"type": "rate_limit_error", "code": "1310", "message": "no"}}, S),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.source.partition('/')[0]} {line.status}")
def test_each_line_of_a_providers_reference_has_its_kind(line: Line) -> None:
    headers = (
        {} if line.amazon is None else {"x-amzn-errortype": f"{line.amazon}:http://internal.amazon.com/"}
    )
    content = json.dumps(line.error).encode()
    assert judge_status(line.family, line.status, headers, content).kind is line.kind
    assert is_bare_refusal(line.family, line.status, headers, content) == line.bare


def test_the_exception_that_an_sdk_makes_of_qwens_limit_of_tokens_is_a_throttle_too() -> None:
    url = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions"
    body = chat("insufficient_quota", "You exceeded your current quota")
    response = httpx.Response(429, json=body, request=httpx.Request("POST", url))
    raised = openai.RateLimitError("Error code: 429", response=response, body=body["error"])
    assert classify(raised).kind is H


def refused(hand: Hand, times: int, status: int = 403) -> list[Fault | None]:
    """The run's fault after each of so many bare refusals of different questions."""
    seen = []
    for number in range(times):
        body = json.dumps({"error": {"message": "no"}})
        one = Hand(hand.row, type(hand)(hand.row, hand.call).call, answer(status, json.loads(body)))
        one.call.content += b" " * number  # another question
        one.run()
        seen.append(hand.row.run.alerts.stopped)
    return seen


@pytest.mark.parametrize("status", [403, 404])
def test_a_bare_refusal_stops_the_run_only_when_it_repeats_before_anything_succeeded(status: int) -> None:
    hand = a_hand()
    seen = refused(hand, ENOUGH, status)
    assert seen[:-1] == [None] * (ENOUGH - 1)
    assert seen[-1] is not None
    assert seen[-1].kind is Kind.STOP_RUN
    assert in_flight(hand.row.run) == 0


def test_once_something_was_answered_a_bare_refusal_only_fails_its_row() -> None:
    hand = a_hand(answer())
    hand.run()
    assert refused(hand, 5 * ENOUGH) == [None] * 5 * ENOUGH
