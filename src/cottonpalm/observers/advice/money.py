"""What would cost less, computed from a report: rules of `advice`. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.advice.advice import Advice, capital, rows_of
from cottonpalm.observers.words.formatting import count
from cottonpalm.observers.words.numbers import money_usd, percent
from cottonpalm.observers.words.prompts import FEW, cacheable, shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.observers.measures.reported import Reported, SizeClass

BATCH_FROM_USD: Final = 1.0  # less is not worth a day's wait
FEW_LONG: Final = 0.1  # of the rows: long rows are those that are few...
MUCH_OF_IT: Final = 0.4  # ...and take so much of the money or the time


def repeats(report: Reported) -> Iterator[Advice]:
    """Rows that a cache would have answered."""
    repeats, cost = report.repeats, report.cost_usd
    if not repeats.rows:
        return
    share = percent(repeats.rows / rows_of(report))
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
            rows_of(report),
            what,
            f"{why}.",
            how,
            exact=repeats.exact,
            then="cache",
        )


def _cached(report: Reported) -> bool:
    return bool(report.counts.cached or report.counts.cache_misses)


def long_rows(report: Reported) -> Iterator[Advice]:
    """A few long rows that take much of the money, or of the time."""
    rows, cost = sum(size.rows for size in report.sizes), report.cost_usd  # those that were asked
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
            f"Rows of {size.tokens:,} tokens and more are {percent(many / rows)} of the rows{_asked(report)}; they take"
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


def _asked(report: Reported) -> str:
    return " that were asked" if report.counts.cached else ""


def _sum(sizes: tuple[SizeClass, ...]) -> tuple[int, float, float]:
    return (
        sum(size.rows for size in sizes),
        sum(size.seconds for size in sizes),
        sum(size.cost_usd for size in sizes),
    )


def thrown_away(report: Reported) -> Iterator[Advice]:
    """Money for tries without an answer."""
    spent = report.money.failed_tries_usd
    if report.cost_usd and spent:
        share = percent(spent / report.cost_usd)
        failed = sum(used.failed for used in report.by_model.values())
        why = f"{count(failed, 'try', 'tries')} that brought no answer cost {money_usd(spent)} ({share} of the money)."
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


def prompts(report: Reported) -> Iterator[Advice]:
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
            why = f"{capital(shared(use))}; the provider caches them only where the request asks for it"
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


def batch(report: Reported) -> Iterator[Advice]:
    """Rows that ran live, and could have gone through the provider's Batch API."""
    batch, cost = report.batch, report.cost_usd
    if cost and batch.rows and batch.saves_usd >= BATCH_FROM_USD:
        share = percent(min(1.0, batch.rows / rows_of(report)))
        why = (
            f"{count(batch.rows, 'row')} ({share}) asked a model whose provider has a Batch API: half the price,"
            " answered within a day."
        )
        what, how = "Send rows through the batch lane.", '`--mode batch`, `mode="batch"`'
        yield Advice("batch lane", "usd", min(batch.saves_usd, cost), cost, what, why, how, then="batch")
