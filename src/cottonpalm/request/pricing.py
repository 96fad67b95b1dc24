"""The costs of one run's requests: prices, bounds that were too low, and why a request was not sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cottonpalm.errors import ConfigError
from cottonpalm.providers.call import Call
from cottonpalm.providers.paths import family_in
from cottonpalm.request.money.remote import NoMoreMoney
from cottonpalm.request.money.rules import price_list
from cottonpalm.request.money.rules.outputs import Outputs
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.providers.answer import Answer
    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.request.alerts import Alerts
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.rules.prices import PriceBook, Tariff
    from cottonpalm.request.money.rules.rates import Rates
    from cottonpalm.request.money.spending import Spending


class Pricing:
    """Knows the prices in one run, and learns where costs differ from what was expected. Thread-safe.

    Attributes:
        prices: the user's own prices, and the price list that comes with the library.
        stretches: for each host and model that counted more input than our bound: the count, in per mille of the bound.
        lengths: the same of output, for those that wrote more than the request's maximum.
        repeated: how many answers our own maximum has cut, so that they were asked for again.
        foreseen: hosts and models of which a first request has gone that nothing had to be reserved for.
    """

    def __init__(self, prices: PriceBook, ledger: Ledger | None, spending: Spending, alerts: Alerts) -> None:
        self.prices = prices
        self.stretches: dict[str, int] = {}
        self.lengths: dict[str, int] = {}
        self.repeated = 0
        self.foreseen: set[str] = set()
        self._ledger, self._spending, self._alerts = ledger, spending, alerts
        self._tariffs: dict[tuple[str, str | None], Tariff] = {}
        self._outputs: dict[str, Outputs] = {}
        self._lock = threading.Lock()

    def foresee(self, call: Call) -> None:
        """A first request to this model goes: load what prices its answer while the provider works at it.

        Loaded when the first answer is there, it would keep the loop from all others, which would seem to take longer.
        """
        self.foreseen.add(call.label)
        if self.prices.looks_up(call.model, call.url):
            threading.Thread(target=price_list.load, name="cottonpalm-prices", daemon=True).start()

    def tariff(self, call: Call) -> Tariff:
        """Return what we know about the prices of the model asked; it is looked up once."""
        where = (call.label, call.tier)
        try:
            return self._tariffs[where]
        except KeyError:
            tariff = self._tariffs[where] = self.prices.tariff(call.model, call.url, call.tier)
            self._tell_misspelt(call.model, tariff)
            return tariff

    def _tell_misspelt(self, model: str, tariff: Tariff) -> None:
        """A price whose name is almost that of the model counts for nothing, and mostly should."""
        if (name := self.prices.misspelt(model)) is not None:
            instead = (
                "no other price of it is known" if tariff.rates is None else "that of the price list counts"
            )
            self._alerts.warn(
                f"name of {model}",
                f"prices= (--price) names {name!r}, and the model that is asked is {model!r}: that price is not used, "
                f"and {instead}. Write the name as it is asked",
            )

    def listed(self, call: Call) -> Rates | None:
        """Return the prices of the model asked; None if they are not known."""
        return self.tariff(call).rates

    def rates(self, call: Call, served: str | None = None, tier: str | None = None) -> Rates | None:
        """Return the prices of the model asked, else of the model that answered; None if neither is known.

        The model asked goes first, since the bound was made with its prices and the cost must stay below the bound.

        Args:
            call: the request.
            served: the model that answered.
            tier: of service at which it answered.
        """
        rates = self.tariff(call).rates if tier is None else self.prices.rates(call.model, call.url, tier)
        if rates is None and served is not None:
            rates = self.prices.rates(served, call.url, tier or call.tier)
        if rates is None:
            self._alerts.warn(
                f"price of {call.model}",
                f"no price is known for {call.model!r}, so what it costs is not counted; "
                f"prices={{{call.model!r}: (in, out)}} (--price {call.model}=IN:OUT) says it",
            )
        return rates

    def cost(self, call: Call, answer: Answer) -> int | None:
        """Return what an answer cost, 0 at an unknown price; None: it does not say what it used, or `prices=` fails."""
        usage = answer.usage
        if usage is None or not usage.counted:
            return None
        try:
            rates = self.rates(call, answer.model)
            return 0 if rates is None else rates.cost(usage)
        except Exception as exc:  # noqa: BLE001 - whatever the user's function raises, the answer is paid
            self.note_failed(call, exc)
            return None

    def note_failed(self, call: Call, exc: Exception) -> None:
        """No price could be found for an answer: the user's function of prices failed."""
        self._alerts.warn(
            "prices=",
            f"{why_no_price(call.model, exc)}; what such answers cost is not known, and is booked as uncertain, "
            "at their bounds",
        )

    def outputs(self, call: Call) -> Outputs:
        """Return the record of how long the answers of this model are."""
        try:
            return self._outputs[call.label]
        except KeyError:
            outputs = self._outputs[call.label] = Outputs()
            return outputs

    def stretched(self, call: Call, input_tokens: int) -> int:
        """Return a bound of input, enlarged by the most that this provider has counted above such bounds."""
        return -(-input_tokens * self.stretches.get(call.label, 1000) // 1000)

    def lengthened(self, call: Call, output_tokens: int) -> int:
        """Return a maximum of output, enlarged by the most that this model has written above such maxima."""
        return -(-output_tokens * self.lengths.get(call.label, 1000) // 1000)

    def stretch(self, call: Call, counted: int, bound: int) -> None:
        """Remember that a provider counted more input than this bound, as it was before it was enlarged."""
        self._enlarge(self.stretches, call.label, counted, bound)

    def lengthen(self, call: Call, counted: int, maximum: int) -> None:
        """Remember that a model wrote more than the request's own maximum: some servers leave thoughts out of it."""
        self._enlarge(self.lengths, call.label, counted, maximum)

    def _enlarge(self, per_mille: dict[str, int], label: str, counted: int, bound: int) -> None:
        if counted > bound > 0:
            with self._lock:
                per_mille[label] = max(per_mille.get(label, 1000), -(-counted * 1000 // bound))

    def count_cut(self) -> None:
        """Our own maximum has cut one more answer, which is asked for again."""
        with self._lock:
            self.repeated += 1

    def budget_left(self) -> int | None:
        """Return the pico-dollars of the budget that are neither spent nor reserved; None without a limit."""
        return None if self._ledger is None else self._ledger.left()

    def budget_spent(self) -> int | None:
        """Return the pico-dollars that the budget counts as spent, by all its runs; None without a limit."""
        return None if self._ledger is None or self._ledger.left() is None else self._ledger.spent

    def why_no_money(self, whom: str, least: Callable[[], int], *, streams: bool = False) -> str:
        """Say why a request, or a streaming one, was not sent whose bound is at least `least()` pico-dollars."""
        failure = self._spending.failure or self._spending.refusal
        if isinstance(failure, NoMoreMoney):
            return str(failure)  # whoever lends the money says why
        if failure is not None:
            return f"what is spent cannot be made durable, and so no request is sent: {failure}"
        why = f"the budget does not allow for another request to {whom}"
        if self._ledger is None:
            return why
        bound, left = least(), self._ledger.unspent()  # what is reserved did not keep it from waiting
        if left is None or left >= bound:  # money was freed since, but too late for this request
            return why
        why += f", which can cost ${bound / PICO:.6f}; ${max(0, left) / PICO:.6f} is left"
        uncertain = self._spending.earlier.uncertain + self._spending.uncertain
        if left + uncertain < bound:
            return why
        # Else the budget seems to be gone while little was spent.
        why += f", and ${uncertain / PICO:.6f} is set aside for answers that never came, or did not say what they cost"
        return f"{why}; stream_usage=True lets a ChatOpenAI's streams say it" if streams else why


def why_no_price(model: str, exc: Exception) -> str:
    """Say why no price could be found: the user's function says it itself."""
    own = isinstance(exc, ConfigError)
    return str(exc) if own else f"the price of {model!r} could not be found ({type(exc).__name__}: {exc})"


def call_in(lane: Lane) -> Call:
    """As much of a request in this lane as its price depends on."""
    label = f"{lane.origin.partition('://')[2]}/{lane.model}"
    family = family_in(lane.endpoint)
    return Call("", label, family, lane.model, lane.origin, b"", {}, signed=False, born=0.0, batched=True)
