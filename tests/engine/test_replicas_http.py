"""Several endpoints behind one queue over real sockets: caps, refused connections, streams, threads, resume."""

from __future__ import annotations

import asyncio
import functools
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Limits, RunStopped
from cottonpalm.presets import StreamingBatchProcessor
from tests.support.loopback import Loopback
from tests.support.replies import Reply, bad_key, capped, error_in_stream, fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.replies import Request


def chain_at(url: str, key: str = "sk-test-0123456789", **more: Any) -> Any:
    model = ChatOpenAI(base_url=url, api_key=key, model="gpt-4o-mini", stream_usage=True, **more)
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


def answers(count: int) -> list[str]:
    return [f"answer to: row {n}" for n in range(count)]


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"


def test_each_of_two_servers_is_used_up_to_its_cap() -> None:
    with (
        Loopback(script=capped(5), latency=0.05) as small,
        Loopback(script=capped(15), latency=0.05) as large,
    ):
        chains = [chain_at(one.openai_url) for one in (small, large)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        assert processor.batch(rows(400)) == answers(400)
    assert min(large.billed.answers, small.billed.answers) >= 5
    assert small.billed.answers + large.billed.answers == 400


def test_the_rows_of_a_server_that_refuses_connections_are_answered_by_the_other(
    server: Loopback, nobody: str
) -> None:
    processor = BatchProcessor(chain_at(nobody), replicas=[chain_at(server.openai_url)], limits=Limits())
    assert processor.batch(rows(60)) == answers(60)
    assert server.requests == 60
    assert processor.invoke({"x": "row 1"}) == "answer to: row 1"
    assert "".join(processor.stream({"x": "row 1"})) == "answer to: row 1"


def test_rows_on_threads_move_too(server: Loopback, nobody: str) -> None:
    def on_threads(url: str) -> Any:
        return RunnableLambda(chain_at(url).invoke)

    processor = BatchProcessor(on_threads(nobody), replicas=[on_threads(server.openai_url)], limits=Limits())
    assert processor.batch(rows(60)) == answers(60)
    assert server.requests == 60


async def _caught(model: Any, text: str) -> str:
    try:
        return (await model.ainvoke(text)).text
    except Exception as error:
        return f"no answer: {error!r}"


async def _gathered(model: Any, text: str) -> str:
    [answer] = await asyncio.gather(model.ainvoke(text), return_exceptions=True)
    return getattr(answer, "text", f"no answer: {answer!r}")


@pytest.mark.parametrize("step", [_caught, _gathered])
@pytest.mark.parametrize("listened", [False, True])
def test_what_a_chain_makes_of_a_request_that_moves_is_no_answer(
    server: Loopback, step: Callable[[Any, str], Any], listened: bool
) -> None:
    def catching(url: str) -> Any:
        return RunnableLambda(functools.partial(step, ChatOpenAI(base_url=url, api_key="sk-test", model="m")))  # type: ignore[arg-type]

    config: Any = {"callbacks": [BaseCallbackHandler()]} if listened else None
    with Loopback(lambda _: fails(500)) as broken:
        chains = [catching(one.openai_url) for one in (broken, server)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits(), hedge=False)
        assert processor.batch([f"row {n}" for n in range(20)], config) == answers(20)
        assert broken.requests


def test_a_chains_own_retries_do_not_delay_a_row_that_moves(server: Loopback) -> None:
    kinds: list[str] = []

    class Ear(BaseCallbackHandler):
        def on_chain_error(self, error: BaseException, **_: Any) -> None:
            kinds.append(type(error).__name__)

    def retrying(url: str) -> Any:
        model = ChatOpenAI(base_url=url, api_key="sk-test", model="m")  # type: ignore[arg-type]
        return model.with_retry() | StrOutputParser()

    with Loopback(lambda _: fails(500)) as broken:
        chains = [retrying(one.openai_url) for one in (broken, server)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits(), hedge=False)
        assert processor.batch(["row 0", "row 1"], {"callbacks": [Ear()]}) == answers(2)
    assert set(kinds) == {"Moved"}, "no other error, which `with_retry` would have waited after"


def test_two_keys_on_one_server_are_two_endpoints(server: Loopback) -> None:
    def one_is_wrong(request: Request) -> Reply | None:
        return bad_key() if request.headers["authorization"] == "Bearer sk-wrong" else None

    server.script(one_is_wrong)
    chains = [chain_at(server.openai_url, key) for key in ("sk-wrong", "sk-right")]
    limits = Limits()
    processor = BatchProcessor(chains[0], replicas=chains[1:], limits=limits)
    assert processor.batch(rows(60)) == answers(60)
    assert repr(limits).count("<Limiter 127.0.0.1") == 2
    assert "sk-" not in repr(limits)


def test_a_stream_moves_unseen_before_its_first_piece_and_says_so_after_it(server: Loopback) -> None:
    async def pieces(processor: StreamingBatchProcessor) -> dict[int, str]:
        texts: dict[int, str] = {}
        async for index, piece in processor.stream_batch(rows(20)):
            texts[index] = texts.get(index, "") + piece
        return texts

    with Loopback(script=lambda _: fails(503)) as down:
        chains = [chain_at(one.openai_url) for one in (down, server)]
        processor = StreamingBatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        assert asyncio.run(pieces(processor)) == dict(enumerate(answers(20)))
    with Loopback(script=lambda _: error_in_stream()) as breaks_off:
        chains = [chain_at(one.openai_url) for one in (breaks_off, server)]
        processor = StreamingBatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        texts = asyncio.run(pieces(processor))
    assert [text.rpartition("\n[restarted]\n")[2] for _, text in sorted(texts.items())] == answers(20)
    assert any("[restarted]" in text for text in texts.values())


def test_the_stream_of_one_input_does_not_move_once_a_piece_was_shown(server: Loopback) -> None:
    with Loopback(script=lambda _: error_in_stream()) as breaks_off:
        chains = [chain_at(one.openai_url) for one in (breaks_off, server)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        with pytest.raises(openai.APIError):
            list(processor.stream({"x": "row 1"}))
    assert server.requests == 0


def test_a_run_is_resumed_with_other_endpoints_and_repays_nothing(
    server: Loopback, nobody: str, tmp_path: Path
) -> None:
    def over(first: str, *others: str) -> BatchProcessor:
        chains = [chain_at(url) for url in others]
        return BatchProcessor(
            chain_at(first),
            replicas=chains,
            limits=Limits(),
            store=tmp_path / "s.db",
            run="night",
            concurrency=4,  # so that rows are left when the run is stopped
        )

    with over(server.openai_url, nobody).start(rows(40)) as run, suppress(RunStopped):
        for done, _ in enumerate(
            run, 1
        ):  # to its end: leaving early would cancel rows that the server has answered
            if done == 10:
                run.stop()
    paid = server.requests
    with Loopback() as another:
        assert over(nobody, another.openai_url).batch(rows(40)) == answers(40)
        assert another.requests + paid == 40
    assert over(nobody).batch(rows(40)) == answers(40)


def test_a_budget_bounds_all_endpoints_together(server: Loopback) -> None:
    with Loopback() as second:
        chains = [chain_at(one.openai_url, max_tokens=10) for one in (server, second)]
        budget = Budget(total=0.001)
        prices = {"gpt-4o-mini": (1.0, 1.0)}
        processor = BatchProcessor(
            chains[0], replicas=chains[1:], limits=Limits(), budget=budget, prices=prices
        )
        processor.batch(rows(100), return_exceptions=True)
        spent = sum(one.billed.input_tokens + one.billed.output_tokens for one in (server, second)) * 1e-6
        assert 0.0008 <= spent <= 0.001
