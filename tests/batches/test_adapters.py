"""Each provider's shapes, as documented and recorded: what goes out, and what is read of what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from cottonpalm.providers.batches.choice import ADAPTERS
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.lines import BatchFault, Line, Phase

if TYPE_CHECKING:
    from cottonpalm.providers.batches.adapter import Adapter

BETAS = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "a-1,b-2"))
CHAT = {
    "model": "gpt-5-mini",
    "messages": [{"role": "user", "content": "Say hi"}],
    "max_completion_tokens": 64,
}
OPENAI = Lane("openai", "https://api.openai.com", "/v1", "/v1/chat/completions", "gpt-5-mini")
AZURE = Lane("azure", "https://ours.openai.azure.com", "/openai/v1", "/chat/completions", "my-batch")
GROQ = Lane("groq", "https://api.groq.com", "/openai/v1", "/v1/chat/completions", "llama")
TOGETHER = Lane("together", "https://api.together.xyz", "/v1", "/v1/chat/completions", "llama")
MISTRAL = Lane("mistral", "https://api.mistral.ai", "/v1", "/v1/chat/completions", "mistral-small")
ANTHROPIC = Lane("anthropic", "https://api.anthropic.com", "/v1", "/v1/messages", "claude-haiku-4-5", BETAS)
GEMINI = Lane(
    "gemini", "https://generativelanguage.googleapis.com", "/v1beta", "generateContent", "gemini-2.5-flash"
)
LANES = (OPENAI, AZURE, GROQ, TOGETHER, MISTRAL, ANTHROPIC, GEMINI)


def of(lane: Lane) -> Adapter:
    return ADAPTERS[lane.provider]


def line(lane: Lane, body: dict[str, Any]) -> Any:
    return orjson.loads(of(lane).line(lane, Line("0af3b1c2d4e5-7", body)))


def test_a_line_of_openai_names_method_path_and_body_and_leaves_out_what_no_batch_takes() -> None:
    given = {**CHAT, "stream": False, "service_tier": "flex", "stream_options": None}
    assert line(OPENAI, given) == {
        "custom_id": "0af3b1c2d4e5-7",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": CHAT,
    }
    assert given["service_tier"] == "flex"  # the live request is untouched


def test_a_line_of_azure_names_the_deployment_that_the_live_path_named() -> None:
    found = line(AZURE, {"messages": CHAT["messages"]})
    assert (found["url"], found["body"]["model"]) == ("/chat/completions", "my-batch")


@pytest.mark.parametrize("lane", [TOGETHER, MISTRAL], ids=["together", "mistral"])
def test_a_line_of_together_and_mistral_is_an_id_and_a_body(lane: Lane) -> None:
    assert line(lane, CHAT).keys() == {"custom_id", "body"}


def test_a_line_of_anthropic_holds_params_without_stream() -> None:
    given = {
        "model": "claude-haiku-4-5",
        "max_tokens": 64,
        "messages": [],
        "stream": False,
        "thinking": {"type": "x"},
    }
    params = {name: value for name, value in given.items() if name != "stream"}
    assert line(ANTHROPIC, given) == {"custom_id": "0af3b1c2d4e5-7", "params": params}


def test_a_line_of_gemini_is_a_key_and_the_request() -> None:
    given = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {}}
    assert line(GEMINI, given) == {"key": "0af3b1c2d4e5-7", "request": given}


@pytest.mark.parametrize("lane", LANES, ids=[lane.provider for lane in LANES])
def test_a_line_is_one_line_whatever_the_text_holds(lane: Lane) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "a\nb\r\nc\u2028d\x0be"}], "max_tokens": 5}
    sent = of(lane).line(lane, Line("x-1", body))
    assert b"\n" not in sent
    assert b"\r" not in sent


def test_openai_is_sent_a_form_with_a_file_that_bears_our_tag() -> None:
    ask = of(OPENAI).upload(OPENAI, "0af3b1c2d4e5", 10)
    assert ask is not None
    assert (ask.method, ask.url, ask.joint) == ("POST", "https://api.openai.com/v1/files", b"\n")
    assert b'name="purpose"\r\n\r\nbatch\r\n' in ask.head
    assert b'filename="cottonpalm-0af3b1c2d4e5.jsonl"' in ask.head


def test_together_is_sent_the_form_that_it_documents() -> None:
    ask = of(TOGETHER).upload(TOGETHER, "tag", 10)
    assert ask is not None
    assert ask.url == "https://api.together.xyz/v1/files/upload"
    for field in (
        b'"purpose"\r\n\r\nbatch-api',
        b'"file_type"\r\n\r\njsonl',
        b'"file_name"\r\n\r\ncottonpalm-tag.jsonl',
    ):
        assert field in ask.head


def test_a_batch_of_openai_is_created_with_our_tag_in_its_metadata() -> None:
    ask = of(OPENAI).create(OPENAI, "0af3b1c2d4e5", "file-in")
    assert ask.url == "https://api.openai.com/v1/batches"
    assert orjson.loads(ask.head) == {
        "input_file_id": "file-in",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"cottonpalm": "0af3b1c2d4e5"},
    }


def test_groq_and_azure_are_asked_below_their_own_roots() -> None:
    assert of(GROQ).create(GROQ, "t", "f").url == "https://api.groq.com/openai/v1/batches"
    assert of(AZURE).create(AZURE, "t", "f").url == "https://ours.openai.azure.com/openai/v1/batches"
    assert orjson.loads(of(AZURE).create(AZURE, "t", "f").head)["endpoint"] == "/chat/completions"


def test_a_job_of_mistral_names_its_model_and_its_files() -> None:
    ask = of(MISTRAL).create(MISTRAL, "t", "f")
    assert ask.url == "https://api.mistral.ai/v1/batch/jobs"
    body = orjson.loads(ask.head)
    assert (body["input_files"], body["model"], body["metadata"]) == (
        ["f"],
        "mistral-small",
        {"cottonpalm": "t"},
    )


def test_anthropic_is_sent_all_lines_in_one_request_with_version_and_betas() -> None:
    ask = of(ANTHROPIC).create(ANTHROPIC, "t", None)
    assert of(ANTHROPIC).upload(ANTHROPIC, "t", 5) is None
    assert ask.url == "https://api.anthropic.com/v1/messages/batches"
    assert orjson.loads(ask.head + (ask.joint or b"").join([b"1", b"2"]) + ask.tail) == {"requests": [1, 2]}
    assert ask.headers == {"content-type": "application/json", **dict(BETAS)}
    assert of(ANTHROPIC).look(ANTHROPIC, "b").headers == dict(BETAS)


def test_gemini_is_told_of_the_file_first_and_sent_it_then() -> None:
    start = of(GEMINI).upload(GEMINI, "t", 1234)
    assert start is not None
    assert start.url == "https://generativelanguage.googleapis.com/upload/v1beta/files"
    assert start.headers["x-goog-upload-header-content-length"] == "1234"
    then = of(GEMINI).upload(GEMINI, "t", 1234, "https://where")
    assert then is not None
    assert (then.url, then.headers["x-goog-upload-command"], then.joint) == (
        "https://where",
        "upload, finalize",
        b"\n",
    )
    ask = of(GEMINI).create(GEMINI, "t", "files/9")
    assert ask.url.endswith("/v1beta/models/gemini-2.5-flash:batchGenerateContent")
    assert orjson.loads(ask.head)["batch"]["inputConfig"] == {"fileName": "files/9"}


# -- what comes back ------------------------------------------------------------------------------------------


def openai_batch(**more: Any) -> dict[str, Any]:
    return {
        "id": "batch_abc",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-in",
        "status": "expired",
        "output_file_id": "file-out",
        "error_file_id": "file-err",
        "created_at": 1790000000,
        "expires_at": 1790086400,
        "expired_at": 1790086401,
        "completed_at": None,
        "request_counts": {"total": 3, "completed": 1, "failed": 2},
        "metadata": {"cottonpalm": "0af3b1c2d4e5"},
    } | more


def test_an_expired_batch_of_openai_has_both_files() -> None:
    state = of(OPENAI).state(openai_batch())
    assert (state.phase, state.ended, state.ended_at) == (Phase.EXPIRED, True, 1790086401.0)
    assert (state.rows, state.done, state.failed, state.tag) == (3, 1, 2, "0af3b1c2d4e5")
    asks = of(OPENAI).results(OPENAI, state)
    assert [ask.url.removeprefix("https://api.openai.com") for ask in asks] == [
        "/v1/files/file-out/content",
        "/v1/files/file-err/content",
    ]


def test_a_batch_whose_rows_were_all_refused_has_one_file() -> None:
    state = of(OPENAI).state(openai_batch(status="completed", output_file_id=None))
    assert state.results == ("file-err",)


def test_a_batch_that_failed_in_validation_says_why() -> None:
    fault = {
        "code": "duplicate_custom_id",
        "line": 2,
        "message": "custom_id must be unique",
        "param": "custom_id",
    }
    batch = openai_batch(
        status="failed",
        errors={"object": "list", "data": [fault]},
        output_file_id=None,
        error_file_id=None,
        request_counts={"total": 0, "completed": 0, "failed": 0},
        metadata=None,
    )
    state = of(OPENAI).state(batch)
    assert state.faults == (BatchFault("duplicate_custom_id", "custom_id must be unique", 2),)
    assert (state.results, state.rows, state.tag, state.queue_full) == ((), None, None, False)


def test_a_full_queue_is_told_by_its_code() -> None:
    fault = {
        "code": "token_limit_exceeded",
        "message": "Enqueued token limit reached for gpt-5-mini",
        "line": None,
    }
    assert of(OPENAI).state(openai_batch(status="failed", errors={"data": [fault]})).queue_full


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("validating", Phase.VALIDATING),
        ("in_progress", Phase.IN_PROGRESS),
        ("finalizing", Phase.FINALIZING),
        ("cancelling", Phase.CANCELLING),
        ("cancelled", Phase.CANCELLED),
        ("COMPLETED", Phase.COMPLETED),  # Together
        ("something new", Phase.IN_PROGRESS),
        (None, Phase.IN_PROGRESS),
    ],
)
def test_an_unknown_status_is_one_that_will_change(status: str | None, phase: Phase) -> None:
    assert of(OPENAI).state(openai_batch(status=status)).phase is phase


def test_together_wraps_what_it_created_and_lists_without_a_wrap() -> None:
    job = {
        "id": "01234567-8901",
        "input_file_id": "file-input123",
        "status": "IN_PROGRESS",
        "created_at": "2026-01-15T14:30:00Z",
        "endpoint": "/v1/chat/completions",
        "progress": 75,
    }
    created, listed = of(TOGETHER).state({"job": job, "warning": ""}), of(TOGETHER).state(job)
    assert created == listed
    assert (created.batch_id, created.input_file_id, created.tag) == ("01234567-8901", "file-input123", None)
    assert created.share == 0.75
    ask = of(TOGETHER).listing(TOGETHER)
    assert of(TOGETHER).page(TOGETHER, {"data": [job]}, ask).states == (created,)


def test_a_job_of_mistral_is_read_in_its_own_words() -> None:
    job = {
        "id": "j1",
        "object": "batch",
        "input_files": ["f1"],
        "status": "TIMEOUT_EXCEEDED",
        "created_at": 1790000000,
        "completed_at": 1790086400,
        "total_requests": 3,
        "succeeded_requests": 1,
        "failed_requests": 1,
        "output_file": "out",
        "error_file": None,
        "errors": [],
        "metadata": {"cottonpalm": "t"},
    }
    state = of(MISTRAL).state(job)
    assert (state.phase, state.rows, state.done, state.failed) == (Phase.EXPIRED, 3, 1, 1)
    assert (state.tag, state.input_file_id, state.results) == ("t", "f1", ("out",))
    ask = of(MISTRAL).listing(MISTRAL)
    more = of(MISTRAL).page(MISTRAL, {"data": [job] * 100}, ask).more
    assert more is not None
    assert more.url.endswith("page=1")
    assert of(MISTRAL).page(MISTRAL, {"data": [job]}, more).more is None


def anthropic_batch(**more: Any) -> dict[str, Any]:
    return {
        "id": "msgbatch_01",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 1},
        "created_at": "2026-11-25T09:00:00Z",
        "expires_at": "2026-11-26T09:00:00Z",
        "ended_at": "2026-11-26T09:00:01Z",
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_01/results",
    } | more


def test_how_a_batch_of_anthropic_ended_is_told_by_its_counts() -> None:
    state = of(ANTHROPIC).state(anthropic_batch())
    assert (state.phase, state.rows, state.done, state.failed) == (Phase.EXPIRED, 3, 1, 1)
    counts = {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 2, "expired": 0}
    assert of(ANTHROPIC).state(anthropic_batch(request_counts=counts)).phase is Phase.CANCELLED
    running = anthropic_batch(processing_status="canceling", results_url=None, ended_at=None)
    assert of(ANTHROPIC).state(running).phase is Phase.CANCELLING


def test_an_archived_batch_of_anthropic_has_no_results_any_more() -> None:
    state = of(ANTHROPIC).state(anthropic_batch(archived_at="2026-12-25T09:00:00Z"))
    assert state.gone
    assert of(ANTHROPIC).results(ANTHROPIC, state) == []


def test_credentials_are_never_sent_to_an_address_that_a_reply_names() -> None:
    state = of(ANTHROPIC).state(anthropic_batch(results_url="https://evil.example/results"))
    [ask] = of(ANTHROPIC).results(ANTHROPIC, state)
    assert ask.url == "https://api.anthropic.com/v1/messages/batches/msgbatch_01/results"


def gemini_batch(state: str, **more: Any) -> dict[str, Any]:
    about = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "displayName": "cottonpalm-0af3b1c2d4e5",
        "state": state,
        "createTime": "2026-11-25T09:00:00.123456789Z",
        "batchStats": {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"},
        "output": {"responsesFile": "files/out"},
    }
    return {"name": "batches/123", "metadata": about} | more


def test_an_operation_of_gemini_is_read_with_its_numbers_in_text() -> None:
    state = of(GEMINI).state(gemini_batch("BATCH_STATE_SUCCEEDED", done=True))
    assert (state.phase, state.rows, state.done, state.failed) == (Phase.COMPLETED, 2, 1, 1)
    assert (state.batch_id, state.tag, state.results) == ("batches/123", "0af3b1c2d4e5", ("files/out",))
    assert state.created_at is not None
    [ask] = of(GEMINI).results(GEMINI, state)
    assert ask.url == "https://generativelanguage.googleapis.com/v1beta/files/out:download?alt=media"


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("BATCH_STATE_PENDING", Phase.VALIDATING),
        ("JOB_STATE_QUEUED", Phase.VALIDATING),
        ("BATCH_STATE_RUNNING", Phase.IN_PROGRESS),
        ("BATCH_STATE_EXPIRED", Phase.EXPIRED),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", Phase.COMPLETED),
        ("BATCH_STATE_CANCELLED", Phase.CANCELLED),
        ("BATCH_STATE_NEW", Phase.IN_PROGRESS),
    ],
)
def test_both_prefixes_of_geminis_states_are_known(state: str, phase: Phase) -> None:
    assert of(GEMINI).state(gemini_batch(state)).phase is phase


def test_a_failed_operation_of_gemini_says_why() -> None:
    state = of(GEMINI).state(gemini_batch("BATCH_STATE_FAILED", error={"code": 8, "message": "too much"}))
    assert (state.phase, state.queue_full) == (Phase.FAILED, True)
