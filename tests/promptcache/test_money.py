"""A budget holds whatever is written to a prompt cache, and what was read and written is settled to the last digit."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda

from cottonpalm import Budget
from cottonpalm.errors import RunStopped
from cottonpalm.providers.paths import family_of
from cottonpalm.request.transport.callback import usage_of
from cottonpalm.types import Usage
from tests.promptcache.kit import RULES, run
from tests.support.prompt_caching import ANTHROPIC, GEMINI, OPENAI_NEW, CachingTransport

BUDGET = 1.2


def marked(ttl: str) -> Any:
    """The whole prompt is marked, the row included: nearly all of it is written, row by row."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": ttl}}

    async def messages(row: dict[str, str]) -> list[Any]:
        text = f"{row['text']} {RULES[: 4_000 + Random(row['text']).randrange(4_000)]}"
        return [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": text, **mark}])]

    return RunnableLambda(messages)


async def plain(row: dict[str, str]) -> list[Any]:
    return [SystemMessage("Be brief."), HumanMessage(f"{row['text']} {RULES[:6_000]}")]


@pytest.mark.core
@pytest.mark.parametrize(
    ("vendor", "prompt", "times"),
    [
        (ANTHROPIC, marked("5m"), 1.25),
        (ANTHROPIC, marked("1h"), 2.0),
        (OPENAI_NEW, RunnableLambda(plain), 1.25),
    ],
    ids=["written for five minutes", "written for an hour", "written unasked"],
)
def test_a_ceiling_holds_where_every_prompt_is_written_at_the_dear_price(
    vendor: Any, prompt: Any, times: float
) -> None:
    vendor = replace(vendor, chars=1)  # as many tokens as the bound allows: its slack must not hide a price
    provider = CachingTransport(vendor)
    with pytest.raises(RunStopped, match="budget"):
        run(vendor, "auto", 200, prompt=prompt, provider=provider, budget=Budget(BUDGET), concurrency=16)
    bill = provider.bill
    assert bill.written > 0.9 * (bill.fresh + bill.written)
    assert bill.usd == pytest.approx(
        (bill.fresh + times * bill.written) * vendor.input / 1e6 + bill.output * vendor.output / 1e6
    )
    assert 0.75 * BUDGET < bill.usd <= BUDGET


@pytest.mark.parametrize("mode", ["on", "off"])
def test_reports_of_money_are_the_providers_bill(mode: str) -> None:
    done = run(ANTHROPIC, mode, 20)
    bill = done.provider.bill
    assert sum(outcome.cost_pico or 0 for outcome in done.outcomes) / 1e12 == pytest.approx(bill.usd)
    [use] = done.report.prompts.values()
    assert (use.read, use.written) == (bill.read, bill.written)
    saved = (bill.read * (1 - ANTHROPIC.read) - bill.written * 0.25) * ANTHROPIC.input / 1e6
    assert use.saved_usd == pytest.approx(saved)


def test_what_a_cache_would_save_is_told_at_the_price_of_such_a_prompt_not_at_the_dearest() -> None:
    """The model costs twice as much for prompts of more than 200,000 tokens; these have 3,000."""
    pro = replace(GEMINI, model="gemini-2.5-pro")
    [use] = run(pro, "off", 12).report.prompts.values()
    assert use.input_usd == pytest.approx(1.25e-6)
    assert use.read_rate == pytest.approx(0.1)


def test_the_responses_api_counts_what_it_wrote() -> None:
    family = family_of("/v1/responses")
    assert family is not None
    details = {"cached_tokens": 30, "cache_write_tokens": 50}
    usage = {"input_tokens": 100, "input_tokens_details": details, "output_tokens": 20}
    body = {"model": "gpt-5.6", "status": "completed", "output": [], "usage": usage}
    assert family.read(body).usage == Usage(100, 20, 30, 50)


def test_langchains_split_of_anthropics_writes_is_read_where_it_stands() -> None:
    split = {"cache_creation": 0, "ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 9}
    told = {"input_tokens": 100, "output_tokens": 20, "input_token_details": {"cache_read": 30, **split}}
    assert usage_of(told) == Usage(100, 20, 30, 16, cache_write_1h_tokens=9)


def test_langchains_counts_of_another_tier_are_read() -> None:
    details = {"flex_cache_read": 30, "flex_cache_creation": 5}
    told = {"input_tokens": 100, "output_tokens": 20, "input_token_details": details}
    assert usage_of(told) == Usage(100, 20, 30, 5)
