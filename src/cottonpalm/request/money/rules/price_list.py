"""The price list of the genai-prices package: public data, without network; we never switch its updates on.

Importing it takes a third of a second and 40 MB, so we import it only for the first model that the user's prices do
not name. This module also lists the most tokens that known models write in one answer, as their makers document it
(read November 2026). A model that is not listed is bounded by its context window.
"""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.money.rules.rates import Rates, halved, per_token, pico
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_prices.types import ModelInfo, PriceCalculation

log = logging.getLogger("cottonpalm")
_DATA: Final = "genai_prices.data"  # what takes long of it
_MISSING: Final = (
    "genai-prices, the list of prices, cannot be imported (%s: %s): costs are known only of models whose prices you"
    " give (prices=). Install it again; a program frozen by PyInstaller needs --copy-metadata genai-prices"
)
_TOKENS: Final = 10**6  # prices are per million tokens
_WRITES: Final = ("cache_write_mtok", "cache_write_1h_mtok")
_INPUT_KEYS: Final = ("input_mtok", "cache_read_mtok", *_WRITES)
_OUTPUT_KEYS: Final = ("output_mtok", "output_reasoning_mtok")
# A model that draws does so without being asked.
_DRAWN_KEYS: Final = ("output_image_mtok", "output_video_mtok")
_FLAT: Final = frozenset({*_INPUT_KEYS, "output_mtok"})
# Azure sells every model of its batches at half the price (learn.microsoft.com); the list has no batch price of it.
_BATCHES_AT_HALF: Final = frozenset({"azure"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUpRates(Rates):
    """Rates from the list for a model whose cost depends on more than the number of tokens: on length, or on media.

    genai-prices computes such a cost. The rates here are the dearest that may apply, and give the bound.

    Attributes:
        plain: True: text alone costs what the rates say.
        tier: the tier of service, or "batch".
    """

    model: str = ""
    provider_id: str = ""
    tier: str | None = None
    plain: bool = False

    def cost(self, usage: Usage) -> int:
        """Return the cost that genai-prices computes, rounded up to a pico-dollar."""
        media = usage.audio_input_tokens or usage.audio_output_tokens or usage.image_output_tokens
        if self.plain and not media:
            return Rates.cost(self, usage)
        return pico(_calculate(self.model, self.provider_id, self.tier, usage).total_price * PICO)


def _calculate(model: str, provider_id: str, tier: str | None, usage: Usage) -> PriceCalculation:
    import genai_prices  # noqa: PLC0415

    context = None if tier is None else {"service_tier": tier, "processing": tier, "speed": tier}
    return genai_prices.calc_price(_counts(usage), model, provider_id=provider_id, price_context=context)


def _counts(usage: Usage) -> Any:
    """Convert the usage for genai-prices. It refuses a sum below its parts, and an overlap that is not declared."""
    import genai_prices  # noqa: PLC0415

    read, written, audio = usage.cache_read_tokens, usage.cache_write_tokens, usage.audio_input_tokens
    heard = min(max(usage.audio_cached_tokens, 0), audio, read)  # tokens of cached audio
    spoken, drawn = usage.audio_output_tokens, usage.image_output_tokens
    for_an_hour = min(usage.cache_write_1h_tokens, written)
    counts = {
        "input_tokens": max(usage.input_tokens, read + written + audio - heard),
        "output_tokens": max(usage.output_tokens, usage.reasoning_tokens + spoken + drawn),
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "web_searches": usage.web_searches,
        "storage_searches": usage.file_searches,
    }
    if written:
        counts |= {"cache_write_5m_tokens": written - for_an_hour, "cache_write_1h_tokens": for_an_hour}
    if audio:
        counts |= {
            "input_audio_tokens": audio,
            "cache_audio_read_tokens": heard,
            "cache_audio_write_tokens": 0,
        }
    if spoken or drawn:
        counts |= {"output_audio_tokens": spoken, "output_image_tokens": drawn}
    return genai_prices.Usage(**counts)


def is_loaded() -> bool:
    """Whether the list is in memory."""
    return _DATA in sys.modules


def load() -> None:
    """Import the list now. Where that fails, whoever looks a model up is told, or meets the error."""
    with suppress(Exception):
        is_there()


@cache
def is_there() -> bool:
    """Whether the list can be had. Where it cannot, rows are answered all the same, and that is told once."""
    try:
        import_module(_DATA)
    except ImportError as exc:
        log.warning(_MISSING, type(exc).__name__, exc)
        return False
    return True


def look_up(model: str, url: str | None, tier: str | None = None) -> Rates | None:
    """Return the model's rates at this address, or None if the list does not have the model.

    Args:
        model: its name.
        url: the address of the request. If it is a known provider's, it decides; else the model's name decides.
        tier: "flex", "priority", "fast" or "batch"; at a tier without rates of its own, the standard rates count.
    """
    if not is_there():
        return None
    halves = False
    try:
        provider_id = _provider_id(model, url)
        found = _calculate(model, provider_id, tier, Usage())
        if (
            tier is not None
            and found.model_price == _calculate(model, provider_id, None, Usage()).model_price
        ):
            halves = tier == "batch" and provider_id in _BATCHES_AT_HALF
            tier = None  # so that the rates are equal to the standard ones: nothing costs less there
    except LookupError:
        return None
    prices = {key: price for key, price in vars(found.model_price).items() if price is not None}
    if "input_mtok" not in prices:
        return None  # not sold by the token
    rates = _rates(prices, _other_prices(found), model, provider_id, tier)
    return _at_half(rates) if halves and not isinstance(rates, LookedUpRates) else rates


def _at_half(rates: Rates) -> Rates:
    """Half the price of a token in and out. What is cached is not known to cost less than that, and fees stay."""
    half = halved(rates)
    into = half.input
    return replace(
        half,
        cache_read=into,
        cache_write=max(into, half.cache_write),
        cache_write_1h=max(into, half.cache_write_1h),
        request=rates.request,
        web_search=rates.web_search,
        file_search=rates.file_search,
    )


def context_window(model: str, url: str | None) -> int | None:
    """Return the most tokens that the model can read and write at once, or None if the list does not say."""
    if not is_there():
        return None
    try:
        info: ModelInfo = _calculate(model, _provider_id(model, url), None, Usage()).model
    except LookupError:
        return None
    return info.context_window


def _provider_id(model: str, url: str | None) -> str:
    """Find the provider: by the address if it is known, else by the model's name. Raise LookupError."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    if url:
        try:
            return get_snapshot().find_provider(None, None, url if "://" in url else f"https://{url}").id
        except LookupError:
            pass
    return get_snapshot().find_provider(model.lower(), None, None).id


def _other_prices(found: PriceCalculation) -> list[dict[str, Any]]:
    """Return the prices of the same model at other hours of the day."""
    from genai_prices.types import TimeOfDateConstraint  # noqa: PLC0415

    listed = found.model.prices if isinstance(found.model.prices, list) else []
    hourly = [vars(p.prices) for p in listed if isinstance(p.constraint, TimeOfDateConstraint)]
    always = [vars(p.prices) for p in listed if p.constraint is None]
    return [*hourly, *always] if hourly else []


def _rates(
    prices: Mapping[str, Any], others: list[dict[str, Any]], model: str, provider_id: str, tier: str | None
) -> Rates:
    """Return plain Rates if every token always costs the same, else LookedUpRates."""
    kinds = [key for key in prices if key.endswith("_mtok")]

    def most(*keys: str) -> int:
        return max(_dearest(which.get(key)) for which in (prices, *others) for key in keys)

    def kept(key: str, otherwise: int) -> int:
        return most(key) if key in prices else otherwise

    into, write = most("input_mtok"), kept("cache_write_mtok", most("input_mtok"))
    common: dict[str, Any] = {
        "input": into,
        "output": most(*_OUTPUT_KEYS),
        "cache_read": kept("cache_read_mtok", into),
        "cache_write": write,
        "cache_write_1h": kept("cache_write_1h_mtok", write),
        "dearest_input": most(*_INPUT_KEYS),
        "dearest_output": most(*_OUTPUT_KEYS, *_DRAWN_KEYS),
        "dearest_media": most(*_INPUT_KEYS, *_OUTPUT_KEYS, *kinds),
        "request": _per_thousand(prices, "requests_kcount") or 0,
        "web_search": _per_thousand(prices, "web_searches_kcount"),
        "file_search": _per_thousand(prices, "storage_searches_kcount"),
    }
    plain = not others and "output_reasoning_mtok" not in prices and _all_flat(prices, _FLAT)
    if plain and _FLAT.issuperset(kinds):
        return Rates(**common)
    return LookedUpRates(**common, model=model, provider_id=provider_id, tier=tier, plain=plain)


def _all_flat(prices: Mapping[str, Any], keys: Iterable[str]) -> bool:
    return all(isinstance(prices[key], Decimal) for key in keys if key in prices)


def _per_thousand(prices: Mapping[str, Any], key: str) -> int | None:
    """Return the fee for one use of what is sold per thousand, or None if the list has no fee."""
    return _dearest(prices[key]) * _TOKENS // 1000 if key in prices else None


def _dearest(price: Any) -> int:
    """Return the pico-dollars per token at the highest tier; 0 if it is not sold."""
    if price is None:
        return 0
    if isinstance(price, Decimal):
        return per_token(price)
    return max(map(per_token, (price.base, *(tier.price for tier in price.tiers))))


_FAMILIES: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"gpt-3\.5-turbo", 4_096),
        (r"gpt-4-turbo", 4_096),
        (r"gpt-4\.1", 32_768),
        (r"gpt-4o-2024-05-13", 4_096),
        (r"gpt-4o(-mini)?(-2024-\d\d-\d\d)?$", 16_384),
        (r"gpt-5(\.\d)?(-mini|-nano)?(-\d{4}-\d\d-\d\d)?$", 128_000),
        (r"o1(-\d{4}-\d\d-\d\d)?$", 100_000),
        (r"o(3|3-mini|4-mini)(-\d{4}-\d\d-\d\d)?$", 100_000),
        (r"gemini-2\.0-flash", 8_192),
        (r"gemini-2\.5-(pro|flash|flash-lite)$", 65_536),
    )
)


def most_output(model: str) -> int | None:
    """Return the documented maximum of tokens in one answer, or None for a model that is not listed here."""
    return next((tokens for pattern, tokens in _FAMILIES if pattern.match(model)), None)
