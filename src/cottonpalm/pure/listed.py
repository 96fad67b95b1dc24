"""The price list that comes with genai-prices: public data, no network, its updates never switched on.

Importing it takes a third of a second and 40 MB, so that waits for the first model whose price nobody else
knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.model import PICO, Usage
from cottonpalm.pure.rates import Rates, per_token, pico

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import PriceCalculation

_TOKENS: Final = 10**6  # prices are per million tokens
_INPUT_KEYS: Final = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
_OUTPUT_KEYS: Final = ("output_mtok", "output_reasoning_mtok")
_NOT_FLAT: Final = "output_reasoning_mtok"


@dataclass(frozen=True, slots=True)
class LookedUpRates(Rates):
    """Rates that depend on more than the kind of token, as tiers by length do.

    Each cost is computed by genai-prices. The rates here are the dearest that may apply, and make the bound.
    """

    model: str = ""
    provider_id: str = ""

    def cost(self, usage: Usage) -> int:
        """Return the cost as genai-prices has it, rounded up to a pico-dollar."""
        return pico(_calculate(self.model, self.provider_id, usage).total_price * PICO)


def _calculate(model: str, provider_id: str, usage: Usage) -> PriceCalculation:
    import genai_prices  # noqa: PLC0415

    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts = genai_prices.Usage(
        input_tokens=max(usage.input_tokens, cached),  # less than its parts is refused there
        output_tokens=max(usage.output_tokens, usage.reasoning_tokens),
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    return genai_prices.calc_price(counts, model, provider_id=provider_id)


def look_up(model: str, url: str | None) -> Rates | None:
    """Return what the model costs at this address, None if the list does not have it."""
    try:
        provider_id = _provider_id(model, url)
        found = _calculate(model, provider_id, Usage())
    except LookupError:
        return None
    prices = {key: price for key, price in vars(found.model_price).items() if price is not None}
    if "input_mtok" not in prices:
        return None  # not sold by the token
    return _rates(prices, _other_prices(found), model, provider_id)


def _provider_id(model: str, url: str | None) -> str:
    """A known address decides; else the model's name. Raises LookupError."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    if url:
        try:
            return get_snapshot().find_provider(None, None, url if "://" in url else f"https://{url}").id
        except LookupError:
            pass
    return get_snapshot().find_provider(model.lower(), None, None).id


def _other_prices(found: PriceCalculation) -> list[dict[str, Any]]:
    """Prices of the same model at other hours of the day."""
    from genai_prices.types import TimeOfDateConstraint  # noqa: PLC0415

    listed = found.model.prices if isinstance(found.model.prices, list) else []
    hourly = [vars(p.prices) for p in listed if isinstance(p.constraint, TimeOfDateConstraint)]
    always = [vars(p.prices) for p in listed if p.constraint is None]
    return [*hourly, *always] if hourly else []


def _rates(prices: Mapping[str, Any], others: list[dict[str, Any]], model: str, provider_id: str) -> Rates:
    """Flat rates where every token of a kind costs the same, whatever else the request holds."""
    tokens = (*_INPUT_KEYS, *_OUTPUT_KEYS)
    flat = not others and _NOT_FLAT not in prices
    flat = flat and all(isinstance(prices[key], Decimal) for key in tokens if key in prices)

    def most(key: str) -> int:
        return max((_dearest(which.get(key)) for which in (prices, *others)), default=0)

    plain = most("input_mtok")
    read, write = (most(key) if key in prices else plain for key in ("cache_read_mtok", "cache_write_mtok"))
    output = max(map(most, _OUTPUT_KEYS))
    dearest = max(plain, *map(most, _INPUT_KEYS))
    fee = most("requests_kcount") * _TOKENS // 1000
    if flat:
        return Rates(plain, output, read, write, dearest, fee)
    return LookedUpRates(plain, output, read, write, dearest, fee, model=model, provider_id=provider_id)


def _dearest(price: Any) -> int:
    """Pico-dollars per token at the highest tier; 0 for what is not sold."""
    if price is None:
        return 0
    if isinstance(price, Decimal):
        return per_token(price)
    return max(map(per_token, (price.base, *(tier.price for tier in price.tiers))))
