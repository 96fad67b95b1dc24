"""Reserves the money of one try: computes its bound, adds a maximum to the request to keep to it, and books it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import written
from cottonpalm.request.money.bounds import extent, reads_elsewhere, text_input, uses_tools_of_the_provider
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.types import BYTES_PER_TOKEN, Usage

if TYPE_CHECKING:
    from cottonpalm.providers.answer import Answer
    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.rules.prices import Tariff
    from cottonpalm.request.money.rules.rates import Extent, Rates
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import CostSource

THOUGHTS: Final = 1_024  # tokens that must be left for the answer after the model's reasoning
_OPENAI: Final = ("openai.com", "azure.com")  # hosts whose newer models refuse the field's older name


class Reservation:
    """The money of one try. `reserved` is the amount that the ledger holds for it.

    Args:
        row: the row that the request belongs to.
        call: the request.
        whole: never tighten its maximum, since our own maximum has cut an answer to it before.
    """

    def __init__(self, row: RowAccount, call: Call, *, whole: bool = False) -> None:
        self._row, self._call, self._whole = row, call, whole
        self._run: RunAccount = row.run
        self.reserved = 0
        self._bound: int | None = -1  # -1: not computed yet
        self._extent: Extent | str | None = None
        self._tariff: Tariff | None = None
        # The most tokens it reads and writes, as the request says; 0: not computed.
        self._input = self._output = 0
        self._price_failed = False  # True: the user's own price function raised
        self.sent: int | None = None  # the maximum of tokens that we put into the request
        self.instead: dict[str, Any] | None = None  # the body that asks for the prompt cache
        self.rates: Rates | None = None  # until an answer is priced: the price list is not loaded before

    # -- before it is sent

    @property
    def tariff(self) -> Tariff:
        """What is known about the prices of the model asked; looked up once."""
        if self._tariff is None:
            self._tariff = self._run.pricing.tariff(self._call)
        return self._tariff

    @property
    def most_output(self) -> int | None:
        """Return the most tokens of one answer: as the request says, else as the user says, else the model's most."""
        return self._call.most_output or self._run.max_output_tokens or self.tariff.most_output

    @property
    def extent(self) -> Extent | str:
        """Return the most it can use, or why that is unknown. Only computed if `bound` cannot use the fast path."""
        if self._extent is None:
            self._extent = self._worked_out()
        return self._extent

    def _worked_out(self) -> Extent | str:
        found = extent(self._call, self.tariff, self.most_output)
        if isinstance(found, str):
            return found
        self._input, self._output = found.input_tokens, found.output_tokens
        into = self._run.pricing.stretched(self._call, found.input_tokens)
        return self._writing(found._replace(input_tokens=into), found.output_tokens)

    def _writing(self, extent: Extent, output_tokens: int) -> Extent:
        """Return the extent with this maximum of output, and what this model may write above it."""
        return extent._replace(output_tokens=self._run.pricing.lengthened(self._call, output_tokens))

    @property
    def bound(self) -> int | None:
        """Return the most it can cost; None if that is unknown. It is computed once."""
        return self.work_out() if self._bound == -1 else self._bound

    def work_out(self) -> int | None:
        """Compute `bound` for the first time; take the fast path if the request reads and writes only text."""
        tariff, call, run = self.tariff, self._call, self._run
        if not tariff.dearest:
            self._bound = None
        elif tariff.free:
            self._bound = 0
        elif (
            tariff.text is not None
            and (most := call.most_output or self.most_output)
            and (into := text_input(call)) is not None
        ):
            self._input, self._output = into, most
            if run.pricing.stretches or run.pricing.lengths:
                into, most = run.pricing.stretched(call, into), run.pricing.lengthened(call, most)
            request, per_input, per_output = tariff.text
            self._bound = request + into * per_input + most * per_output
        else:
            self._bound = None if isinstance(self.extent, str) else tariff.bound(self.extent)
        return self._bound

    def why_unbounded(self) -> str:
        """Say why the cost has no bound, and what the user can set so that the budget can be kept."""
        model = self._call.model
        if not self.tariff.dearest:
            return (
                f"no price is known for {model!r}: pass prices={{{model!r}: (in, out)}}, dollars per million tokens "
                f"(--price {model}=IN:OUT)"
            )
        return str(self.extent)

    def ask(self) -> Ask:
        """Return what to ask the ledger for."""
        return Ask(self.bound or 0, self.least, self._run.flow.limit, batched=self._call.batched)

    def least(self) -> int:
        """Return the most it can cost with the smallest useful maximum of tokens."""
        least = self._least_output()
        if least is None or isinstance(self.extent, str):
            return self.bound or 0
        answers = self._call.family.maximum.answers_of(self._call.body)
        return self.tariff.bound(self._writing(self.extent, least * answers))

    def _least_output(self) -> int | None:
        """Return the smallest useful maximum, in tokens of one answer; None if we must not change the maximum."""
        call, run, most = self._call, self._run, self.most_output
        if self._whole or not run.tighten or most is None or not may_be_repeated(call):
            return None
        outputs = run.pricing.outputs(call)
        likely = outputs.likely()
        if likely is None:
            return None
        maximum = call.family.maximum
        thinking = maximum.thinking_of(call.body)
        if thinking or outputs.reasons or call.body.get("thinking"):
            likely = max(likely, thinking) + THOUGHTS
        return min(most, max(likely, maximum.least))

    def granted(self, amount: int) -> None:
        """The ledger reserved this amount: make the request keep within it."""
        self.reserved = amount
        try:
            self._keep_within(amount)
        except BaseException:  # the user's own function of prices
            self.give_back()
            raise

    def _keep_within(self, amount: int) -> None:
        run, call = self._run, self._call
        if amount < (self.bound or 0) and (most := self.most_output) is not None:
            self.sent = self._affordable(amount, most)
        elif run.max_output_tokens and call.most_output is None and not call.signed:
            self.sent = run.max_output_tokens  # the user's own maximum, which the provider must keep too

    def _affordable(self, amount: int, most: int) -> int:
        """Return the largest maximum of one answer whose bound is within the amount."""
        assert not isinstance(self.extent, str)
        extent, answers = self.extent, self._call.family.maximum.answers_of(self._call.body)

        def bound(tokens: int) -> int:
            return self.tariff.bound(self._writing(extent, tokens * answers))

        return max(1, bisect_right(range(1, most + 1), amount, key=bound))

    @property
    def body(self) -> bytes | None:
        """Return the body to send in place of the chain's own body; None to send the chain's own."""
        if self.sent is None:
            return None if self.instead is None else written(self.instead)
        call = self._call
        field = "max_tokens"
        if call.label.partition("/")[0].endswith(_OPENAI):
            field = "max_completion_tokens"
        fields = call.family.maximum.fields
        otherwise = (field,) if (field,) in fields else fields[0]
        return written(call.family.maximum.put(self.instead or call.body, self.sent, otherwise))

    # -- after it was sent

    def cut_by_us(self, answer: Answer) -> bool:
        """Whether this answer was cut only because we sent a smaller maximum than the chain's."""
        if self.sent is None or self.sent == self.most_output or answer.stop != "cut":
            return False
        several = self._call.family.maximum.answers_of(self._call.body) > 1
        return several or answer.usage is None or answer.usage.output_tokens >= self.sent

    def settle(self, answer: Answer | None, *, billed: bool) -> int | None:
        """Book what was used. If it may have been billed but no usage was reported, book the bound as uncertain.

        Return the cost to show in the row's outcome, or None if it is not known.
        """
        answer = None if answer is None else _counted(answer)
        reported, uncertain = 0, self.reserved  # should anything fail, the bound stays booked
        try:
            reported, uncertain = self._used(answer, billed=billed)
        finally:
            self._settle(reported, uncertain)
        if answer is None or (answer.usage is None and not billed):
            return None
        cost, source = self._shown(answer, reported)
        self._row.book(answer.usage, cost, source, answer.model)
        return cost

    def _used(self, answer: Answer | None, *, billed: bool) -> tuple[int, int]:
        """Pico-dollars that the provider reported, and those it may have billed besides."""
        usage = None if answer is None else answer.usage
        if usage is not None:
            reported = self._learn_and_price(usage, answer) or 0
            if not self._price_failed:
                return reported, 0
        return 0, self._uncertain() if billed else 0

    def _settle(self, reported: int, uncertain: int) -> None:
        run, reserved = self._run, self.reserved
        self.reserved = 0
        if run.ledger is not None:
            if run.ledger.settle(reserved, reported, uncertain, run.spending):
                run.alerts.spent_more(run.ledger, run.spending)
        elif reported or uncertain:
            run.spending.book(reported, uncertain)

    def show(self, answer: Answer) -> None:
        """Write an answer that was paid for when its batch was collected into the row's own sums."""
        answer = _counted(answer)
        reported = 0 if answer.usage is None else self._price(answer.usage, answer.model, None) or 0
        cost, source = self._shown(answer, reported)
        self._row.book(answer.usage, cost, source, answer.model)

    def _learn_and_price(self, usage: Usage, answer: Answer | None) -> int | None:
        run, call = self._run, self._call
        if answer is not None and answer.stop is None and not call.streams:
            run.pricing.outputs(call).note(usage.output_tokens, usage.reasoning_tokens)
        if run.ledger is not None and (
            usage.input_tokens > self._input or usage.output_tokens > (self.sent or self._output)
        ):
            self._compare(usage)
        tier = None if answer is None else answer.tier
        return self._price(usage, None if answer is None else answer.model, tier)

    def _price(self, usage: Usage, served: str | None, tier: str | None) -> int | None:
        """Return what it cost; None if no price is known or the user's function fails: the answer is paid anyway."""
        try:
            if tier is not None or self.rates is None:
                known = self.tariff.rates if tier is None else None
                self.rates = known or self._run.pricing.rates(self._call, served, tier)
            return None if self.rates is None else self.rates.cost(usage)
        except Exception as exc:  # noqa: BLE001 - whatever the function raises, the row keeps its answer
            self._note_failed_price(exc)
            return None

    def _note_failed_price(self, exc: Exception) -> None:
        self._price_failed, self.rates = True, None
        self._run.pricing.note_failed(self._call, exc)

    def _compare(self, usage: Usage) -> None:
        """Take note if the provider counted more than the request allowed."""
        if not self._input and isinstance(self.extent, str):
            return
        pricing, call = self._run.pricing, self._call
        answers = call.family.maximum.answers_of(call.body)
        pricing.stretch(call, usage.input_tokens, self._input)
        pricing.lengthen(call, usage.output_tokens, self.sent * answers if self.sent else self._output)

    def _uncertain(self) -> int:
        """Return the most that a request without a reported usage may have cost."""
        if self.reserved:
            return self.reserved
        try:
            bound = self.bound
        except Exception:  # noqa: BLE001 - the user's own function of prices, again
            bound = None
        if bound is None:
            self._run.spending.unbounded += 1
        return bound or 0

    def _shown(self, answer: Answer, reported: int) -> tuple[int | None, CostSource]:
        """Return the cost to show in the row's outcome, and where it comes from."""
        if self.rates is None and not self._price_failed:
            self.rates = self.tariff.rates
        if self.rates is None:
            return None, "reported"
        if answer.usage is not None:
            return reported, "reported"
        try:
            cost = self.rates.cost(estimated(self._call, answer))
        except Exception as exc:  # noqa: BLE001 - as in `_price`
            self._note_failed_price(exc)
            return None, "estimated"
        return cost, "estimated"

    def saved(self, usage: Usage, cost_pico: int | None) -> int:
        """Return what the prompt cache saved: below 0 where writing to it cost more than reading saved."""
        if cost_pico is None or self.rates is None:
            return 0
        try:
            plain = replace(usage, cache_read_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
            return self.rates.cost(plain) - cost_pico
        except Exception as exc:  # noqa: BLE001 - as in `_price`
            self._note_failed_price(exc)
            return 0

    def again(self) -> Reservation | None:
        """Reserve the same for one more copy of this try; None if the copy would have to wait for money."""
        other = Reservation(self._row, self._call, whole=self._whole)
        other.instead = self.instead
        other.sent, other._bound, other._extent = self.sent, self._bound, self._extent
        other._input, other._output = self._input, self._output
        if self.reserved and self._run.ledger is not None:
            granted = self._run.ledger.try_grant(self.reserved, self._row.priority, self._run.spending)
            if isinstance(granted, Grant) or not granted:
                return None
            other.reserved = granted
        return other

    def give_back(self) -> None:
        """Release the reservation, since nothing was sent."""
        if self._run.ledger is not None and self.reserved:
            self._run.ledger.settle(self.reserved, 0, 0, self._run.spending)
            self.reserved = 0


def _counted(answer: Answer) -> Answer:
    """Return the answer, without a usage that is no count: to take that at its word would make the answer free."""
    return answer if answer.usage is None or answer.usage.counted else replace(answer, usage=None)


def estimated(call: Call, answer: Answer) -> Usage:
    """What a request used, by its size and that of its answer, where the provider does not say."""
    written = len(answer.text.encode("utf-8", "surrogatepass"))
    return Usage(len(call.content) // BYTES_PER_TOKEN, -(-written // BYTES_PER_TOKEN))


def may_be_repeated(call: Call) -> bool:
    """Whether we may lower the maximum, and ask again if that cuts the answer.

    We may not if the body is signed, if the provider stores things or acts, or if the answer is shown as it streams.
    """
    body = call.body
    kept = body.get("background") or body.get("store") or reads_elsewhere(call)
    return not (call.signed or call.streams or kept or uses_tools_of_the_provider(call))
