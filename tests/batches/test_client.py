"""What is sent where, and what an answer means: with which credentials, and whether a batch may have been made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from cottonpalm.providers.batches.client import BatchClient
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.troubles import Trouble
from cottonpalm.testing import virtual_run
from tests.batches.kit import packed_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from cottonpalm.providers.batches.lines import Result

OPENAI = Lane("openai", "https://api.openai.com", "/v1", "/v1/chat/completions", "gpt-5-mini")
ANTHROPIC = Lane("anthropic", "https://api.anthropic.com", "/v1", "/v1/messages", "claude")
GEMINI = Lane(
    "gemini", "https://generativelanguage.googleapis.com", "/v1beta", "generateContent", "gemini-test"
)
TOGETHER = Lane("together", "https://api.together.xyz", "/v1", "/v1/chat/completions", "llama")
KEYS = {
    "authorization": "Bearer sk-secret123",
    "x-api-key": "sk-ant-secret",
    "x-goog-api-key": "AIzaSecret12345",
}
Answers = Any  # a response, an exception, or a function of the request that gives one


class Wire(httpx.AsyncBaseTransport):
    """Gives one answer after the other, and remembers what was asked."""

    def __init__(self, *answers: Answers) -> None:
        self._answers, self.asked = list(answers), []  # type: ignore[var-annotated]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def ask(lane: Lane, wire: Wire, what: Callable[[BatchClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(transport=wire) as http:
            return await what(BatchClient(lane, http, KEYS))

    return asyncio.run(main())


def results(client: BatchClient) -> Awaitable[list[Result]]:
    async def main() -> list[Result]:
        state = client.adapter.state({"id": "b", "status": "completed", "output_file_id": "out"})
        [file] = client.adapter.results(client.lane, state)
        return [result async for result in client.results(file)]

    return main()


LINE = b'{"custom_id":"t-0","response":{"status_code":200,"body":{"text":"a\xe2\x80\xa8b"}},"error":null}'


@pytest.mark.parametrize(
    ("endpoint", "body", "final"),
    [
        ("chat/completions", {"error": {"message": "overloaded", "code": "server_error"}}, False),
        ("chat/completions", {"error": {"message": "too long", "code": "context_length_exceeded"}}, True),
        ("responses", {"status": "failed", "error": {"code": "server_error", "message": "no"}}, False),
        ("responses", {"status": "failed", "error": {"code": "invalid_prompt", "message": "no"}}, True),
        ("responses", {"status": "completed", "error": None, "output": []}, True),
    ],
)
def test_an_error_under_status_200_is_asked_again_where_another_try_may_help_as_in_a_live_run(
    endpoint: str, body: dict[str, Any], final: bool
) -> None:
    line = {"custom_id": "t-0", "response": {"status_code": 200, "body": body}, "error": None}
    wire = Wire(httpx.Response(200, content=orjson.dumps(line)))
    [found] = ask(replace(OPENAI, endpoint=f"/v1/{endpoint}"), wire, results)
    assert found.final is final


def test_a_download_that_is_moved_to_another_host_is_followed_without_credentials() -> None:
    wire = Wire(
        httpx.Response(302, headers={"location": "https://storage.example/x"}),
        httpx.Response(200, content=LINE),
    )
    found = ask(OPENAI, wire, results)
    assert [result.custom_id for result in found] == ["t-0"]
    assert [str(request.url) for request in wire.asked][1] == "https://storage.example/x"
    assert "authorization" in wire.asked[0].headers
    assert not KEYS.keys() & wire.asked[1].headers.keys()


def test_a_move_within_the_provider_keeps_the_credentials() -> None:
    wire = Wire(
        httpx.Response(307, headers={"location": "/v1/files/moved"}), httpx.Response(200, content=LINE)
    )
    ask(OPENAI, wire, results)
    assert wire.asked[1].headers["authorization"] == KEYS["authorization"]


def test_results_are_cut_at_line_breaks_alone_wherever_the_network_cuts_them() -> None:
    content = b"\n".join([LINE, b"", b"junk", LINE.replace(b"t-0", b"t-1")])

    async def stream() -> Any:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    found = ask(OPENAI, Wire(httpx.Response(200, content=stream())), results)
    assert [result.custom_id for result in found] == ["t-0", "t-1"]
    assert found[0].body == {"text": "a\u2028b"}


@pytest.mark.parametrize(
    "page", [b"<html>\n<p>Maintenance</p>\n</html>", b'{"error": {"message": "not now"}}']
)
def test_a_page_that_holds_no_result_at_all_is_no_file_of_results_and_is_fetched_again(page: bytes) -> None:
    with pytest.raises(Trouble, match="the answer is no file of results: ") as raised:
        ask(OPENAI, Wire(httpx.Response(200, content=page)), results)
    assert raised.value.what == "later"
    assert ask(OPENAI, Wire(httpx.Response(200, content=b"\n")), results) == []


class Cut(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"id": '
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def test_an_upload_whose_answer_breaks_off_is_sent_again(tmp_path: Path) -> None:
    packed = packed_of(OPENAI, ["a"], tmp_path)
    for answer in (
        httpx.Response(200, stream=Cut()),
        httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"content-encoding": "gzip"}),
    ):
        with pytest.raises(Trouble) as raised:
            ask(OPENAI, Wire(answer), lambda client: client.upload(packed))
        assert raised.value.what == "later"


def test_a_file_goes_where_gemini_says_and_to_another_host_without_the_key(tmp_path: Path) -> None:
    wire = Wire(
        httpx.Response(200, headers={"x-goog-upload-url": "https://elsewhere.example/up"}),
        httpx.Response(200, json={"file": {"name": "files/9"}}),
    )
    packed = packed_of(GEMINI, ["a", "b"], tmp_path)
    assert ask(GEMINI, wire, lambda client: client.upload(packed)) == "files/9"
    start, then = wire.asked
    assert start.headers["x-goog-upload-header-content-length"] == str(len(then.content))
    assert then.content == b"".join(packed.blocks(b"\n"))
    assert "x-goog-api-key" in start.headers
    assert "x-goog-api-key" not in then.headers


def test_a_file_is_sent_with_its_length_and_a_list_without_a_last_comma(tmp_path: Path) -> None:
    packed = packed_of(ANTHROPIC, ["a", "b"], tmp_path)
    wire = Wire(httpx.Response(200, json={"id": "msgbatch_1", "processing_status": "in_progress"}))
    state = ask(ANTHROPIC, wire, lambda client: client.create("tag", None, packed))
    assert state.batch_id == "msgbatch_1"
    [sent] = wire.asked
    assert sent.headers["content-length"] == str(len(sent.content))
    assert "transfer-encoding" not in sent.headers
    assert sent.content.startswith(b'{"requests":[{')
    assert sent.content.endswith(b"}]}")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (httpx.ConnectError("refused"), "later"),
        (httpx.ConnectTimeout("slow"), "later"),
        (httpx.ReadTimeout("slow"), "unsure"),
        (httpx.WriteError("broken"), "unsure"),
        (httpx.RemoteProtocolError("cut"), "unsure"),
        (httpx.Response(200, content=b"<html>"), "unsure"),
        (httpx.Response(200, json={}), "unsure"),
        (httpx.Response(500), "unsure"),
        (httpx.Response(502), "unsure"),
        (httpx.Response(408), "unsure"),
        (httpx.Response(409), "unsure"),
        (httpx.Response(529), "later"),
        (httpx.Response(429), "later"),
        (httpx.Response(400), "refused"),
        (httpx.Response(404), "refused"),
        (httpx.Response(413), "refused"),
        (httpx.Response(401), "denied"),
        (httpx.Response(403), "denied"),
        (
            httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "no money"}}),
            "denied",
        ),
        (
            httpx.Response(
                400, json={"error": {"code": "token_limit_exceeded", "message": "Enqueued token limit"}}
            ),
            "full",
        ),
    ],
)
def test_whether_a_batch_may_have_been_made_is_told_by_how_its_submission_ended(
    answer: Answers, what: str
) -> None:
    wire = Wire(answer)
    with pytest.raises(Trouble) as caught:
        ask(OPENAI, wire, lambda client: client.create("tag", "file-1", None))
    assert caught.value.what == what
    assert len(wire.asked) == 1  # it is never repeated here


@pytest.mark.parametrize(
    ("details", "what"),
    [([], "full"), ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}], "later")],
)
def test_geminis_one_word_for_two_things_is_told_apart_by_a_time_to_wait(
    details: list[Any], what: str
) -> None:
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}
    with pytest.raises(Trouble) as caught:
        ask(
            GEMINI,
            Wire(httpx.Response(429, json={"error": error})),
            lambda client: client.create("t", "files/1", None),
        )
    assert caught.value.what == what
    assert caught.value.after_s == (7.0 if details else None)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (httpx.ReadTimeout("slow"), "later"),
        (httpx.Response(500), "later"),
        (httpx.Response(429, headers={"retry-after": "30"}), "later"),
        (httpx.Response(200, content=b"<html>"), "later"),
        (httpx.Response(404), "gone"),
        (httpx.Response(200, json=[]), "later"),
        (httpx.Response(200, json={"status": "in_progress"}), "later"),
        (httpx.Response(401), "denied"),
    ],
)
def test_a_look_that_failed_may_be_repeated_unless_the_provider_says_otherwise(
    answer: Answers, what: str
) -> None:
    with pytest.raises(Trouble) as caught:
        ask(OPENAI, Wire(answer), lambda client: client.look("b"))
    assert caught.value.what == what
    assert caught.value.after_s == (30.0 if getattr(answer, "headers", {}).get("retry-after") else None)


def test_no_credential_is_in_what_is_said_of_a_trouble() -> None:
    error = {"message": "Incorrect API key provided: sk-secret123456789.", "code": "invalid_api_key"}
    with pytest.raises(Trouble) as caught:
        ask(OPENAI, Wire(httpx.Response(401, json={"error": error})), lambda client: client.look("b"))
    assert "secret" not in str(caught.value)
    assert "Incorrect API key" in str(caught.value)


def page(first: int, count: int, *, more: bool) -> httpx.Response:
    data = [
        {"id": f"b{n}", "status": "completed", "created_at": 10_000 - n} for n in range(first, first + count)
    ]
    return httpx.Response(200, json={"data": data, "has_more": more})


def test_a_listing_is_read_page_by_page_until_it_is_older_than_what_is_looked_for() -> None:
    wire = Wire(page(0, 100, more=True), page(100, 100, more=True), page(200, 100, more=True))
    states = ask(OPENAI, wire, lambda client: client.listing(since=9_850))
    assert len(states) == 300
    assert [request.url.query for request in wire.asked] == [
        b"limit=100",
        b"limit=100&after=b99",
        b"limit=100&after=b199",
    ]


def test_a_listing_without_a_wrap_is_read_too() -> None:
    jobs = [{"id": "j1", "status": "COMPLETED", "input_file_id": "f1", "created_at": "2026-01-15T14:30:00Z"}]
    [state] = ask(TOGETHER, Wire(httpx.Response(200, json=jobs)), lambda client: client.listing(since=0.0))
    assert (state.batch_id, state.input_file_id) == ("j1", "f1")


@pytest.mark.parametrize("status", [200, 400, 404])
def test_to_cancel_what_has_ended_is_fine(status: int) -> None:
    assert ask(OPENAI, Wire(httpx.Response(status, json={})), lambda client: client.cancel("b")) is None


def test_a_key_that_a_provider_quotes_is_neither_written_down_nor_told() -> None:
    said = "no access with sk-secret0123456789 to https://files.test/a?sig=abcdef0123456789"
    job = {
        "id": "b",
        "status": "failed",
        "errors": {"data": [{"code": "invalid", "message": said, "line": 1}]},
    }
    looked = ask(OPENAI, Wire(httpx.Response(200, json=job)), lambda client: client.look("b"))
    made = ask(OPENAI, Wire(httpx.Response(200, json=job)), lambda client: client.create("t", "f", None))
    listing = Wire(httpx.Response(200, json={"data": [job]}))
    [listed] = ask(OPENAI, listing, lambda client: client.listing(0.0))
    line = {"custom_id": "t-0", "response": None, "error": {"code": "batch_expired", "message": said}}
    [result] = ask(OPENAI, Wire(httpx.Response(200, json=line)), results)
    told = "no access with [redacted] to https://files.test/a?sig=[redacted]"
    assert {state.faults[0].message for state in (looked, made, listed)} == {told}
    assert result.why == f"batch_expired: {told}"


def test_a_key_that_a_refused_line_quotes_is_not_written_down() -> None:
    error = {"message": "Incorrect API key provided: sk-secret123456789.", "code": "invalid_api_key"}
    body = {"error": {**error, "details": [{"said": "Bearer sk-secret123456789", "status": 401}]}}
    line = {"custom_id": "t-0", "response": {"status_code": 401, "body": body}, "error": None}
    [result] = ask(OPENAI, Wire(httpx.Response(200, json=line)), results)
    assert (result.status, result.body["error"]["code"]) == (401, "invalid_api_key")
    assert result.body["error"]["message"].startswith("Incorrect API key provided: [redacted]")
    assert result.body["error"]["details"] == [{"said": "Bearer [redacted]", "status": 401}]


def test_an_answer_is_written_down_whatever_its_text_looks_like() -> None:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "sk-secret123456789"},
        "finish_reason": "stop",
    }
    line = {
        "custom_id": "t-0",
        "response": {"status_code": 200, "body": {"choices": [choice]}},
        "error": None,
    }
    [result] = ask(OPENAI, Wire(httpx.Response(200, json=line)), results)
    assert result.body == {"choices": [choice]}


@pytest.mark.parametrize("where", ["http://[files/out", "http://files.test:port/out"])
def test_an_upload_that_is_to_go_to_no_address_is_tried_again(where: str, tmp_path: Path) -> None:
    started = httpx.Response(200, headers={"x-goog-upload-url": where})
    packed = packed_of(GEMINI, ["a"], tmp_path)
    with pytest.raises(Trouble, match="an address that is none") as sent:
        ask(GEMINI, Wire(started), lambda client: client.upload(packed))
    assert sent.value.what == "later"


class Drip(httpx.AsyncByteStream):
    """A byte a second, for ever."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(1)
            yield b" "


@pytest.mark.parametrize(("creates", "what", "after"), [(False, "later", 60), (True, "unsure", 300)])
def test_an_answer_that_comes_a_byte_at_a_time_is_not_waited_for_for_ever(
    creates: bool, what: str, after: int
) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=Wire(httpx.Response(200, stream=Drip()))) as http:
            client = BatchClient(OPENAI, http, KEYS)
            async with asyncio.timeout(3600):
                await (client.create("t", "file", None) if creates else client.look("b"))

    with pytest.raises(Trouble, match=f"no whole answer in {after} s") as troubled:
        virtual_run(main())
    assert troubled.value.what == what


class Silent(httpx.AsyncBaseTransport):
    """A half-open connection: what is sent goes nowhere, and the wait ends as the client's own timeouts say."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("", request=request)


@pytest.mark.parametrize(
    ("asked", "most_s"),
    [
        (lambda client: client.look("b"), 60),
        (lambda client: client.cancel("b"), 60),
        (lambda client: client.listing(0.0), 60),
        (results, 300),
        (lambda client: client.create("t", "file", None), 300),
    ],
    ids=["look", "cancel", "listing", "results", "create"],
)
def test_a_small_question_over_a_half_open_connection_is_given_up_early(
    asked: Callable[[BatchClient], Any], most_s: int
) -> None:
    async def main() -> float:
        async with httpx.AsyncClient(transport=Silent()) as http:
            with pytest.raises(Trouble):
                await asked(BatchClient(OPENAI, http, KEYS))
        return asyncio.get_running_loop().time()

    assert virtual_run(main()) == most_s
