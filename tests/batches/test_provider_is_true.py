"""The loopback provider is what the vendors' own SDKs expect, and refuses what the documentation refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from tests.batches.kit import HEADERS, body_of, url_of
from tests.support.batch_provider import BatchProvider, Faults

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("one", "two")


def chat_lines(*ids: str, url: str = "/v1/chat/completions", **body: Any) -> bytes:
    lines = [
        {"custom_id": id_, "method": "POST", "url": url, "body": {**body_of("openai", id_), **body}}
        for id_ in ids
    ]
    return b"\n".join(map(orjson.dumps, lines))


def test_openais_sdk_takes_it_for_openai(server: BatchProvider) -> None:
    from openai import OpenAI

    with OpenAI(api_key="k", base_url=server.openai_url, max_retries=0) as client:
        file = client.files.create(file=("x.jsonl", chat_lines(*TEXTS)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"cottonpalm": "t"},
        )
        assert batch.status == "validating"
        assert [found.id for found in client.batches.list(limit=1)] == [batch.id]
        while (batch := client.batches.retrieve(batch.id)).status != "completed":
            assert batch.status == "in_progress"
        assert batch.request_counts is not None
        assert (batch.request_counts.total, batch.request_counts.completed) == (2, 2)
        assert batch.error_file_id is None
        assert batch.output_file_id is not None
        lines = client.files.content(batch.output_file_id).text.splitlines()
        assert {orjson.loads(line)["custom_id"] for line in lines} == set(TEXTS)
        assert client.batches.cancel(batch.id).status == "completed"


def test_anthropics_sdk_takes_it_for_anthropic(server: BatchProvider) -> None:
    from anthropic import Anthropic

    with Anthropic(api_key="k", base_url=server.anthropic_url, max_retries=0) as client:
        requests: Any = [{"custom_id": text, "params": body_of("anthropic", text)} for text in TEXTS]
        batch = client.messages.batches.create(requests=requests)
        assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 2)
        assert [found.id for found in client.messages.batches.list(limit=1)] == [batch.id]
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            pass
        results = {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}
        assert results.keys() == set(TEXTS)
        one = results["one"]
        assert one.type == "succeeded"
        assert one.message.usage.service_tier == "batch"


def test_googles_sdk_takes_it_for_gemini(server: BatchProvider, tmp_path: Path) -> None:
    from google import genai

    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b"\n".join(orjson.dumps({"key": text, "request": body_of("gemini", text)}) for text in TEXTS)
    )
    client = genai.Client(api_key="k", http_options={"base_url": server.gemini_url})
    file = client.files.upload(file=str(path), config={"display_name": "x", "mime_type": "application/jsonl"})
    assert file.name is not None
    job = client.batches.create(model="gemini-test", src=file.name, config={"display_name": "cottonpalm-t"})
    assert job.name is not None
    while (job := client.batches.get(name=job.name)).state != "JOB_STATE_SUCCEEDED":
        assert job.name is not None
    assert job.display_name == "cottonpalm-t"
    assert job.dest is not None
    assert job.dest.file_name is not None
    lines = client.files.download(file=job.dest.file_name).splitlines()
    assert {orjson.loads(line)["key"] for line in lines} == set(TEXTS)
    assert [found.name for found in client.batches.list()] == [job.name]
    client.close()


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.fixture
def http(server: BatchProvider) -> Any:
    with httpx.Client(base_url=server.openai_url, headers=HEADERS["openai"]) as client:
        yield client


def batch_of(http: httpx.Client, content: bytes, **more: Any) -> dict[str, Any]:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    form += (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    file = http.post("/files", content=form, headers=headers).json()["id"]
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made = http.post("/batches", json=body | more)
    return made.json() if made.status_code >= 400 else http.get(f"/batches/{made.json()['id']}").json()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (chat_lines("a", "a"), "duplicate_custom_id"),
        (chat_lines("a", url="/v1/responses"), "invalid_url"),
        (chat_lines("a", stream=True), "invalid_request"),
        (chat_lines("a") + b"\n" + chat_lines("b", model="other"), "mismatched_model"),
        (b"{not json", "invalid_json_line"),
        (b'{"custom_id":"a","body":{}}', "invalid_line"),
        (chat_lines(*map(str, range(4))), "max_requests_exceeded"),
    ],
)
def test_a_file_that_is_wrong_fails_the_whole_batch(
    server: BatchProvider, http: httpx.Client, content: bytes, code: str
) -> None:
    server.rows["openai"] = 3
    batch = batch_of(http, content)
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", code)
    assert not server.bills


@pytest.mark.parametrize(
    "more",
    [{"surprise": 1}, {"endpoint": "/v1/messages"}, {"completion_window": "1h"}, {"input_file_id": "file-0"}],
)
def test_a_batch_that_is_asked_for_wrongly_is_not_made(
    server: BatchProvider, http: httpx.Client, more: dict[str, Any]
) -> None:
    assert "error" in batch_of(http, chat_lines("a"), **more)
    assert not server.jobs


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [{"custom_id": "a b", "params": {}}],
        [{"custom_id": "a" * 65, "params": {}}],
        [{"custom_id": "a", "params": {}}, {"custom_id": "a", "params": {}}],
        [{"custom_id": "a", "params": {"stream": False}}],
        [{"custom_id": "a", "params": {}, "method": "POST"}],
        [{"custom_id": str(n), "params": {}} for n in range(4)],
    ],
)
def test_a_message_batch_that_is_wrong_is_not_made(server: BatchProvider, requests: list[Any]) -> None:
    server.rows["anthropic"] = 3
    answer = httpx.post(
        server.anthropic_url + "/v1/messages/batches",
        json={"requests": requests},
        headers=HEADERS["anthropic"],
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert not server.jobs


def test_a_row_with_an_unknown_field_fails_alone(server: BatchProvider, http: httpx.Client) -> None:
    server.faults = Faults(looks=1)
    batch = batch_of(http, chat_lines("a") + b"\n" + chat_lines("b", surprise=1))
    assert (batch["request_counts"]["completed"], batch["request_counts"]["failed"]) == (1, 1)


@pytest.mark.parametrize("header", [{}, {"x-api-key": "k"}])
def test_nothing_is_served_without_a_key_or_without_a_version(
    server: BatchProvider, header: dict[str, str]
) -> None:
    answer = httpx.get(server.anthropic_url + "/v1/messages/batches", headers=header)
    assert answer.status_code == (400 if header else 401)


def test_what_is_charged_is_half_in_a_batch(server: BatchProvider, http: httpx.Client) -> None:
    server.faults = Faults(looks=1)
    batch_of(http, chat_lines("a question"))
    prices = {"model-openai": (4, 6)}
    in_a_batch = server.charged(prices)
    body = {name: value for name, value in body_of("openai", "a question").items() if name != "stream"}
    httpx.post(url_of(server, "openai"), json=body, headers=HEADERS["openai"])
    assert in_a_batch > 0
    assert server.charged(prices) == 3 * in_a_batch
    assert server.paid_twice() == {("model-openai", "a question"): 2}


def test_a_batch_comes_on_with_time_where_it_is_told_how_long_it_takes(
    server: BatchProvider, http: httpx.Client
) -> None:
    clock = [1_000.0]
    server.now = lambda: clock[0]  # type: ignore[method-assign]
    server.faults = Faults(turnaround_s=100.0, cancel_looks=10.0)
    seen = []
    for _ in range(2):
        clock[0] = 1_000.0
        id_ = batch_of(http, chat_lines(*map(str, range(10))))["id"]
        for at in (1_050.0, 1_055.0, 1_060.0, 1_100.0):
            clock[0] = at
            batch = http.get(f"/batches/{id_}").json()
            seen.append((batch["status"], batch["request_counts"]["completed"]))
            if at == 1_050.0 and len(seen) > 4:
                http.post(f"/batches/{id_}/cancel")
    assert seen[:4] == [("in_progress", 5), ("in_progress", 5), ("in_progress", 6), ("completed", 10)]
    assert seen[4:] == [("in_progress", 5), ("cancelling", 5), ("cancelled", 5), ("cancelled", 5)]
