"""Prices, re-checked against genai-prices itself."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.errors import ConfigError
from cottonpalm.request.money.rules import price_list
from cottonpalm.request.money.rules.price_list import LookedUpRates, most_output
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.rules.rates import Extent, Rates
from cottonpalm.types import PICO, Usage

OPENAI = "https://api.openai.com/v1/chat/completions"
ANTHROPIC = "https://api.anthropic.com"
MODELS = [
    ("gpt-4o-mini", OPENAI),
    ("gpt-4o-mini-2024-07-18", OPENAI),
    ("gpt-5-mini", OPENAI),
    ("o3", OPENAI),
    ("text-embedding-3-small", OPENAI),
    ("claude-haiku-4-5-20251001", ANTHROPIC),
    ("claude-sonnet-4-5", ANTHROPIC),
    ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta"),
    ("gemini-2.5-flash", None),
    ("sonar", "https://api.perplexity.ai"),
    ("sonar-deep-research", "https://api.perplexity.ai"),
    ("deepseek-chat", "https://api.deepseek.com"),
]
BOOK = PriceBook()


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    tokens = draw(st.integers(0, 400_000))
    read = draw(st.integers(0, tokens))
    write = draw(st.integers(0, tokens - read))
    output = draw(st.integers(0, 64_000))
    return Usage(tokens, output, read, write, draw(st.integers(0, output)), draw(st.integers(0, write)))


def known(model: str, url: str | None = None, book: PriceBook = BOOK) -> Rates:
    rates = book.rates(model, url)
    assert rates is not None
    return rates


def theirs(usage: Usage, model: str, **where: Any) -> float:
    counts = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        cache_write_5m_tokens=usage.cache_write_tokens - usage.cache_write_1h_tokens,
        input_audio_tokens=usage.audio_input_tokens,
        cache_audio_read_tokens=usage.audio_cached_tokens,
        cache_audio_write_tokens=0,
        output_audio_tokens=usage.audio_output_tokens,
        output_image_tokens=usage.image_output_tokens,
        web_searches=usage.web_searches,
        storage_searches=usage.file_searches,
    )
    return float(genai_prices.calc_price(counts, model, **where).total_price * PICO)


@given(usages(), st.sampled_from(MODELS))
def test_a_cost_is_what_genai_prices_says_to_the_pico_dollar(
    usage: Usage, at: tuple[str, str | None]
) -> None:
    model, url = at
    expected = theirs(usage, model, **({"provider_api_url": url} if url else {}))
    assert known(model, url).cost(usage) == pytest.approx(expected, rel=1e-12, abs=1)


@given(usages(), st.sampled_from(MODELS), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_bound_is_never_below_the_cost_of_any_smaller_request(
    usage: Usage, at: tuple[str, str | None], less_in: int, less_out: int
) -> None:
    rates = known(*at)
    assert rates.cost(usage) <= rates.bound(
        Extent(usage.input_tokens + less_in, usage.output_tokens + less_out)
    )


@cache
def all_listed() -> list[tuple[str, str]]:
    return [(p.id, m.id) for p in get_snapshot().providers for m in p.models if p.id in HOSTS]


HOSTS = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "google": "https://generativelanguage.googleapis.com",
    "groq": "https://api.groq.com",
    "mistral": "https://api.mistral.ai",
    "deepseek": "https://api.deepseek.com",
    "openrouter": "https://openrouter.ai/api/v1",
    "x-ai": "https://api.x.ai/v1",
}


def test_every_listed_model_of_the_big_providers_costs_what_the_list_says() -> None:
    usage = Usage(250_000, 3_000, 20_000, 10_000, 500)
    seen = 0
    for provider, model in all_listed():
        rates = BOOK.rates(model, HOSTS[provider])
        if rates is None:
            continue
        seen += 1
        expected = theirs(usage, model, provider_id=provider)
        assert expected - 1 <= rates.cost(usage) <= expected + 300_000, (
            model
        )  # a pico-dollar a token, rounded up
        assert rates.cost(usage) <= rates.bound(Extent(250_000, 3_000)), model
    assert seen > 500


def test_rates_are_integers_where_tokens_alone_decide_and_tiers_are_looked_up() -> None:
    cheap = known("gpt-4o-mini", OPENAI)
    assert type(cheap) is Rates
    assert (cheap.input, cheap.output, cheap.cache_read, cheap.dearest_input) == (
        150_000,
        600_000,
        75_000,
        150_000,
    )
    assert isinstance(known("gemini-2.5-pro"), LookedUpRates)
    assert known("claude-haiku-4-5", ANTHROPIC).dearest_input == 2_000_000  # a cache write for an hour


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image-preview"])
def test_a_model_that_draws_is_bounded_by_the_price_of_its_pictures_though_the_request_is_text(
    model: str,
) -> None:
    picture = Usage(10, 1_300, image_output_tokens=1_290)
    assert known(model).cost(picture) <= BOOK.tariff(model, None).bound(Extent(10, 1_300))


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "claude-sonnet-4-5", "gpt-4o-mini"])
def test_a_tier_without_a_price_of_its_own_costs_what_the_standard_does_and_is_not_another_one(
    model: str,
) -> None:
    """Plans and `mode="auto"` compare the rates, to find what costs less."""
    standard = BOOK.rates(model)
    assert BOOK.rates(model, None, "flex") == standard
    assert BOOK.rates(model, None, "batch") != standard


def test_a_known_address_decides_and_at_any_other_the_name() -> None:
    assert known("gpt-4o-mini", "http://127.0.0.1:4321/v1") == known("gpt-4o-mini", OPENAI)
    assert known("gpt-4o-mini", "api.openai.com") == known("gpt-4o-mini", OPENAI)
    assert BOOK.rates("claude-haiku-4-5", "https://api.mistral.ai/v1") is None


def test_an_unknown_model_has_no_price() -> None:
    assert BOOK.rates("somebody-elses-7b", "http://10.0.0.7:8000/v1") is None
    assert BOOK.rates("ft:gpt-4o-mini:org::x", OPENAI) is None
    assert BOOK.rates("", None) is None


def test_without_the_list_only_prices_of_ones_own_are_known_and_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data", None)  # as where its metadata was left out
    price_list.is_there.cache_clear()
    book = PriceBook({"mine": (1, 2)})
    assert book.rates("gpt-4.1-nano", "https://missing.example/v1") is None
    assert book.tariff("gpt-4.1-nano", "https://missing.example/v1").window is None
    assert known("mine", "https://missing.example/v1", book).output == 2_000_000
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["genai-prices"]
    price_list.is_there.cache_clear()


def test_the_users_table_goes_before_the_list_and_before_what_is_free() -> None:
    book = PriceBook({"gpt-4o-mini": (1, 2), "local:big": (3, 4)})
    assert known("gpt-4o-mini", OPENAI, book).cost(Usage(1_000_000, 1_000_000)) == 3 * PICO
    assert known("gpt-4o-mini-2024-07-18", OPENAI, book).input == 1_000_000
    assert known("local:big", None, book).output == 4_000_000
    assert known("gpt-4o", OPENAI, book) == known("gpt-4o", OPENAI)


def test_a_pattern_prices_what_no_name_does_and_the_longest_wins() -> None:
    book = PriceBook({"*": (1, 1), "my-*": (2, 2), "my-model": (3, 3)})
    assert [known(m, None, book).input // 10**6 for m in ("x", "my-x", "my-model")] == [1, 2, 3]


@given(st.floats(0, 1e4), st.integers(0, 10**6))
def test_a_price_with_a_fraction_is_rounded_up_never_down(dollars: float, tokens: int) -> None:
    cost = known("m", None, PriceBook({"m": (dollars, 0)})).cost(Usage(tokens))
    assert dollars * 1e6 * tokens * (1 - 1e-12) <= cost <= (dollars * 1e6 + 1) * tokens * (1 + 1e-12)


def test_local_models_are_free() -> None:
    free = [("local", None), ("local:some.gguf", None), ("local/x", "http://127.0.0.1:8080/v1")]
    assert [known(model, url).bound(Extent(10**6, 10**6)) for model, url in free] == [0, 0, 0]
    assert BOOK.rates("x", "http://127.0.0.1:8080/v1") is None


def test_a_function_of_usage_sets_costs_and_bounds_and_may_not_know_a_model() -> None:
    def price(model: str, usage: Usage) -> float | None:
        if model != "mine":
            return None
        return (
            0.001 + usage.input_tokens * 1e-6 + usage.cache_write_tokens * 1e-6 + usage.output_tokens * 2e-6
        )

    book = PriceBook(price)
    rates = known("mine", None, book)
    assert rates.cost(Usage(100, 10)) == pytest.approx(0.00112 * PICO, abs=1)
    assert rates.bound(Extent(100, 10)) == pytest.approx(0.00122 * PICO, abs=1)
    assert (rates.input >= 1_000_000, rates.output >= 2_000_000) == (True, True)
    assert known("gpt-4o", OPENAI, book) == known("gpt-4o", OPENAI)


@pytest.mark.parametrize(
    "pair", [(-1, 0), (0, float("nan")), (1, float("inf")), (1, 2, 3), (True, 1), ("1", 2)]
)
def test_a_price_that_cannot_be_is_refused_at_once(pair: Any) -> None:
    with pytest.raises(ConfigError, match="dollars in, dollars out"):
        PriceBook({"m": pair})


def test_a_function_that_returns_no_dollars_is_refused() -> None:
    with pytest.raises(ConfigError, match="must return dollars"):
        PriceBook(lambda _model, _usage: -1.0).rates("m")


@given(st.integers(0, 1000), st.integers(0, 2000), st.integers(0, 2000))
def test_contradicting_counts_never_lower_a_cost(tokens: int, read: int, write: int) -> None:
    for model in ("gpt-4o-mini", "gemini-2.5-pro"):
        rates = known(model)
        cost = rates.cost(Usage(tokens, 0, read, write))
        assert cost >= rates.cost(Usage(read + write, 0, read, write)) > 0 or read + write == 0


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gemini-2.5-flash", Usage(1000, 10, audio_input_tokens=500)),
        ("gemini-2.5-flash", Usage(1000, 10, 800, audio_input_tokens=500, audio_cached_tokens=400)),
        ("gemini-2.5-flash-image", Usage(1000, 1300, image_output_tokens=1290)),
        ("gpt-4o-mini", Usage(1000, 10, audio_input_tokens=500, audio_output_tokens=5)),
        ("gpt-5-mini", Usage(1000, 10, file_searches=3)),
        ("claude-haiku-4-5", Usage(1000, 10, web_searches=2)),
        ("claude-haiku-4-5", Usage(1000, 10, 0, 800, cache_write_1h_tokens=500)),
    ],
)
def test_audio_images_searches_and_hours_of_caching_have_their_own_prices(model: str, usage: Usage) -> None:
    rates = known(model)
    assert rates.cost(usage) == pytest.approx(theirs(usage, model), rel=1e-12, abs=1)
    assert rates.bound(Extent(1000, 1300, media=True, searches=3)) >= rates.cost(usage)


def test_counts_of_media_that_contradict_each_other_still_have_a_cost() -> None:
    odd = Usage(10, 1, 8, audio_input_tokens=50, audio_cached_tokens=90, audio_output_tokens=7)
    assert known("gemini-2.5-flash").cost(odd) > 0


@pytest.mark.parametrize(
    ("model", "tier", "share"),
    [
        ("gpt-5-mini", "flex", 0.5),
        ("gpt-5-mini", "priority", 1.8),
        ("gpt-5-mini", "batch", 0.5),
        ("gpt-5-mini", "default", 1.0),
        ("gpt-5-mini", "no such tier", 1.0),
        ("claude-haiku-4-5", "batch", 0.5),
        ("gpt-4o-mini", "flex", 1.0),
    ],
)
def test_each_tier_of_service_has_its_price(model: str, tier: str, share: float) -> None:
    standard, tiered = known(model), BOOK.rates(model, None, tier)
    assert tiered is not None
    usage = Usage(2000, 400)
    assert tiered.cost(usage) == pytest.approx(share * standard.cost(usage), rel=1e-6)


def test_a_bound_goes_by_the_dearest_tier_at_which_a_request_may_be_served() -> None:
    extent, standard = Extent(2000, 400), known("gpt-5-mini").bound(Extent(2000, 400))
    bounds = {
        tier: BOOK.tariff("gpt-5-mini", None, tier).bound(extent)
        for tier in (None, "auto", "default", "flex")
    }
    assert bounds["default"] == bounds["flex"] == standard
    assert bounds[None] == bounds["auto"] == pytest.approx(1.8 * standard), (
        "the account may be set to priority"
    )


@pytest.mark.parametrize(
    ("model", "most", "window"),
    [
        ("gpt-4o-mini", 16_384, 128_000),
        ("gpt-4o-mini-2024-07-18", 16_384, 128_000),
        ("gpt-5-mini", 128_000, 400_000),
        ("o3", 100_000, 200_000),
        ("gemini-2.5-flash", 65_536, 1_048_576),
        ("claude-haiku-4-5", 200_000, 200_000),
        ("somebody-elses-7b", None, None),
    ],
)
def test_what_a_model_can_write_and_read_at_most_is_known(
    model: str, most: int | None, window: int | None
) -> None:
    tariff = BOOK.tariff(model, None)
    assert (tariff.most_output, tariff.window) == (most, window)


def test_a_function_that_fails_before_anything_is_sent_is_named_with_the_model() -> None:
    def price(model: str, usage: Usage) -> float:
        raise KeyError(model)

    with pytest.raises(ConfigError, match=r"prices= failed for 'ours'.*KeyError"):
        PriceBook(price).rates("ours")


@pytest.mark.parametrize(
    ("most", "models"),
    [
        (4_096, ["gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-4-turbo-2024-04-09", "gpt-4o-2024-05-13"]),
        (8_192, ["gemini-2.0-flash", "gemini-2.0-flash-001"]),
        (16_384, ["gpt-4o", "gpt-4o-mini", "gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18"]),
        (32_768, ["gpt-4.1", "gpt-4.1-mini-2025-04-14"]),
        (65_536, ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"]),
        (100_000, ["o1", "o1-2024-12-17", "o3", "o3-mini", "o4-mini-2025-04-16"]),
        (128_000, ["gpt-5", "gpt-5.1", "gpt-5-mini", "gpt-5-nano-2025-08-07"]),
        (None, ["gpt-4o-audio-preview", "o1-preview", "gemini-2.5-flash-image", "my-gpt-4.1", "gpt-5-chat"]),
    ],
)
def test_the_longest_answer_is_known_of_whole_families_and_only_of_these(
    most: int | None, models: list[str]
) -> None:
    assert {model: most_output(model) for model in models} == dict.fromkeys(models, most)


AZURE = "https://ours.openai.azure.com"


def test_a_batch_at_azure_costs_half_of_what_the_list_says_of_live_requests_and_what_is_cached_no_less() -> (
    None
):
    live, batch = known("gpt-4o-mini", AZURE), BOOK.rates("gpt-4o-mini", AZURE, "batch")
    assert batch is not None
    assert (batch.input, batch.output) == (live.input // 2, live.output // 2)
    assert batch.cost(Usage(1_000, 10, cache_read_tokens=900)) == batch.cost(Usage(1_000, 10))
    assert batch.web_search == live.web_search
    assert BOOK.tariff("gpt-4o-mini", AZURE, "batch").bound(Extent(100, 10)) * 2 == live.bound(
        Extent(100, 10)
    )
    assert BOOK.rates("gpt-4o-mini", AZURE, "flex") == live
    own = PriceBook({"gpt-4o-mini": (1.0, 2.0)}).rates("gpt-4o-mini", AZURE, "batch")
    assert own is not None
    assert (own.input, own.output) == (500_000, 1_000_000)


@pytest.mark.parametrize(
    ("model", "name", "meant"),
    [
        ("gpt-4o-mini", "gpt-4o-mni", True),
        ("gpt-4o-mini", "openai:gpt-4o-mini", True),
        ("gpt-4o-mini", "openai/GPT-4o-mini", True),
        ("our-large", "our-larg", True),
        ("gpt-4o-mini", "gpt-4.1-mini", False),
        ("gpt-4o-mini-eu", "gpt-4o-mini", False),
        ("gpt-4o-mini", "another", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini", False),
        ("gpt-4o-mini", "gpt-4o-*", False),
    ],
)
def test_a_price_whose_name_is_almost_that_of_the_model_is_found_but_not_that_of_another_model(
    model: str, name: str, meant: bool
) -> None:
    assert PriceBook({name: (1.0, 2.0)}).misspelt(model) == (name if meant else None)
    assert PriceBook({name: (1.0, 2.0), model: (1.0, 2.0)}).misspelt(model) is None


LOOKED_UP = """
from cottonpalm.request.money.rules import price_list
from cottonpalm.request.money.rules.prices import PriceBook
asked = [
    (PriceBook(), "gpt-4o", "https://api.openai.com/v1"),
    (PriceBook({"gpt-4o": (1, 1)}), "gpt-4o-mini", "https://api.openai.com/v1"),
    (PriceBook({"gpt-4o": (1, 1)}), "gpt-4o", "https://api.openai.com/v1"),
    (PriceBook(lambda model, usage: None), "gpt-4o", "https://api.openai.com/v1"),
    (PriceBook(), "local:smollm2", "http://127.0.0.1:1/v1"),
    (PriceBook(), "qwen-plus", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
]
for _ in range(2):
    print(*[int(book.looks_up(model, url)) for book, model, url in asked], price_list.is_loaded())
    price_list.load()
"""


def test_the_price_list_is_asked_for_models_that_nothing_else_has_a_price_for_and_loaded_once() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKED_UP], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1 0 0 0 0 False\n0 0 0 0 0 0 True\n"
