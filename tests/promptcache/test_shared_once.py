"""The prompt that rows share is paid once, and nobody else is made to wait or changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel

from tests.promptcache.kit import RULES, asking, model_on, rows, run
from tests.support.prompt_caching import (
    ANTHROPIC,
    DEEPSEEK,
    GEMINI,
    GROQ,
    MISTRAL,
    OPENAI,
    OPENAI_NEW,
    CachingTransport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.prompt_caching import Vendor

SHARED = {"OpenAI": 2_944, "Groq": 2_944, "Gemini": 2_944, "Mistral": 2_944, "DeepSeek": 2_944}
SHARED |= {"OpenAI 5.6": 3_000, "Anthropic": 3_000}  # to the token, where the request says up to where


@pytest.mark.core
@pytest.mark.parametrize(
    ("vendor", "mode", "pays"),
    [
        (OPENAI, "auto", 1),
        (GROQ, "auto", 1),
        (GEMINI, "auto", 1),
        (DEEPSEEK, "auto", 2),  # caches what two requests had in common
        (MISTRAL, "auto", 2),  # one to see what is shared, one with the key
        (ANTHROPIC, "on", 2),  # one to see what is shared, one to write it
        (OPENAI_NEW, "on", 2),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_every_row_reads_the_shared_prompt_but_those_that_must_write_it(
    vendor: Vendor, mode: str, pays: int
) -> None:
    done = run(vendor, mode, 30)
    bill = done.provider.bill
    assert [outcome.status for outcome in done.outcomes] == ["ok"] * 30
    assert bill.requests == 30
    assert bill.read == (30 - pays) * SHARED[vendor.name]
    if vendor is not DEEPSEEK:  # whose prices change with the hour of the day
        assert done.report.cost_usd == pytest.approx(bill.usd)


@pytest.mark.parametrize("vendor", [OPENAI, ANTHROPIC], ids=lambda vendor: vendor.name)
def test_a_run_takes_one_answer_longer_at_most(vendor: Vendor) -> None:
    mode = "on" if vendor is ANTHROPIC else "auto"
    off, on = run(vendor, "off", 60), run(vendor, mode, 60)
    assert on.seconds <= off.seconds * 1.03 + on.provider.latency_s
    assert on.provider.bill.usd < off.provider.bill.usd


def as_sent(provider: CachingTransport) -> list[tuple[float, str]]:
    return sorted((at, str(body)) for at, body in provider.sent)


@pytest.mark.parametrize(
    ("vendor", "mode", "rules", "human"),
    [
        (OPENAI, "auto", "Be brief.", "Review: {text}"),
        (MISTRAL, "auto", "Be brief.", "Review: {text}"),
        (ANTHROPIC, "on", "Be brief.", "Review: {text}"),
        (ANTHROPIC, "auto", RULES, "Review: {text}"),  # caches nothing unless asked
        (OPENAI_NEW, "auto", RULES, "Review: {text}"),
    ],
)
def test_where_nothing_can_be_gained_no_request_is_later_and_none_is_changed(
    vendor: Vendor, mode: str, rules: str, human: str
) -> None:
    prompt = asking(rules, human)
    assert as_sent(run(vendor, mode, 24, prompt=prompt).provider) == as_sent(
        run(vendor, "off", 24, prompt=prompt).provider
    )


@pytest.mark.parametrize(("vendor", "mode"), [(OPENAI, "auto"), (MISTRAL, "auto"), (ANTHROPIC, "on")])
def test_long_prompts_that_share_no_start_are_sent_as_they_are(vendor: Vendor, mode: str) -> None:
    prompt = asking("Be brief.", "{text}")
    given = [{"text": f"{n} {n}, and then: {RULES}"} for n in range(20)]
    there = run(vendor, mode, given, prompt=prompt)
    assert as_sent(there.provider) == as_sent(run(vendor, "off", given, prompt=prompt).provider)
    [use] = there.report.prompts.values()
    assert use.shared < 20
    assert use.later > 2_900
    assert "something that differs" in there.report.text()


def test_if_the_first_request_fails_another_goes_first() -> None:
    done = run(OPENAI, "auto", 20, fails=(500,))
    assert [outcome.status for outcome in done.outcomes] == ["ok"] * 20
    assert done.provider.bill.read == 19 * SHARED["OpenAI"]


def test_a_row_that_is_refused_lets_the_others_go() -> None:
    done = run(OPENAI, "auto", 20, fails=(400, 400))
    assert sorted(outcome.status for outcome in done.outcomes) == ["failed"] * 2 + ["ok"] * 18
    assert done.provider.bill.read == 17 * SHARED["OpenAI"]


def test_when_the_life_of_the_cache_has_passed_one_request_goes_first_again() -> None:
    async def in_two_parts() -> AsyncIterator[dict[str, str]]:
        for number, row in enumerate(rows(30)):
            if number == 15:
                await asyncio.sleep(400)
            yield row

    done = run(OPENAI, "auto", in_two_parts())
    assert done.provider.bill.read == 28 * SHARED["OpenAI"]
    late = [at for at, _ in done.provider.sent if at > 300]
    assert sorted(late)[1] - sorted(late)[0] >= done.provider.latency_s


def test_each_branch_of_a_chain_has_a_prompt_of_its_own() -> None:
    def both(there: CachingTransport) -> Any:
        terse, kind = (asking(start + RULES) for start in ("Be terse.\n", "Be kind.\n"))
        model = model_on(OPENAI, there)
        return RunnableParallel(terse=terse | model, kind=kind | model)

    done = run(OPENAI, "auto", 20, chain=both)
    assert done.provider.bill.requests == 40
    assert done.provider.bill.read == 2 * 19 * SHARED["OpenAI"]


def test_a_slow_run_asks_for_an_hour() -> None:
    async def slowly() -> AsyncIterator[dict[str, str]]:
        for row in rows(8):
            yield row
            await asyncio.sleep(400)

    bill = run(ANTHROPIC, "on", slowly()).provider.bill
    assert bill.written == bill.written_1h == 3_000
    assert bill.read == 6 * 3_000


def test_each_document_is_paid_once_whatever_rows_come_between() -> None:
    documents = [f"Document {n}.\n" + RULES.replace("Rule", f"Line {n}") for n in range(6)]
    given = [{"text": f"{document}\nQuestion {n}?"} for n in range(8) for document in documents]
    prompt = asking("Be brief.", "{text}")
    done, off = run(OPENAI, "auto", given, prompt=prompt), run(OPENAI, "off", given, prompt=prompt)
    assert done.provider.bill.read >= 0.98 * 6 * 7 * SHARED["OpenAI"]
    assert off.provider.bill.read < done.provider.bill.read
    assert "were in an earlier row" in done.report.text()


def test_documents_one_after_the_other_are_written_side_by_side_and_take_one_answer_longer_at_most() -> None:
    documents = [f"Document {n}.\n" + RULES[:4_400].replace("Rule", f"Line {n}") for n in range(12)]
    given = [{"text": f"{document}\nQuestion {n}?"} for document in documents for n in range(40)]
    prompt = asking("Be brief.", "{text}")
    done, off = run(OPENAI, "auto", given, prompt=prompt), run(OPENAI, "off", given, prompt=prompt)
    assert done.provider.bill.read >= 12 * 39 * 1_024
    assert done.seconds <= off.seconds * 1.03 + done.provider.latency_s


def test_nobody_waits_long_for_an_answer_that_takes_minutes() -> None:
    done, off = (run(OPENAI, mode, 20, provider=CachingTransport(OPENAI, 200.0)) for mode in ("auto", "off"))
    waited, free = (sorted(at for at, _ in each.provider.sent) for each in (done, off))
    assert waited[1] > free[1]
    assert max(late - early for late, early in zip(waited, free, strict=True)) <= 10.0 + 1e-6
    assert done.seconds <= off.seconds + 10.0


@pytest.mark.parametrize("vendor", [ANTHROPIC, OPENAI_NEW], ids=lambda vendor: vendor.name)
def test_a_text_that_is_half_the_same_is_divided_where_a_line_ends(vendor: Vendor) -> None:
    async def one_message(row: dict[str, str]) -> list[Any]:
        return [HumanMessage(f"{RULES}Review of today: {row['text']}")]

    done = run(vendor, "on", 20, prompt=RunnableLambda(one_message))
    marked = done.provider.sent[-1][1]["messages"][0]["content"]
    assert marked[0]["text"] == RULES[: RULES.rfind("\n") + 1]
    assert "".join(part["text"] for part in marked).startswith(f"{RULES}Review of today: number")
    assert done.provider.bill.read >= 18 * 2_900


def test_marks_of_the_user_are_left_alone_and_waited_for() -> None:
    async def marked(row: dict[str, str]) -> list[Any]:
        mark = {"cache_control": {"type": "ephemeral"}}
        return [SystemMessage([{"type": "text", "text": RULES, **mark}]), HumanMessage(row["text"])]

    on, off = (run(ANTHROPIC, mode, 20, prompt=RunnableLambda(marked)) for mode in ("on", "off"))
    assert sorted(str(body) for _, body in on.provider.sent) == sorted(
        str(body) for _, body in off.provider.sent
    )
    assert on.provider.bill.written == 3_000
    assert off.provider.bill.written > 3_000
