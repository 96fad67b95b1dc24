"""Finds what a request costs, in integer pico-dollars, and the most it can cost.

A model's rates are looked up once: first in the user's own prices, then in the free models, then in our own list for
China, then in genai-prices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from math import isfinite
from typing import Final, TypeAlias

from cottonpalm.errors import ConfigError
from cottonpalm.once import once
from cottonpalm.request.money.rules import price_list, prices_in_china
from cottonpalm.request.money.rules.price_list import most_output
from cottonpalm.request.money.rules.prices_in_china import SteppedRates
from cottonpalm.request.money.rules.rates import AskedRates, Extent, Rates, asked, flat, halved, per_token
from cottonpalm.types import Usage

OwnPrices: TypeAlias = Mapping[str, tuple[float, float]] | Callable[[str, Usage], float | None]

FREE: Final = ("local", "local:*", "local/*")  # names of models that run on this machine
_DATED: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
_STANDARD: Final = frozenset({"default", "standard", "standard_only", "on_demand"})
BATCH: Final = "batch"  # what a request costs in a batch
_ALIKE: Final = 0.8  # from here on a name is taken for another one, misspelt
_DEARER: Final = "priority"  # an account may be set to serve requests without a tier at this tier


class Tariff:
    """Everything we know about the costs of a model at an address, when it is asked at a tier of service.

    Attributes:
        rates: the rates at that tier; None if they are not known.
        dearest: the rates of all tiers at which the provider may serve such a request.
        free: True: no request to it costs anything.
        text: the most a text-only request costs, in pico-dollars: for the request itself, for a token of input, and
            for a token of output; None if three such numbers cannot say it.
    """

    def __init__(self, model: str, url: str | None, rates: Rates | None, dearest: tuple[Rates, ...]) -> None:
        self.model, self.url, self.rates, self.dearest = model, url, rates, dearest
        self.free = bool(dearest) and all(each.free for each in dearest)
        self.text = _rates_of_text(dearest)

    @property
    def window(self) -> int | None:
        """The most tokens the model reads and writes at once; None if not known."""
        return _window(self.model, self.url)

    @once
    def most_output(self) -> int | None:
        """The most tokens the model writes in one answer; None if not known."""
        return most_output(self.model) or self.window

    def bound(self, extent: Extent) -> int:
        """Return the most that a request up to this extent can cost."""
        return max(rates.bound(extent) for rates in self.dearest)


class PriceBook:
    """The prices that one run uses.

    Args:
        own: the user's prices, which go before all others: dollars for a million tokens in and out by model;
            or a function of the model's name and a usage that returns dollars, None if it does not know the model.
            A name may be a pattern (`"my-*"`, `"*"`); one without a date also stands for its dated versions.
    """

    def __init__(self, own: OwnPrices | None = None) -> None:
        self._own = own
        self._known: dict[tuple[str, str | None, str | None], Rates | None] = {}
        if isinstance(own, Mapping):
            for model, pair in own.items():
                _check(model, pair)

    def rates(self, model: str, provider_url: str | None = None, tier: str | None = None) -> Rates | None:
        """Return what this model costs at this address, or None where nobody knows.

        Args:
            model: its name as asked for, or as served.
            provider_url: the address of the request or the base URL of the client. A known provider's own
                price list counts; at any other address the model's name decides.
            tier: "flex", "priority", "fast" or "batch"; None and any other is the standard.
        """
        key = (model, provider_url, None if tier in _STANDARD else tier)
        try:
            return self._known[key]
        except KeyError:
            rates = self._known[key] = self._find(*key)
            return rates

    def looks_up(self, model: str, url: str | None) -> bool:
        """Whether the price list, which is not loaded yet, will be asked for this model; not by a user's function."""
        if callable(self._own) or self._own_rates(model) is not None or _is_free(model):
            return False
        return prices_in_china.look_up(model, url) is None and not price_list.is_loaded()

    def tariff(self, model: str, url: str | None, tier: str | None = None) -> Tariff:
        """Return what bounds the cost of requests to this model, at this address and this tier."""
        rates = self.rates(model, url, tier)
        served = {None, tier} if tier not in (None, "auto") else {None, _DEARER}
        if tier == BATCH:
            served = {BATCH}
        if tier in _STANDARD:
            served = {None}
        dearest = {known for at in served if (known := self.rates(model, url, at)) is not None}
        return Tariff(model, url, rates, tuple(dearest))

    def misspelt(self, model: str) -> str | None:
        """Return the name in the user's prices that was probably meant for this model, where none of them is its own.

        A name of another model in the price list stands for that one, however much alike they are.
        """
        if not isinstance(self._own, Mapping) or _match(self._own, model) is not None:
            return None
        word = model.lower()
        for name in self._own:
            if name.lower() == word or name.lower().endswith((f":{word}", f"/{word}")):
                return name
        near = get_close_matches(word, self._own, n=1, cutoff=_ALIKE)
        return next((name for name in near if price_list.look_up(name, None) is None), None)

    def _find(self, model: str, url: str | None, tier: str | None) -> Rates | None:
        if (own := self._own_rates(model)) is not None:
            return halved(own) if tier == BATCH else own
        if _is_free(model):
            return flat(0, 0)
        return prices_in_china.look_up(model, url) or price_list.look_up(model, url, tier)

    def _own_rates(self, model: str) -> Rates | None:
        if isinstance(self._own, Mapping):
            pair = _match(self._own, model)
            return None if pair is None else flat(*map(per_token, pair))
        if self._own is None:
            return None
        try:
            return None if self._own(model, Usage()) is None else asked(self._own, model)
        except ConfigError:
            raise
        except Exception as exc:
            raise ConfigError(
                f"the function given as prices= failed for {model!r} ({type(exc).__name__}: {exc})"
            ) from exc


def _is_free(model: str) -> bool:
    return any(fnmatchcase(model, name) for name in FREE)


@cache
def _window(model: str, url: str | None) -> int | None:
    return price_list.context_window(model, url)


def _rates_of_text(dearest: tuple[Rates, ...]) -> tuple[int, int, int] | None:
    """Return the fee per request and the rates per token in and out, if one tier is the dearest in all three."""
    if not dearest or any(isinstance(rates, AskedRates | SteppedRates) for rates in dearest):
        return None
    each = [(rates.request, rates.dearest_input, rates.dearest_output) for rates in dearest]
    most = tuple(map(max, zip(*each, strict=True)))
    return next((one for one in each if one == most), None)


def _check(model: str, pair: Sequence[float]) -> None:
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_price, pair))):
        raise ConfigError(
            f"prices[{model!r}] must be (dollars in, dollars out) per million tokens, got {pair!r}"
        )


def _is_price(price: float) -> bool:
    try:
        return isfinite(price) and price >= 0 and not isinstance(price, bool)
    except TypeError:
        return False


def _match(table: Mapping[str, tuple[float, float]], model: str) -> tuple[float, float] | None:
    """Return the most exact entry: first the name, then the name without its date, then the longest pattern."""
    for name in (model, _DATED.sub("", model)):
        if name in table:
            return table[name]
    patterns = [pattern for pattern in table if fnmatchcase(model, pattern)]
    return table[max(patterns, key=len)] if patterns else None
