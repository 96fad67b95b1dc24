"""What a failing request costs and what the chain sees of it: one HTTP request per try, and the SDK's own exception."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from cottonpalm.config import RetryPolicy
from cottonpalm.events import Event, RequestFinished
from cottonpalm.providers import BrokenAnswer, classify
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.types import Fault, Kind
from tests.request.kit import MODEL, a_run, anthropic, in_flight, one, one_sync, openai, openai_sync
from tests.support import replies
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
THREE = RetryPolicy(retries=2, base_s=0.001, cap_s=0.002)


def ask(server: Loopback, run: Any, *, vendor: str = "openai", threads: bool = False, **options: Any) -> Any:
    """One row that asks one question of a vendor's model; (result, row)."""

    async def main() -> Any:
        async with (openai if vendor == "openai" else anthropic)(server, **options) as model:
            if threads:
                return await asyncio.to_thread(one_sync, run, 0, lambda: model.invoke("hi"))
            return await one(run, 0, lambda: model.ainvoke("hi"))

    return asyncio.run(main())


@pytest.mark.parametrize("threads", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
class TestEachSdk:
    def test_transient_answers_are_tried_again_until_one_is_good(self, vendor: str, threads: bool) -> None:
        with Loopback(script=[replies.fails(500), replies.fails(502), None]) as server:
            run = a_run()
            result, row = ask(server, run, vendor=vendor, threads=threads)
            assert result.content == "answer to: hi"
            assert server.requests == row.attempts == 3
            assert in_flight(run) == 0

    def test_when_the_tries_are_used_up_the_sdks_own_error_arrives(self, vendor: str, threads: bool) -> None:
        with Loopback(script=lambda _: replies.fails(500)) as server:
            result, row = ask(server, a_run(retry=THREE), vendor=vendor, threads=threads)
            sdk = openai_sdk if vendor == "openai" else anthropic_sdk
            assert isinstance(result, sdk.InternalServerError)
            assert result.status_code == 500
            assert server.requests == row.attempts == 3
            assert row.spent.kind is Kind.TRANSIENT
            assert classify(result).kind is Kind.TRANSIENT

    def test_a_throttled_request_waits_and_is_answered(self, vendor: str, threads: bool) -> None:
        with Loopback(script=[replies.too_many(0.01), replies.too_many(), None]) as server:
            result, row = ask(server, a_run(), vendor=vendor, threads=threads)
            assert result.content == "answer to: hi"
            assert row.attempts == 3

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (replies.bad_key(), Kind.STOP_RUN),
            (replies.unknown_model(), Kind.STOP_RUN),
            (replies.no_credit(), Kind.STOP_RUN),
            (replies.context_too_long(), Kind.DEGRADE),
            (replies.fails(400), Kind.FAIL_ROW),
            (replies.fails(422), Kind.FAIL_ROW),
        ],
        ids=lambda value: getattr(value, "code", None) or str(getattr(value, "status", value)),
    )
    def test_what_cannot_work_is_sent_once(self, vendor: str, threads: bool, reply: Any, kind: Kind) -> None:
        with Loopback(script=lambda _: reply) as server:
            stops: list[Fault] = []
            run = a_run()
            run.alerts.on_stop = stops.append
            result, row = ask(server, run, vendor=vendor, threads=threads)
            assert isinstance(result, openai_sdk.APIStatusError | anthropic_sdk.APIStatusError)
            assert server.requests == 1
            assert row.spent.kind is kind
            assert classify(result).kind is kind
            assert [fault.kind for fault in stops] == [Kind.STOP_RUN] * (kind is Kind.STOP_RUN)
            assert run.alerts.stopped == (stops[0] if stops else None)

    def test_a_connection_that_resets_is_tried_again(self, vendor: str, threads: bool) -> None:
        with Loopback(script=[replies.resets(), replies.cut_body(), replies.malformed(), None]) as server:
            result, row = ask(server, a_run(), vendor=vendor, threads=threads)
            assert result.content == "answer to: hi"
            assert row.attempts == 4

    def test_a_body_that_stays_broken_fails_as_transient(self, vendor: str, threads: bool) -> None:
        with Loopback(script=lambda _: replies.malformed()) as server:
            result, row = ask(server, a_run(retry=THREE), vendor=vendor, threads=threads)
            assert isinstance(result, BrokenAnswer)
            assert isinstance(result, openai_sdk.OpenAIError)
            assert isinstance(result, anthropic_sdk.AnthropicError)
            assert classify(result).kind is Kind.TRANSIENT
            assert server.requests == row.attempts == 3

    def test_a_hang_ends_at_the_timeout(self, vendor: str, threads: bool) -> None:
        with Loopback(script=[replies.hangs(), None]) as server:
            # A busy machine takes more than a few tenths of a second for the second answer.
            result, row = ask(server, a_run(timeout_s=1.0), vendor=vendor, threads=threads)
            assert result.content == "answer to: hi"
            assert row.attempts == 2


@pytest.mark.parametrize("threads", [False, True], ids=["async", "sync"])
def test_transport_errors_reach_the_chain_as_the_sdks_and_its_repeats_are_not_sent(threads: bool) -> None:
    with Loopback(script=lambda _: replies.resets()) as server:
        result, row = ask(server, a_run(retry=THREE), threads=threads)  # the SDK asks three times in all
        assert isinstance(result, openai_sdk.APIConnectionError)
        assert server.requests == row.attempts == 3


def test_a_timeout_reaches_the_chain_as_the_sdks_timeout_error() -> None:
    with Loopback(script=lambda _: replies.hangs()) as server:
        run = a_run(timeout_s=0.1, retry=RetryPolicy(retries=0))
        result, _ = ask(server, run, max_retries=0)
        assert isinstance(result, openai_sdk.APITimeoutError)
        assert classify(result).kind is Kind.TRANSIENT


def test_the_time_in_line_is_not_part_of_the_models_own_timeout() -> None:
    async def main() -> None:
        with Loopback(script=lambda r: replies.held() if r.text == "holder" else None) as server:
            async with openai(server, timeout=0.3, max_retries=0) as model, openai(server) as patient:
                run = a_run(1)
                holder = asyncio.create_task(one(run, 0, lambda: patient.ainvoke("holder")))
                await asyncio.to_thread(server.wait, in_flight=1)
                waiting = asyncio.create_task(one(run, 1, lambda: model.ainvoke("waits")))
                await asyncio.sleep(0.5)  # more than the timeout, which only counts once it is sent
                server.release()
                await holder
                result, _ = await waiting
                assert result.content == "answer to: waits"

    asyncio.run(main())


def test_a_chains_own_retry_is_answered_from_memory_and_a_new_try_of_the_row_is_not() -> None:
    async def main() -> None:
        with Loopback(script=lambda _: replies.fails(400)) as server:
            async with openai(server) as model:
                stubborn = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
                row = RowAccount(a_run(), 0)
                ROW.set(row)
                for tries in (1, 2):
                    with pytest.raises(openai_sdk.BadRequestError):
                        await stubborn.ainvoke("hi")
                    assert server.requests == tries
                    row.fresh()
                assert row.spent is None

    asyncio.run(main())


def test_a_success_is_never_remembered_so_that_a_chain_can_ask_again() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                seen: list[str] = []

                def parse(message: Any) -> str:
                    seen.append(message.content)
                    if len(seen) < 3:
                        raise ValueError("not yet")
                    return "parsed"

                chain = model | RunnableLambda(parse)
                again = chain.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
                result, row = await one(a_run(), 0, lambda: again.ainvoke("hi"))
                assert result == "parsed"
                assert server.requests == row.attempts == 3

    asyncio.run(main())


def test_a_chains_own_fallbacks_take_over_from_a_request_that_is_throttled_while_others_are_not() -> None:
    async def main() -> None:
        def script(request: Any) -> Any:
            return replies.too_many() if request.text == "victim" and request.body["model"] == MODEL else None

        with Loopback(script=script) as server:
            async with openai(server) as first, openai(server, model="gpt-4o") as second:
                run = a_run(retry=RetryPolicy(rejections=3, base_s=0.001, cap_s=0.002))
                chain = first.with_fallbacks([second], exceptions_to_handle=(openai_sdk.RateLimitError,))
                victim = asyncio.create_task(one(run, 0, lambda: chain.ainvoke("victim")))

                async def others() -> None:
                    while not victim.done():
                        await first.ainvoke("other")

                await one(run, 1, others)
                result, row = await victim
                assert result.content == "answer to: victim"
                assert row.spent.kind is Kind.THROTTLE
                assert row.attempts == server.counts["victim"] >= 4

    asyncio.run(main())


def test_a_failure_in_the_second_model_of_a_chain_does_not_pay_the_first_again() -> None:
    async def main() -> None:
        def script(request: Any) -> Any:
            return replies.fails(500) if request.text.startswith("answer") and request.nth < 3 else None

        with Loopback(script=script) as server:
            async with openai(server) as model:
                prompt = ChatPromptTemplate.from_template("{text}")
                chain = prompt | model | StrOutputParser() | model | StrOutputParser()
                result, row = await one(a_run(), 0, lambda: chain.ainvoke({"text": "hi"}))
                assert result == "answer to: answer to: hi"
                assert server.counts == {"hi": 1, "answer to: hi": 3}
                assert row.attempts == 4

    asyncio.run(main())


def test_each_try_is_told_to_those_who_listen() -> None:
    events: list[Event] = []
    with Loopback(script=[replies.fails(500), None]) as server:
        run = a_run()
        run.alerts.emit = events.append
        ask(server, run)
    told = [(e.status, e.kind) for e in events if isinstance(e, RequestFinished)]
    assert told == [(500, Kind.TRANSIENT), (200, None)]
    assert "sk-test" not in repr(events)


def test_the_users_own_word_on_an_error_decides_about_its_tries() -> None:
    def classify_own(exc: BaseException) -> Kind | None:
        response = getattr(exc, "response", None)
        return Kind.TRANSIENT if response is not None and response.status_code == 404 else None

    with Loopback(script=[replies.unknown_model(), None]) as server:
        run = a_run(classify=classify_own)
        result, row = ask(server, run)
        assert result.content == "answer to: hi"
        assert row.attempts == 2
        assert run.alerts.stopped is None


def test_a_cancelled_request_gives_its_permit_back() -> None:
    async def main() -> None:
        with Loopback(script=lambda _: replies.held()) as server:
            async with openai(server) as model:
                run = a_run(1)
                task = asyncio.create_task(one(run, 0, lambda: model.ainvoke("hi")))
                await asyncio.to_thread(server.wait, in_flight=1)
                assert in_flight(run) == 1
                task.cancel()
                await asyncio.wait([task])
                assert in_flight(run) == 0

    asyncio.run(main())


def test_a_sync_models_own_shorter_timeout_is_kept() -> None:
    with Loopback(script=[replies.hangs(), None]) as server, openai_sync(server, timeout=0.2) as model:
        result, row = one_sync(a_run(timeout_s=50.0), 0, lambda: model.invoke("hi"))
        assert result.content == "answer to: hi"
        assert row.attempts == 2
