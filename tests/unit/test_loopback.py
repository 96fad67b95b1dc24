"""The loopback provider does what the tests rely on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAIEmbeddings

from tests.support.loopback import Loopback, LoopbackProcess
from tests.support.replies import cut_body, faulty, held, no_usage, ok, resets, too_many

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


def _chat(client: httpx.Client, server: Loopback | LoopbackProcess, text: str, **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return client.post(f"{server.openai_url}/chat/completions", json=body)


def _models(server: Loopback) -> list[Any]:
    key: dict[str, Any] = {"api_key": "k", "max_retries": 0}
    return [
        ChatOpenAI(base_url=server.openai_url, model="m", stream_usage=True, **key),
        ChatOpenAI(base_url=server.openai_url, model="m", use_responses_api=True, **key),
        ChatAnthropic(base_url=server.url, model="m", **key),
        AzureChatOpenAI(azure_endpoint=server.url, azure_deployment="d", api_version="2024-06-01", **key),
    ]


def test_every_dialect_answers_the_row_it_was_asked(server: Loopback) -> None:
    for model in _models(server):
        answer = model.invoke("row 7")
        assert answer.text == "answer to: row 7"
        assert answer.usage_metadata["total_tokens"] > 0
    assert server.billed.answers == 4
    assert server.counts == {"row 7": 4}


def test_texts_are_embedded(server: Loopback) -> None:
    model = OpenAIEmbeddings(
        base_url=server.openai_url, api_key="k", model="e", check_embedding_ctx_length=False
    )
    assert [len(vector) for vector in model.embed_documents(["a", "b"])] == [3, 3]


def test_streams_add_up_to_the_same_answer(server: Loopback) -> None:
    chat, _, anthropic, _ = _models(server)
    for model in (chat, anthropic):
        assert "".join(chunk.text for chunk in model.stream("row 7")) == "answer to: row 7"
    assert server.billed.answers == 2


def test_an_answer_longer_than_the_asked_maximum_is_cut(server: Loopback) -> None:
    with httpx.Client() as client:
        body = _chat(client, server, "a long row of many words", max_tokens=3).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == server.billed.output_tokens == 3


def test_what_the_client_cannot_read_the_usage_of_is_billed_apart(server: Loopback) -> None:
    server.script([cut_body(), no_usage(), resets(), too_many(7), ok("fine")])
    with httpx.Client() as client:
        for error in (httpx.RemoteProtocolError, None, httpx.ReadError, None):
            if error is None:
                _chat(client, server, "row")
            else:
                with pytest.raises(error):
                    _chat(client, server, "row")
        assert _chat(client, server, "row").json()["choices"][0]["message"]["content"] == "fine"
    assert (server.billed.answers, server.billed_unseen.answers, server.requests) == (1, 2, 5)


def test_held_requests_are_in_flight_until_they_are_released(server: Loopback) -> None:
    server.script(lambda _: held())
    with httpx.Client() as client, ThreadPoolExecutor(3) as pool:
        rows = [pool.submit(_chat, client, server, f"row {n}") for n in range(3)]
        server.wait(in_flight=3)
        server.release()
        assert [row.result(20).status_code for row in rows] == [200] * 3
    assert (server.peak, server.in_flight) == (3, 0)


def test_seeded_faults_depend_on_the_row_and_not_on_the_order() -> None:
    def statuses(order: list[int]) -> dict[int, list[int]]:
        script = faulty(5, [(0.3, too_many()), (0.2, ok().having(x_note="1"))], first=2)
        with Loopback(script) as server, httpx.Client() as client:
            return {n: [_chat(client, server, f"row {n}").status_code for _ in range(3)] for n in order}

    forwards, backwards = statuses(list(range(30))), statuses(list(range(29, -1, -1)))
    assert forwards == backwards
    assert {429, 200} == {status for row in forwards.values() for status in row[:2]}
    assert all(row[2] == 200 for row in forwards.values())


def test_a_server_in_its_own_process_is_steered_and_read_over_http() -> None:
    with LoopbackProcess(latency=0.001, latency_sigma=0.5, seed=3) as server, httpx.Client() as client:
        assert _chat(client, server, "row 1").status_code == 200
        server.script({"replies": [None, {"status": 503}], "always": {"status": 500}})
        assert [_chat(client, server, "row 2").status_code for _ in range(3)] == [200, 503, 500]
        assert server.wait(requests=4).in_flight == 0
        stats = server.stats()
    assert stats.counts == {"row 1": 1, "row 2": 3}
    assert [arrival[3] for arrival in stats.arrivals] == ["row 1", "row 2", "row 2", "row 2"]
    assert stats.billed["answers"] == 2
