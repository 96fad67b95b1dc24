"""What it cost over time, and where it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.advice.advice import capital
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, tag
from cottonpalm.observers.page.over_time import seen
from cottonpalm.observers.page.parts import Cell, Column, section, table, unfold
from cottonpalm.observers.page.plots import Line, axis, cell_bar, chart
from cottonpalm.observers.words.formatting import count, currency, duration
from cottonpalm.observers.words.numbers import Tick, amount, besides, linear, money_usd, percent, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.page.markup import Part

HEIGHT: Final = 196
FAR: Final = 3.0  # a budget so many times what was spent is named, not drawn
NOT_KNOWN: Final = "not known"


def money(report: Reported) -> Markup | None:
    """The plot and the tables; None where nothing was asked of a model."""
    if not report.by_model and not report.cost_usd:
        return None
    return tag("div", _spent(report), _where(report), class_="halves")


def _spent(report: Reported) -> Markup:
    total = sum(moment.cost_usd for moment in report.over_time)
    if not total:
        return section("Money", "", tag("p", _without_a_course(report), class_="none"))
    # What earlier lives spent is part of the budget, and not of this course: the two are not to be compared.
    note, budget = _note(report), None if report.counts.stored else report.money.budget_usd
    drawn_budget = budget if budget is not None and budget <= FAR * total else None
    top = max(total, drawn_budget or 0.0)
    label = f"Money over {duration(report.wall_s)}: {money_usd(total)} at the end"
    label += f", of a budget of {money_usd(budget)}." if budget is not None else "."
    ceiling = None if drawn_budget is None else (drawn_budget, f"budget {money_usd(drawn_budget)}", "budget")
    sign, rate = currency()
    ticks = [Tick(tick.value / rate, f"{sign}{tick.label}") for tick in linear(top * rate, 4)]
    points = _points(report)
    drawn = chart(
        HEIGHT,
        label,
        [Line(points, "line")],
        top,
        pad=20,
        ticks=ticks,
        ceiling=ceiling,
        over=_end(points, top),
    )
    last = kept(duration(report.wall_s))
    return section(
        "Money",
        note,
        drawn,
        axis(times(report.wall_s, 5), report.wall_s, last),
        unfold(_as_table(report)),
    )


def _note(report: Reported) -> str:
    """What was spent, against what might be."""
    cost_usd, budget = report.cost_usd, report.money.budget_usd
    if cost_usd is None:
        return "What some rows cost is not known."
    if budget is None:
        return f"{money_usd(cost_usd)}{' in this life' if report.counts.stored else ''}, without a budget."
    held = _held(report.money.uncertain_usd)
    if report.counts.stored:
        return f"{money_usd(cost_usd)} in this life{held}; the budget of {money_usd(budget)} counts earlier ones too."
    return f"{money_usd(cost_usd)} of {money_usd(budget)}{held}."


def _held(uncertain_usd: float) -> str:
    """What the budget counts besides what is known."""
    return f", and up to {money_usd(uncertain_usd)} is uncertain" if uncertain_usd else ""


def _without_a_course(report: Reported) -> str:
    if report.cost_usd is None:
        return "What the rows cost is not known."
    return f"{money_usd(report.cost_usd)}; when is not known." if report.cost_usd else "Nothing was spent."


def _points(report: Reported) -> list[tuple[float, float]]:
    points, total = [(0.0, 0.0)], 0.0
    for each in seen(report):
        total += each.moment.cost_usd
        points.append((each.end, total))
    return points


def _end(points: Sequence[tuple[float, float]], top: float) -> Iterator[Part]:
    """A dot where the line ends."""
    y = HEIGHT - points[-1][1] * (HEIGHT - 20) / top
    yield tag("circle", cx="100%", cy=round(y, 1), r="3.5", class_="dot accent", transform="translate(-3.5)")


def _as_table(report: Reported) -> Markup:
    columns = [Column("until"), Column("money", number=True), Column("tokens", number=True)]
    rows: list[list[Part]] = []
    spent, tokens = 0.0, 0
    for each in seen(report):
        spent, tokens = spent + each.moment.cost_usd, tokens + each.moment.tokens
        until = kept(duration(each.moment.at_s + each.width_s))
        rows.append([until, money_usd(spent), f"{tokens:,}"])
    return table(columns, rows)


def _where(report: Reported) -> Markup:
    usage, spent = report.usage, report.money
    note = f"{amount(usage.input_tokens)} tokens in, {amount(usage.output_tokens)} out"
    if report.cost_per_row_usd is not None:
        note = f"{money_usd(report.cost_per_row_usd)} a row; {note}"
    parts: list[tuple[str, float]] = [("Answered rows", spent.ok_usd), ("Failed rows", spent.failed_usd)]
    parts += [("Rows that are left", spent.left_usd)] if spent.left_usd else []
    most = max(*(value for _, value in parts), spent.failed_tries_usd, 1e-15)
    known = report.cost_usd is not None
    rows: list[list[Part | Cell]] = [
        [name, cell_bar(value / most), money_usd(value) if value or known else NOT_KNOWN]
        for name, value in parts
    ]
    whole = money_usd(report.cost_usd) if report.cost_usd is not None else NOT_KNOWN
    if spent.failed_tries_usd:
        bar = cell_bar(spent.failed_tries_usd / most, "plain")
        rows.append(
            [
                tag("span", "of it, tries without an answer", class_="under"),
                bar,
                money_usd(spent.failed_tries_usd),
            ]
        )
    if spent.estimated_usd:
        bar = cell_bar(min(1.0, spent.estimated_usd / most), "plain")
        rows.append(
            [tag("span", "of it, estimated", class_="under"), bar, money_usd(spent.estimated_usd)],
        )
    rows.append(["In this life" if report.counts.stored else "In all", None, whole])
    columns = [Column("for"), Column("", class_="bars"), Column("money", number=True)]
    more = _tokens_kept(report)
    guessed = _estimated(spent.estimated_rows)
    notes = (guessed, _uncertain(report))
    return section(
        "Where it went", f"{note}.", table(columns, rows, last=True), *notes, _models(report), more
    )


def _estimated(rows: int) -> Markup | None:
    if not rows:
        return None
    said = (
        f"{count(rows, 'row')} had answers that did not say what they used: their cost is estimated by the length "
        "of the texts, and their tokens are not counted."
    )
    return tag("p", said, class_="note")


def _uncertain(report: Reported) -> Markup | None:
    if not (uncertain_usd := report.money.uncertain_usd):
        return None
    counted = "" if report.money.budget_usd is None else "; the budget counts it"
    return tag("p", f"{capital(besides(money_usd(uncertain_usd)))}{counted}.", class_="note")


def _tokens_kept(report: Reported) -> Markup | None:
    usage = report.usage
    if not usage.cache_read_tokens or not usage.input_tokens:
        return None
    share = percent(usage.cache_read_tokens / usage.input_tokens)
    return tag(
        "p", f"{kept(share)} of the tokens in were read from the provider's prompt cache.", class_="note"
    )


def _models(report: Reported) -> Markup | None:
    if not report.by_model:
        return None
    columns = [
        Column("model"),
        Column("requests", number=True),
        Column("failed", number=True, class_="wide"),
        Column("tokens in", number=True),
        Column("out", number=True),
        Column("money", number=True),
    ]
    rows: list[list[Part | Cell]] = []
    for name, used in sorted(report.by_model.items(), key=lambda pair: -pair[1].requests):
        host, _, model = name.rpartition("/")
        shown = join((foreign(model or name, 40), tag("small", foreign(host, 40)) if host else None))
        cost = money_usd(used.cost_usd) if used.cost_usd is not None else NOT_KNOWN
        numbers = [
            f"{used.requests:,}",
            f"{used.failed:,}",
            amount(used.input_tokens),
            amount(used.output_tokens),
        ]
        rows.append([shown, *(kept(number) for number in numbers), cost])
    return table(columns, rows, class_="models", caption="Models")
