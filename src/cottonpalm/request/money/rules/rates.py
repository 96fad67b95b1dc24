"""Rates in pico-dollars per token. They give a request's cost, and the most it can cost."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import ROUND_CEILING, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.errors import ConfigError
from cottonpalm.types import PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKENS: Final = 10**6  # prices are per million tokens


class Extent(NamedTuple):
    """The most that a request can use.

    Attributes:
        input_tokens: input tokens of all its answers together.
        output_tokens: output tokens of all its answers together.
        media: it may read or write audio or images, for which some models have other rates.
        searches: how often the provider's own tools may search the web or files, each time for a fee.
    """

    input_tokens: int
    output_tokens: int
    media: bool = False
    searches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Pico-dollars per token of one model; a fraction is rounded up.

    Attributes:
        input: a token of the prompt, neither read from the provider's cache nor written to it.
        output: a token of the answer, reasoning included.
        cache_read: a token of the prompt that the provider had cached.
        cache_write: a token of the prompt that the provider was asked to cache for five minutes.
        cache_write_1h: the same for an hour.
        dearest_input: the most that a token of text in the prompt can cost.
        dearest_output: the most that a token of the answer to a text can cost, be it text or a picture.
        dearest_media: the most that a token of any kind can cost.
        request: the fee for the request itself.
        web_search: the fee for a search of the web; None: not known.
        file_search: the fee for a search of files; None: not known.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    dearest_input: int
    dearest_output: int
    dearest_media: int
    request: int = 0
    web_search: int | None = None
    file_search: int | None = None

    def cost(self, usage: Usage) -> int:
        """Return the cost of a request with this usage; if the counts contradict each other, the dearer reading."""
        written = usage.cache_write_tokens
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - written)
        for_an_hour = min(usage.cache_write_1h_tokens, written)
        tokens = (
            plain * self.input
            + usage.cache_read_tokens * self.cache_read
            + (written - for_an_hour) * self.cache_write
            + for_an_hour * self.cache_write_1h
            + usage.output_tokens * self.output
        )
        return self.request + tokens + self._fees(usage)

    def _fees(self, usage: Usage) -> int:
        return usage.web_searches * (self.web_search or 0) + usage.file_searches * (self.file_search or 0)

    def bound(self, extent: Extent) -> int:
        """Return the most that a request up to this extent can cost, however the provider caches."""
        dearest = self.dearest_media
        into, out = (dearest, dearest) if extent.media else (self.dearest_input, self.dearest_output)
        fees = extent.searches * max(self.web_search or 0, self.file_search or 0)
        return self.request + extent.input_tokens * into + extent.output_tokens * out + fees

    @property
    def free(self) -> bool:
        """Whether nothing costs anything, so that no bound is needed."""
        return not (self.dearest_media or self.dearest_input or self.dearest_output or self.request)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRates(Rates):
    """Prices by the user's own function of usage. The rates are its results for a million tokens of each kind."""

    model: str = ""
    price: Callable[[str, Usage], float | None] = lambda _model, _usage: None

    def cost(self, usage: Usage) -> int:
        """Return what the function returns, rounded up to a pico-dollar."""
        return _asked(self.price, self.model, usage)

    def bound(self, extent: Extent) -> int:
        """Return the highest result of the function: for a plain prompt, one read from a cache, one written to it."""
        searches = extent.searches
        shapes = _shapes(extent.input_tokens, extent.output_tokens)
        return max(
            self.cost(replace(usage, web_searches=searches, file_searches=searches)) for usage in shapes
        )


def flat(input_rate: int, output_rate: int) -> Rates:
    """Return rates for a price list that has only prices for tokens in and out."""
    return Rates(
        input=input_rate,
        output=output_rate,
        cache_read=input_rate,
        cache_write=input_rate,
        cache_write_1h=input_rate,
        dearest_input=input_rate,
        dearest_output=output_rate,
        dearest_media=max(input_rate, output_rate),
    )


def halved(rates: Rates) -> Rates:
    """What the same model costs in a batch: every provider sells it at half the price."""
    if isinstance(rates, AskedRates):
        own = rates.price
        return asked(
            lambda model, usage: None if (cost := own(model, usage)) is None else cost / 2, rates.model
        )
    numbers = {field.name: getattr(rates, field.name) for field in fields(Rates)}
    halves: dict[str, Any] = {name: rate and -(-rate // 2) for name, rate in numbers.items()}
    return Rates(**halves)


def asked(price: Callable[[str, Usage], float | None], model: str) -> AskedRates:
    """Return the rates of a model that the user's function knows."""

    def per_token(usage: Usage) -> int:
        return -(-_asked(price, model, usage) // _TOKENS)

    plain, read, write = map(per_token, _shapes(_TOKENS, 0))
    output, dearest = per_token(Usage(0, _TOKENS)), max(plain, read, write)
    return AskedRates(
        input=plain,
        output=output,
        cache_read=read,
        cache_write=write,
        cache_write_1h=write,
        dearest_input=dearest,
        dearest_output=output,
        dearest_media=max(dearest, output),
        web_search=0,  # no extra fee: the usage tells the function the number of searches
        file_search=0,
        model=model,
        price=price,
    )


def per_token(dollars_per_million: float | Decimal) -> int:
    """Return pico-dollars per token, rounded up."""
    return pico(Decimal(str(dollars_per_million)) * PICO / _TOKENS)


def pico(amount: Decimal) -> int:
    """Return a whole number of pico-dollars, rounded up."""
    return int(amount.to_integral_value(ROUND_CEILING))


def _asked(price: Callable[[str, Usage], float | None], model: str, usage: Usage) -> int:
    """Return what the user's function says, in pico-dollars. Raise ConfigError if it raises, or says no amount."""
    try:
        dollars = price(model, usage)
        wrong = dollars is None or not isfinite(dollars) or dollars < 0
    except Exception as exc:
        raise ConfigError(
            f"the function given as prices= failed for {model!r} ({type(exc).__name__}: {exc})"
        ) from exc
    if wrong:
        raise ConfigError(f"prices({model!r}, usage) must return dollars, 0 or more, got {dollars!r}")
    return pico(Decimal(str(dollars)) * PICO)


def _shapes(input_tokens: int, output_tokens: int) -> tuple[Usage, Usage, Usage]:
    return (
        Usage(input_tokens, output_tokens),
        Usage(input_tokens, output_tokens, cache_read_tokens=input_tokens),
        Usage(input_tokens, output_tokens, cache_write_tokens=input_tokens),
    )
