"""Pico-dollars per token, and what follows from them: a request's cost and the most it can cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Final

from cottonpalm.faults import ConfigError
from cottonpalm.model import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKENS: Final = 10**6  # prices are per million tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-dollars per token of one model; a fraction is rounded up.

    Attributes:
        input: a token of the prompt, neither read from the provider's cache nor written to it.
        output: a token of the answer, reasoning included.
        cache_read: a token of the prompt that the provider had cached.
        cache_write: a token of the prompt that the provider was asked to cache.
        dearest_input: the most that a token of the prompt can cost.
        request: the fee for the request itself.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    dearest_input: int
    request: int = 0

    def cost(self, usage: Usage) -> int:
        """Return the cost of a request with this usage; on the dear side where counts contradict."""
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        return (
            self.request
            + plain * self.input
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        )

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a request with up to so many tokens can cost, however the provider caches."""
        return self.request + input_tokens * self.dearest_input + output_tokens * self.output


@dataclass(frozen=True, slots=True)
class AskedRates(Rates):
    """The user's own function of usage. The rates are what it says for a million tokens of each kind."""

    model: str = ""
    price: Callable[[str, Usage], float | None] = lambda _model, _usage: None

    def cost(self, usage: Usage) -> int:
        """Return what the function says, rounded up to a pico-dollar."""
        return _dollars(self.price(self.model, usage), self.model)

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Return the dearest the function says, be the prompt plain, read from a cache, or written to one."""
        return max(self.cost(usage) for usage in _shapes(input_tokens, output_tokens))


def flat(input_rate: int, output_rate: int) -> Rates:
    """Rates of a price list that knows only tokens in and out."""
    return Rates(input_rate, output_rate, input_rate, input_rate, input_rate)


def asked(price: Callable[[str, Usage], float | None], model: str) -> AskedRates:
    """Rates of a model the user's function knows."""

    def per_token(usage: Usage) -> int:
        return -(-_dollars(price(model, usage), model) // _TOKENS)

    plain, read, write = map(per_token, _shapes(_TOKENS, 0))
    output = per_token(Usage(0, _TOKENS))
    return AskedRates(plain, output, read, write, max(plain, read, write), model=model, price=price)


def per_token(dollars_per_million: float | Decimal) -> int:
    """Pico-dollars per token, rounded up."""
    return pico(Decimal(str(dollars_per_million)) * PICO / _TOKENS)


def pico(amount: Decimal) -> int:
    """A whole number of pico-dollars, never too few."""
    return int(amount.to_integral_value(ROUND_CEILING))


def _dollars(dollars: float | None, model: str) -> int:
    if dollars is None or not isfinite(dollars) or dollars < 0:
        raise ConfigError(f"prices({model!r}, usage) must return dollars, 0 or more, got {dollars!r}")
    return pico(Decimal(str(dollars)) * PICO)


def _shapes(input_tokens: int, output_tokens: int) -> tuple[Usage, Usage, Usage]:
    return (
        Usage(input_tokens, output_tokens),
        Usage(input_tokens, output_tokens, cache_read_tokens=input_tokens),
        Usage(input_tokens, output_tokens, cache_write_tokens=input_tokens),
    )
