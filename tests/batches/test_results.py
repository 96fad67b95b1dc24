"""What is read of each line that comes back, as documented and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from cottonpalm.providers.batches.lines import Result
from tests.batches.test_adapters import ANTHROPIC, GEMINI, LANES, OPENAI, of

if TYPE_CHECKING:
    from cottonpalm.providers.batches.lanes import Lane


def read(lane: Lane, value: Any) -> Result | None:
    return of(lane).result(orjson.dumps(value))


ANSWER = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}


def test_an_answer_of_openai_is_the_body_of_its_response() -> None:
    found = {"id": "x", "custom_id": "t-1", "response": {"status_code": 200, "body": ANSWER}, "error": None}
    assert read(OPENAI, found) == Result("t-1", 200, ANSWER)


def test_an_error_of_openai_is_told_by_the_line_whichever_file_it_stands_in() -> None:
    body = {
        "error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}
    }
    found = read(OPENAI, {"custom_id": "t-2", "response": {"status_code": 400, "body": body}, "error": None})
    assert found == Result("t-2", 400, body)
    assert found.final
    assert not found.good


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        ("batch_expired", "expired"),
        ("batch_cancelled", "cancelled"),
        ("timeout", "failed"),
        ("batch_failed", "failed"),
    ],
)
def test_a_row_of_openai_that_was_not_executed_is_to_be_asked_again(code: str, lost: str) -> None:
    found = read(OPENAI, {"custom_id": "t-3", "response": None, "error": {"code": code, "message": "no"}})
    assert found is not None
    assert (found.status, found.lost, found.final) == (0, lost, False)
    assert code in found.why


def test_a_row_of_openai_with_an_unknown_model_is_refused_for_good() -> None:
    found = read(
        OPENAI, {"custom_id": "t-3", "response": None, "error": {"code": "model_not_found", "message": "no"}}
    )
    assert found is not None
    assert (found.status, found.final) == (404, True)
    assert found.body == {
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    }


def test_a_row_with_status_0_and_no_body_was_not_executed() -> None:
    found = read(OPENAI, {"custom_id": "t-4", "response": {"status_code": 0, "body": {}}, "error": None})
    assert found is not None
    assert (found.lost, found.final) == ("failed", False)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_row_that_may_work_another_time_is_not_final(status: int) -> None:
    assert not Result("t-1", status, {"error": {}}).final


def test_the_results_of_anthropic_are_a_message_an_error_or_nothing() -> None:
    message = {"id": "msg_01", "type": "message", "content": [{"type": "text", "text": "hi"}]}
    assert read(
        ANTHROPIC, {"custom_id": "t-1", "result": {"type": "succeeded", "message": message}}
    ) == Result("t-1", 200, message)
    error = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "too long"},
        "request_id": "r",
    }
    assert read(ANTHROPIC, {"custom_id": "t-2", "result": {"type": "errored", "error": error}}) == Result(
        "t-2", 400, error
    )
    for kind, lost in (("expired", "expired"), ("canceled", "cancelled")):
        found = read(ANTHROPIC, {"custom_id": "t-3", "result": {"type": kind}})
        assert found is not None
        assert (found.status, found.lost) == (0, lost)


@pytest.mark.parametrize(
    ("kind", "status", "final"),
    [
        ("overloaded_error", 529, False),
        ("api_error", 500, False),
        ("not_found_error", 404, True),
        ("new_error", 500, False),
    ],
)
def test_an_error_of_anthropic_has_the_status_of_a_live_one(kind: str, status: int, final: bool) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "m"}}
    found = read(ANTHROPIC, {"custom_id": "t-2", "result": {"type": "errored", "error": error}})
    assert found is not None
    assert (found.status, found.final) == (status, final)


def test_the_results_of_gemini_are_a_response_or_a_status() -> None:
    response = {"candidates": [], "usageMetadata": {"promptTokenCount": 3}}
    assert read(GEMINI, {"key": "t-1", "response": response}) == Result("t-1", 200, response)
    found = read(GEMINI, {"key": "t-2", "error": {"code": 3, "message": "bad"}})
    assert found == Result(
        "t-2", 400, {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}
    )
    again = read(GEMINI, {"key": "t-3", "error": {"code": 14, "message": "later"}})
    assert again is not None
    assert (again.status, again.final) == (503, False)


@pytest.mark.parametrize("lane", LANES, ids=[lane.provider for lane in LANES])
@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"7", b"{}", b'{"custom_id": 5}', b'{"key": null}'])
def test_a_line_that_is_no_result_is_passed_over(lane: Lane, junk: bytes) -> None:
    assert of(lane).result(junk) is None


@pytest.mark.parametrize("lane", LANES, ids=[lane.provider for lane in LANES])
@pytest.mark.parametrize(
    "junk", [{}, {"id": 5, "status": [], "request_counts": 7, "metadata": "x", "data": {}}]
)
def test_a_reply_that_makes_no_sense_is_a_state_that_will_change(lane: Lane, junk: dict[str, Any]) -> None:
    state = of(lane).state(junk)
    assert (state.ended, state.batch_id, state.results) == (False, "", ())
    assert of(lane).page(lane, junk, of(lane).listing(lane)).states == ()
