"""What to change before the next run, computed from a report. No clock, no I/O: a report in, sentences out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cottonpalm.observers.advice_words import FACTOR, FAILED, LIMITS, TWICE, WAITS
from cottonpalm.observers.formatting import count, duration
from cottonpalm.observers.numbers import money_usd, percent, roughly
from cottonpalm.observers.prompt_words import FEW, cacheable, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.observers.reported import Reported, SizeClass

WORTH: Final = 0.05  # of the time, the money or the rows: what gains less is not said
BATCH_FROM_USD: Final = 1.0  # less is not worth a day's wait
ROWS: Final = 100  # fewer tell too little
SECONDS: Final = 60.0  # a shorter run need not be faster
MANY_FAILED: Final = 0.01  # of the rows
FEW_LONG: Final = 0.1  # of the rows: long rows are those that are few...
MUCH_OF_IT: Final = 0.4  # ...and take so much of the money or the time

Unit = Literal["s", "usd", "rows"]


class Bars(NamedTuple):
    """What it was, and what it would be, in the unit of the gain."""

    now: float
    then: float
    label: str


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change.

    Attributes:
        topic: a short name that stays the same, for programs.
        gain: seconds, dollars or rows, see `unit`.
        whole: what the gain is a part of: the run's time, its money, its rows.
        what: what to do, as one sentence.
        why: the evidence, with its numbers.
        how: what to type or whom to ask; words in backticks are options.
        exact: counted, not estimated.
        then: the label of what it would be.
    """

    topic: str
    unit: Unit
    gain: float
    whole: float
    what: str
    why: str
    how: str
    exact: bool = False
    then: str = "then"

    @property
    def share(self) -> float:
        """The gain as a part of the whole."""
        return self.gain / self.whole if self.whole else 0.0

    @property
    def bars(self) -> Bars:
        """Now and then, to be drawn."""
        return Bars(self.whole, max(0.0, self.whole - self.gain), self.then)

    def gained(self) -> str:
        """`-34 min`, `-$3.90`, `412 rows`."""
        return f"-{self.amount(self.gain)}" if self.unit != "rows" else self.amount(self.gain)

    def amount(self, value: float) -> str:
        """A value in the unit of the gain, in words."""
        if self.unit == "rows":
            return count(round(value), "row")
        return roughly(value) if self.unit == "s" else money_usd(value)

    def text(self) -> str:
        """All of it in one paragraph."""
        said = "counted" if self.exact else "estimate"
        return f"{self.what} {self.why} ({self.gained()} of {self.amount(self.whole)}, {said}; {self.how})"


def advice_of(report: Reported) -> tuple[Advice, ...]:
    """What is worth changing, the largest gain first; empty where there is nothing to say, see `why_nothing`."""
    if _rows(report) < ROWS:
        return ()
    found = [advice for rule in _RULES for advice in rule(report) if advice.share >= WORTH]
    failed = [advice for advice in _failed_rows(report) if advice.share >= MANY_FAILED]
    return tuple(sorted(found, key=lambda advice: -advice.share) + failed)


def why_nothing(report: Reported) -> str:
    """Why there is no advice, in a sentence."""
    if _rows(report) < ROWS:
        return f"{count(_rows(report), 'row')} of this run: fewer than {ROWS} tell too little."
    if report.wall_s < SECONDS:
        return f"The run took less than {duration(SECONDS)}, and no change would save {percent(WORTH)} of its money."
    return f"No single change would save {percent(WORTH)} of the time or of the money."


def _rows(report: Reported) -> int:
    return report.counts.ok + report.counts.failed


# -- time: what bound the run


def _limits(report: Reported) -> Iterator[Advice]:
    """A limit that bound: what twice as much would bring, as long as nothing else binds sooner."""
    if report.wall_s < SECONDS:
        return
    for state, bound in LIMITS.items():
        seconds = min(report.bound_s.get(state, 0.0), report.wall_s)
        if seconds <= 0:
            continue
        factor, next_bound = _factor(report, state)
        gain = seconds * (1 - 1 / factor)
        share, left = percent(seconds / report.wall_s), roughly(report.wall_s - gain)
        rate = _seen(report, state, bound.quota)
        why = f"{_capital(bound.named)}{rate} bound {share} of the run; twice as much would leave {left}"
        yield Advice(
            f"bound by {state}",
            "s",
            gain,
            report.wall_s,
            bound.what,
            f"{why}{next_bound}.",
            bound.how,
            then=bound.then,
        )


def _factor(report: Reported, state: str) -> tuple[float, str]:
    """How much faster twice the limit can be: no more than the room below the limit in flight allows."""
    if state not in ("tokens", "requests", "pace", "own requests", "own tokens"):
        return FACTOR, ""
    seen = [moment for moment in report.over_time if moment.bound_s.get(state, 0.0) > 0]
    flying = [moment.in_flight for moment in seen if moment.in_flight is not None]
    limits = [moment.limit for moment in seen if moment.limit is not None]
    if not flying or not limits or not sum(flying):
        return FACTOR, ""
    in_flight, limit = sum(flying) / len(flying), sum(limits) / len(limits)
    room = max(1.0, limit / in_flight)
    if room >= FACTOR:
        return FACTOR, f" ({in_flight:,.0f} of {limit:,.0f} were in flight)"
    return room, f", as then the limit of {limit:,.0f} in flight binds"


def _seen(report: Reported, state: str, quota: str) -> str:
    """`, 500,000 tokens a minute,`: what came through while it bound."""
    if not quota:
        return ""
    seconds = amount = 0.0
    for moment, width_s in zip(report.over_time, widths(report), strict=True):
        if moment.bound_s.get(state, 0.0) >= 0.5 * width_s > 0:
            seconds += width_s
            amount += moment.tokens if quota == "tokens" else moment.rows_per_s * width_s
    if seconds < 1 or not amount:
        return ""
    return f" (about {_two_digits(amount / seconds * 60)} {quota} a minute came through)"


def widths(report: Reported) -> list[float]:
    """How many seconds each moment lasts."""
    starts = [moment.at_s for moment in report.over_time]
    ends = [*starts[1:], max(report.wall_s, starts[-1])] if starts else []
    return [end - start for start, end in zip(starts, ends, strict=True)]


def _waits(report: Reported) -> Iterator[Advice]:
    """Time in which everything waited for somebody: at most all of it can be gained."""
    if report.wall_s < SECONDS:
        return
    for state, bound in WAITS.items():
        seconds = min(report.bound_s.get(state, 0.0), report.wall_s)
        if seconds > 0:
            share = percent(seconds / report.wall_s)
            why = f"{_capital(bound.named)} took {duration(seconds)} ({share}) of the run: that much at most."
            yield Advice(
                f"bound by {state}",
                "s",
                seconds,
                report.wall_s,
                bound.what,
                why,
                bound.how,
                then=bound.then,
            )


def _cpu(report: Reported) -> Iterator[Advice]:
    """This process had no time left."""
    seconds = min(report.bound_s.get("cpu", 0.0), report.wall_s)
    if report.wall_s >= SECONDS and seconds > 0:
        gain, share = seconds / 2, percent(seconds / report.wall_s)
        left = roughly(report.wall_s - gain)
        why = f"This machine's CPU was full for {share} of the run; two processes would leave {left}."
        how = "split the input and start two runs on one `--store`: they share the limits"
        yield Advice("bound by cpu", "s", gain, report.wall_s, "Use a second process.", why, how, then=TWICE)


def _tail(report: Reported) -> Iterator[Advice]:
    """At the end only a few long rows were under way."""
    seconds = min(report.bound_s.get("tail", 0.0), report.wall_s)
    gain = seconds - report.row_latency_s.p50
    if report.wall_s >= SECONDS and gain > 0:
        why = (
            f"For the last {duration(seconds)} ({percent(seconds / report.wall_s)} of the run) only its last rows were"
            f" under way; the slowest row took {duration(report.row_latency_s.max)}, the median one"
            f" {duration(report.row_latency_s.p50)}."
        )
        how = "`--priority-field`, or `priorities=`, higher for longer rows"
        yield Advice(
            "long rows last", "s", gain, report.wall_s, "Start long rows first.", why, how, then="at best"
        )


# -- money


def _repeats(report: Reported) -> Iterator[Advice]:
    """Rows that a cache would have answered."""
    repeats, cost = report.repeats, report.cost_usd
    if not repeats.rows:
        return
    share = percent(repeats.rows / _rows(report))
    what = "Turn the cache on." if not _cached(report) else "Let the cache hold more answers."
    how = "`--cache`" if not _cached(report) else "a higher `Cache(max_entries=…)`"
    why = f"{count(repeats.rows, 'row')} ({share}) asked what another row had asked already"
    if cost and repeats.cost_usd:
        why += f": their answers cost {money_usd(repeats.cost_usd)}."
        yield Advice(
            "repeats", "usd", repeats.cost_usd, cost, what, why, how, exact=repeats.exact, then="cache"
        )
    else:
        yield Advice(
            "repeats",
            "rows",
            repeats.rows,
            _rows(report),
            what,
            f"{why}.",
            how,
            exact=repeats.exact,
            then="cache",
        )


def _cached(report: Reported) -> bool:
    return bool(report.counts.cached or report.counts.cache_misses)


def _long_rows(report: Reported) -> Iterator[Advice]:
    """A few long rows that take much of the money, or of the time."""
    rows, cost = _rows(report), report.cost_usd
    seconds = sum(size.seconds for size in report.sizes)
    for at, size in enumerate(report.sizes):
        over = report.sizes[at:]
        many, used_s, used = _sum(over)
        if not rows or many / rows > FEW_LONG or not size.tokens or not many:
            continue
        of_money, of_time = used / cost if cost else 0.0, used_s / seconds if seconds else 0.0
        if max(of_money, of_time) < MUCH_OF_IT or not cost:
            return
        # A row at the border costs what its class does at least: what is above it is the gain.
        gain = sum(each.cost_usd * (1 - size.tokens / (1.5 * each.tokens)) for each in over)
        why = (
            f"Rows of {size.tokens:,} tokens and more are {percent(many / rows)} of the rows; they take"
            f" {percent(of_time)} of the rows' time and {percent(of_money)} of the money. With {size.tokens:,} tokens"
            f" each, they would cost {money_usd(used - gain)} instead of {money_usd(used)}."
        )
        yield Advice(
            "long rows",
            "usd",
            gain,
            cost,
            "Shorten the longest rows.",
            why,
            "cut or split their input before the chain",
            then="cut",
        )
        return


def _sum(sizes: tuple[SizeClass, ...]) -> tuple[int, float, float]:
    return (
        sum(size.rows for size in sizes),
        sum(size.seconds for size in sizes),
        sum(size.cost_usd for size in sizes),
    )


def _thrown_away(report: Reported) -> Iterator[Advice]:
    """Money for tries without an answer."""
    spent = report.money.failed_tries_usd
    if report.cost_usd and spent:
        share = percent(spent / report.cost_usd)
        failed = sum(used.failed for used in report.by_model.values())
        why = f"{count(failed, 'try')} that brought no answer cost {money_usd(spent)} ({share} of the money)."
        why = why.replace("trys", "tries")
        yield Advice(
            "failed tries",
            "usd",
            spent,
            report.cost_usd,
            "Look at the tries that failed.",
            why,
            "a longer `--timeout`, if they ran out of time",
            then="without",
        )


def _prompts(report: Reported) -> Iterator[Advice]:
    """What a provider's prompt cache would save, if it were asked, or could be used."""
    cost = report.cost_usd
    for label, use in report.prompts.items():
        requests = report.by_model[label].requests if label in report.by_model else 0
        if not cost or not use.input_usd or use.looked < FEW or not requests:
            continue
        saves = requests * use.input_usd * (1 - use.read_rate)
        tokens = cacheable(use)
        if use.asked != "itself" and not use.on and tokens:
            gain = saves * tokens - use.saved_usd
            why = f"{_capital(shared(use))}; the provider caches them only where the request asks for it"
            why += f", and billed {use.written:,} tokens as written" if use.written else ""
            yield Advice(
                "prompt cache",
                "usd",
                min(gain, cost),
                cost,
                "Ask for the prompt cache.",
                f"{why}.",
                '`--prompt-cache on`, `prompt_cache="on"`',
                then="cached",
            )
        elif use.minimum and use.later >= max(use.minimum, 2 * use.shared, 2 * use.again):
            why = (
                f"Of {use.prompt:,} input tokens, {use.later:,} are the same, but they come after something that"
                " differs from row to row, and a provider caches only what is the same from the start."
            )
            yield Advice(
                "prompt order",
                "usd",
                min(saves * use.later, cost),
                cost,
                "Put what is the same in every row first.",
                why,
                "move what differs, such as an id or a date, to the end of the prompt",
                then="cached",
            )


def _batch(report: Reported) -> Iterator[Advice]:
    """Rows that ran live, and could have gone through the provider's Batch API."""
    batch, cost = report.batch, report.cost_usd
    if cost and batch.rows and batch.saves_usd >= BATCH_FROM_USD:
        share = percent(min(1.0, batch.rows / _rows(report)))
        why = (
            f"{count(batch.rows, 'row')} ({share}) asked a model whose provider has a Batch API: half the price,"
            " answered within a day."
        )
        what, how = "Send rows through the batch lane.", '`--mode batch`, `mode="batch"`'
        yield Advice("batch lane", "usd", min(batch.saves_usd, cost), cost, what, why, how, then="batch")


# -- rows


def _failed_rows(report: Reported) -> Iterator[Advice]:
    """Rows that failed, by what would help them; the largest kind first."""
    rows = _rows(report)
    kinds = {kind: sum(types.values()) for kind, types in report.errors.items()}
    for kind, number in sorted(kinds.items(), key=lambda pair: -pair[1]):
        if kind in FAILED:
            what, how_so, how = FAILED[kind]
            why = f"{count(number, 'row')} of {rows:,} ({percent(number / rows)}) {how_so}."
            yield Advice(f"failed: {kind}", "rows", number, rows, what, why, how, exact=True, then="still ok")


_RULES: Final[tuple[Callable[[Reported], Iterator[Advice]], ...]] = (
    _limits,
    _waits,
    _cpu,
    _tail,
    _repeats,
    _long_rows,
    _thrown_away,
    _prompts,
    _batch,
)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _two_digits(value: float) -> str:
    """`500,000`, `740`: two digits that count."""
    digits = max(0, len(str(int(value))) - 2)
    return f"{round(value / 10**digits) * 10**digits:,.0f}"
