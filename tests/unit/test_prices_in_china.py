"""Prices of Qwen and Doubao: at their own addresses, by the length of the prompt, never below what is charged."""

from __future__ import annotations

import random

import pytest

from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.rules.prices_in_china import LISTED
from cottonpalm.request.money.rules.rates import Extent
from cottonpalm.types import PICO, Usage

BEIJING = "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"
ARK = "https://ark.cn-beijing.volces.com/api/v3"
ALL = [(host, model) for host, models in LISTED.items() for model in models]


def dollars(model: str, usage: Usage, url: str = BEIJING) -> float:
    rates = PriceBook().rates(model, url)
    assert rates is not None
    return rates.cost(usage) / PICO


def test_the_length_of_the_prompt_decides_the_price_of_the_whole_request() -> None:
    assert dollars("qwen-plus", Usage(128_000, 1_000_000)) == pytest.approx(0.128 * 0.115 + 0.287)
    assert dollars("qwen-plus", Usage(128_001, 1_000_000)) == pytest.approx(0.128001 * 0.345 + 2.868)
    assert dollars("qwen-plus", Usage(300_000, 1_000_000)) == pytest.approx(0.3 * 0.689 + 6.881)


def test_an_answer_that_was_thought_about_has_its_own_price() -> None:
    thought = Usage(1_000, 2_000, reasoning_tokens=1_500)
    assert dollars("qwen-plus", thought) == pytest.approx(1_000 * 0.115e-6 + 2_000 * 1.147e-6)


def test_one_token_of_thought_is_enough_and_a_bound_takes_the_step_that_is_reached() -> None:
    assert dollars("qwen-plus", Usage(0, 2_000, reasoning_tokens=1)) == pytest.approx(2_000 * 1.147e-6)
    tariff = PriceBook().tariff("qwen-plus", BEIJING)
    assert tariff.bound(Extent(128_000, 0)) == 128_000 * 144_000, "it may be written to the cache"
    assert tariff.bound(Extent(128_001, 0)) == 128_001 * 431_000
    assert tariff.bound(Extent(1_000, 10, media=True)) == 1_010 * 1_147_000
    assert tariff.rates is not None
    assert tariff.rates.output == 9_175_000, "what is said of the model is its dearest step, with thought"


def test_what_the_cache_had_is_cheaper() -> None:
    read = Usage(40_000, 0, cache_read_tokens=39_000)
    got = dollars("doubao-seed-2-0-lite-260428", read, ARK)
    assert got == pytest.approx(1_000 * 0.13359e-6 + 39_000 * 0.02672e-6)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        (
            "qwen-plus",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ),  # another region, another price
        ("qwen-plus", "https://dashscope.aliyuncs.com.evil.example/v1"),
        ("qwen-plus", None),
        ("qwen-plus-2025-12-01", BEIJING),  # another version
        ("doubao-seed-2-0-lite-260428", BEIJING),
        ("ep-20261127-abcde", ARK),  # an endpoint's id does not say its model
    ],
)
def test_elsewhere_nothing_is_known(model: str, url: str | None) -> None:
    assert PriceBook().rates(model, url) is None


def test_your_own_price_goes_first() -> None:
    rates = PriceBook({"qwen-plus": (1.0, 2.0)}).rates("qwen-plus", BEIJING)
    assert rates is not None
    assert rates.cost(Usage(1_000_000, 1_000_000)) == 3 * PICO


@pytest.mark.parametrize(("host", "model"), ALL)
def test_no_request_costs_more_than_its_bound(host: str, model: str) -> None:
    tariff = PriceBook().tariff(model, f"https://{host}/v1")
    assert tariff.rates is not None
    assert tariff.text is None, "a bound by the token alone would be that of the longest prompts"
    chance = random.Random(model)
    for _ in range(300):
        into, out = int(10 ** chance.uniform(0, 6)), int(10 ** chance.uniform(0, 5))
        read = chance.randint(0, into)
        used = Usage(
            into,
            out,
            cache_read_tokens=read,
            cache_write_tokens=chance.randint(0, into - read),
            reasoning_tokens=chance.choice((0, out // 2)),
        )
        longest = Extent(into + chance.randint(0, 1_000), out + chance.randint(0, 100))
        assert tariff.rates.cost(used) <= tariff.bound(longest)
