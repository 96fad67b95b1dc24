"""What the requests of one run cost: prices, bounds that were too low, and why one was not sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cottonpalm.request.money.rules.outputs import Outputs
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.providers.call import Call
    from cottonpalm.request.alerts import Alerts
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.rules.prices import PriceBook, Tariff
    from cottonpalm.request.money.rules.rates import Rates
    from cottonpalm.request.money.spending import Spending


class Pricing:
    """What is known of prices in one run, and of answers that cost more or less than was thought. Thread-safe.

    Attributes:
        prices: the user's own, and the list that comes with the library.
        stretches: per mille of the bound of input, by host and model that was seen to count more.
        repeated: answers that were cut by a maximum of ours and asked for again.
    """

    def __init__(self, prices: PriceBook, ledger: Ledger | None, spending: Spending, alerts: Alerts) -> None:
        self.prices = prices
        self.stretches: dict[str, int] = {}
        self.repeated = 0
        self._ledger, self._spending, self._alerts = ledger, spending, alerts
        self._tariffs: dict[tuple[str, str | None], Tariff] = {}
        self._outputs: dict[str, Outputs] = {}
        self._lock = threading.Lock()

    def tariff(self, call: Call) -> Tariff:
        """What is known of the prices of the model asked, resolved once."""
        where = (call.label, call.tier)
        try:
            return self._tariffs[where]
        except KeyError:
            tariff = self._tariffs[where] = self.prices.tariff(call.model, call.url, call.tier)
            return tariff

    def rates(self, call: Call, served: str | None = None, tier: str | None = None) -> Rates | None:
        """The prices of the model asked, else of the one that answered; None where neither is known.

        The asked one first: the bound was made with its prices, and a ceiling must not move afterwards.

        Args:
            call: the request.
            served: the model that answered.
            tier: of service at which it answered.
        """
        rates = self.tariff(call).rates if tier is None else self.prices.rates(call.model, call.url, tier)
        if rates is None and served is not None:
            rates = self.prices.rates(served, call.url, tier)
        if rates is None:
            self._alerts.warn(
                f"price of {call.model}",
                f"no price is known for {call.model!r}, so what it costs is not counted; "
                f"prices={{{call.model!r}: (in, out)}} (--price {call.model}=IN:OUT) says it",
            )
        return rates

    def outputs(self, call: Call) -> Outputs:
        """How long the answers of this model are."""
        try:
            return self._outputs[call.label]
        except KeyError:
            outputs = self._outputs[call.label] = Outputs()
            return outputs

    def stretched(self, call: Call, input_tokens: int) -> int:
        """A bound of input, larger by what a provider was ever seen to count above it."""
        per_mille = self.stretches.get(call.label, 1000)
        return -(-input_tokens * per_mille // 1000)

    def stretch(self, call: Call, counted: int, bound: int) -> None:
        """Remember a provider that counts more input than there can be."""
        if counted > bound > 0:
            with self._lock:
                now = self.stretches.get(call.label, 1000)
                self.stretches[call.label] = max(now, -(-counted * now // bound))

    def count_cut(self) -> None:
        """One more answer was cut by a maximum of ours, and is asked for again."""
        with self._lock:
            self.repeated += 1

    def budget_left(self) -> int | None:
        """Pico-dollars of the budget that are neither spent nor reserved; None without a ceiling."""
        return None if self._ledger is None else self._ledger.left()

    def why_no_money(self, model: str, least: Callable[[], int]) -> str:
        """Why a request was not sent, of which the bound is `least()` pico-dollars at least."""
        if (failure := self._spending.failure) is not None:
            return f"what is spent cannot be made durable, and so no request is sent: {failure}"
        if self._ledger is not None:
            self._alerts.tell_share(1.0, self._ledger)
        why = f"the budget does not allow for another request to {model!r}"
        bound, left = least(), self.budget_left()
        if left is None or left >= bound:  # money came back since, too late for this one
            return why
        return f"{why}, which can cost ${bound / PICO:.6f}; ${max(0, left) / PICO:.6f} is left"
