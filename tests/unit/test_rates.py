"""What a request costs and can cost, with a different price for everything, so that no two can be mistaken."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cottonpalm import ConfigError
from cottonpalm.request.money.rules.price_list import LookedUpRates, _counts
from cottonpalm.request.money.rules.prices import PriceBook, Tariff
from cottonpalm.request.money.rules.rates import Extent, Rates, asked, flat, halved, per_token, pico
from cottonpalm.types import Usage

RATES = Rates(
    input=3,
    output=5,
    cache_read=7,
    cache_write=11,
    cache_write_1h=13,
    dearest_input=17,
    dearest_output=19,
    dearest_media=23,
    request=1_000_003,
    web_search=29,
    file_search=31,
)
FREE = flat(0, 0)


def test_each_kind_of_token_and_each_search_costs_its_own_price() -> None:
    usage = Usage(100, 10, cache_read_tokens=20, cache_write_tokens=30, cache_write_1h_tokens=12)
    tokens = 50 * 3 + 20 * 7 + 18 * 11 + 12 * 13 + 10 * 5
    assert RATES.cost(usage) == 1_000_003 + tokens
    searched = replace(usage, web_searches=2, file_searches=3)
    assert RATES.cost(searched) == 1_000_003 + tokens + 2 * 29 + 3 * 31
    assert replace(RATES, web_search=None, file_search=None).cost(searched) == 1_000_003 + tokens


def test_counts_that_contradict_each_other_make_nothing_cheaper() -> None:
    usage = Usage(10, 0, cache_read_tokens=20, cache_write_tokens=5, cache_write_1h_tokens=9)
    assert RATES.cost(usage) == 1_000_003 + 20 * 7 + 5 * 13


def test_the_bound_takes_the_dearest_price_of_each_kind() -> None:
    assert RATES.bound(Extent(100, 10)) == 1_000_003 + 100 * 17 + 10 * 19
    assert RATES.bound(Extent(100, 10, media=True)) == 1_000_003 + 110 * 23
    assert RATES.bound(Extent(0, 0, searches=2)) == 1_000_003 + 2 * 31
    bare = replace(RATES, file_search=None, web_search=None)
    assert bare.bound(Extent(0, 0, searches=2)) == 1_000_003, "a search without a fee costs nothing"
    assert replace(RATES, file_search=None).bound(Extent(0, 0, searches=2)) == 1_000_003 + 2 * 29
    assert replace(RATES, web_search=None).bound(Extent(0, 0, searches=2)) == 1_000_003 + 2 * 31


@pytest.mark.parametrize("price", ["request", "dearest_input", "dearest_output", "dearest_media"])
def test_free_is_only_what_costs_nothing_at_all(price: str) -> None:
    assert FREE.free
    assert not replace(FREE, **{price: 1}).free


def test_a_list_with_two_prices_has_them_for_every_kind() -> None:
    rates = flat(2, 9)
    usage = Usage(10, 1, cache_read_tokens=3, cache_write_tokens=4, cache_write_1h_tokens=2)
    assert rates.cost(usage) == 10 * 2 + 9
    assert rates.bound(Extent(10, 1)) == 29
    assert rates.bound(Extent(10, 1, media=True)) == 99
    assert flat(9, 2).bound(Extent(10, 1, media=True)) == 99


def test_half_the_price_is_rounded_up_and_what_is_not_known_stays_so() -> None:
    half = halved(replace(RATES, web_search=None, file_search=0))
    assert (half.input, half.output, half.cache_read, half.cache_write) == (2, 3, 4, 6)
    assert (half.cache_write_1h, half.dearest_input, half.dearest_output, half.dearest_media) == (
        7,
        9,
        10,
        12,
    )
    assert (half.request, half.web_search, half.file_search) == (500_002, None, 0)


def told(model: str, usage: Usage) -> float | None:
    if model != "mine":
        return None
    plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    dollars = plain * 2 + usage.cache_read_tokens + usage.cache_write_tokens * 4 + usage.output_tokens * 8
    return dollars / 1e6 + usage.web_searches * 0.5


def test_prices_by_a_function_are_its_results_and_the_bound_is_its_dearest() -> None:
    rates = asked(told, "mine")
    assert (rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h) == (
        2_000_000,
        1_000_000,
        *[4_000_000] * 2,
    )
    assert (rates.output, rates.dearest_input, rates.dearest_output, rates.dearest_media) == (
        8_000_000,
        4_000_000,
        *[8_000_000] * 2,
    )
    assert rates.cost(Usage(10, 1, web_searches=1)) == 28_000_000 + 500_000_000_000
    assert rates.bound(Extent(10, 1)) == 48_000_000
    assert rates.bound(Extent(10, 1, searches=2)) == 48_000_000 + 10**12
    assert (rates.web_search, rates.file_search) == (0, 0), "a search has no price beside what it returns"
    half = halved(rates)
    assert half.cost(Usage(10, 1)) == 14_000_000
    assert asked(lambda *_: 1e-18, "m").input == 1, "a fraction is rounded up"


@pytest.mark.parametrize("wrong", [None, -1e-9, float("nan"), float("inf")])
def test_a_function_that_returns_no_amount_is_refused(wrong: float | None) -> None:
    with pytest.raises(ConfigError, match="must return dollars, 0 or more"):
        asked(lambda *_: wrong, "m")
    assert asked(lambda *_: 0, "m").free


def test_a_function_that_fails_for_a_usage_is_named_with_its_error() -> None:
    def price(_model: str, usage: Usage) -> Any:
        return "much" if usage.input_tokens == 7 else 1 / (usage.input_tokens - 8)

    rates = asked(lambda *_: 1, "m")
    for tokens, error in ((7, "TypeError"), (8, "ZeroDivisionError")):
        with pytest.raises(ConfigError, match=rf"prices= failed for 'm' \({error}: "):
            replace(rates, price=price).cost(Usage(tokens))


def test_a_price_per_million_is_rounded_up_to_a_whole_pico_dollar_per_token() -> None:
    assert (per_token(1), per_token(0.15), per_token(0)) == (1_000_000, 150_000, 0)
    assert per_token(Decimal("0.0000001")) == 1
    assert (pico(Decimal("1.0")), pico(Decimal("1.01"))) == (1, 2)


def test_a_tariff_bounds_by_its_dearest_tier_and_is_free_only_where_all_are() -> None:
    def tariff(*dearest: Rates) -> Tariff:
        return Tariff("m", None, dearest[0] if dearest else None, dearest)

    assert tariff(RATES, replace(RATES, dearest_output=40)).bound(Extent(0, 10)) == 1_000_003 + 400
    assert (tariff(FREE).free, tariff(FREE, RATES).free, tariff().free) == (True, False, False)


def test_rates_of_text_are_those_of_the_tier_that_is_dearest_in_all_three() -> None:
    def text(*dearest: Rates) -> Any:
        return Tariff("m", None, None, dearest).text

    dearer = replace(RATES, dearest_input=18, dearest_output=20)
    assert text(RATES) == (1_000_003, 17, 19)
    assert text(RATES, dearer) == text(dearer, RATES) == (1_000_003, 18, 20)
    assert text(replace(RATES, dearest_input=18), replace(RATES, dearest_output=20)) is None
    assert text() is None
    dear = asked(lambda _, usage: float(usage.input_tokens + usage.output_tokens), "mine")
    assert text(RATES, asked(told, "mine")) is None
    assert text(flat(1, 1), dear) is None, "a function need not charge by the token"


def test_the_most_exact_of_the_users_prices_counts() -> None:
    book = PriceBook({"m-1": (1, 1), "m-*": (2, 2), "m-2*": (3, 3), "*": (4, 4)})
    cost = {
        name: found.input
        for name in ("m-1", "m-1-2024-08-06", "m-9", "m-21", "x")
        if (found := book.rates(name))
    }
    assert cost == {
        "m-1": 1_000_000, "m-1-2024-08-06": 1_000_000, "m-9": 2_000_000, "m-21": 3_000_000, "x": 4_000_000,
    }  # fmt: skip
    assert PriceBook({"m": (1, 1)}).rates("no-such-model-of-anybody") is None
    halves = book.rates("m-1", None, "batch")
    assert halves is not None
    assert halves.input == 500_000


@pytest.mark.parametrize("pair", [(1,), (1, 2, 3), (1, -1), (float("nan"), 1), ("a", 1), 5, (1, None)])
def test_a_price_that_is_none_is_refused_with_the_models_name(pair: Any) -> None:
    with pytest.raises(ConfigError, match=r"prices\['m'\] must be"):
        PriceBook({"m": pair})


def counts(**some: int) -> dict[str, int]:
    """What genai-prices is told, without what is zero."""
    told = vars(_counts(Usage(**{"input_tokens": 0, "output_tokens": 0, **some})))
    return {name: number for name, number in told.items() if number}


def test_the_price_list_is_told_every_kind_of_token_and_a_sum_that_holds_its_parts() -> None:
    assert counts(input_tokens=5, output_tokens=6) == {"input_tokens": 5, "output_tokens": 6}
    assert counts(input_tokens=100, cache_read_tokens=20, cache_write_tokens=30, cache_write_1h_tokens=12) == {
        "input_tokens": 100, "cache_read_tokens": 20, "cache_write_tokens": 30,
        "cache_write_5m_tokens": 18, "cache_write_1h_tokens": 12,
    }  # fmt: skip
    assert counts(cache_write_tokens=3, cache_write_1h_tokens=12)["cache_write_1h_tokens"] == 3
    heard = counts(input_tokens=1, cache_read_tokens=20, audio_input_tokens=9, audio_cached_tokens=4)
    assert heard == {
        "input_tokens": 25, "cache_read_tokens": 20, "input_audio_tokens": 9, "cache_audio_read_tokens": 4,
    }  # fmt: skip
    assert "cache_audio_read_tokens" not in counts(
        cache_read_tokens=20, audio_input_tokens=9, audio_cached_tokens=-4
    )
    assert (
        counts(cache_read_tokens=3, audio_input_tokens=9, audio_cached_tokens=5)["cache_audio_read_tokens"]
        == 3
    )
    assert (
        counts(cache_read_tokens=9, audio_input_tokens=3, audio_cached_tokens=5)["cache_audio_read_tokens"]
        == 3
    )
    spoken = counts(output_tokens=1, reasoning_tokens=7, audio_output_tokens=3, image_output_tokens=2)
    assert spoken == {
        "output_tokens": 12, "output_reasoning_tokens": 7, "output_audio_tokens": 3, "output_image_tokens": 2,
    }  # fmt: skip
    assert counts(web_searches=1, file_searches=2) == {"web_searches": 1, "storage_searches": 2}


def test_what_is_kept_for_an_hour_costs_more_also_where_the_list_works_it_out() -> None:
    rates = PriceBook().rates("claude-sonnet-4-5")
    assert isinstance(rates, LookedUpRates)
    short, hour = (
        Usage(1000, 10, cache_write_tokens=600),
        Usage(1000, 10, cache_write_tokens=600, cache_write_1h_tokens=600),
    )
    assert rates.cost(hour) - rates.cost(short) == 600 * (6_000_000 - 3_750_000)
