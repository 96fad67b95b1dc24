"""Two runs on one page: what is different, in words, in a table and in plots."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.page.compared_plots import rates, within
from cottonpalm.observers.page.document import document
from cottonpalm.observers.page.head import STATES, clock_time, icon
from cottonpalm.observers.page.markup import Markup, foreign, kept, sentence, tag
from cottonpalm.observers.page.over_time import name_of
from cottonpalm.observers.page.parts import Column, none, pairs, section, table
from cottonpalm.observers.page.plots import cell_bar, percent_of
from cottonpalm.observers.words.formatting import clean, count, duration, model_in
from cottonpalm.observers.words.numbers import money_usd, per_second, percent, two

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story

EQUAL: Final = 0.03  # a smaller difference is called none
LEAST: Final = 0.005
MOVED: Final = 0.1  # of the run: a cause whose share moved by so much is named


@dataclass(frozen=True, slots=True)
class Measured:
    """One number of both runs.

    Attributes:
        good: -1 where less is better, 1 where more is, 0 where neither.
    """

    name: str
    a: float | None
    b: float | None
    shown: Callable[[float], str]
    good: int = -1

    @property
    def change(self) -> float | None:
        """Of B against A, as a part of A; None where there is nothing to compare."""
        if self.a is None or self.b is None:
            return None
        if not self.a:
            return None if self.b else 0.0
        return self.b / self.a - 1

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or nothing."""
        change = self.change
        if change is None and self.a == 0 and self.b:
            change = 1.0
        if not self.good or change is None or abs(change) < EQUAL:
            return ""
        return "better" if change * self.good > 0 else "worse"


def compared(a: Story, b: Story) -> list[Measured]:
    """All that is compared."""
    one, other = a.report, b.report
    whole = not (_in_part(a) or _in_part(b))  # else the two did not do the same work in that time
    less = -1 if _as_many(a, b) else 0  # more rows take more, and nothing is better or worse for that
    return [
        Measured("Time", one.wall_s or None, other.wall_s or None, duration, less if whole else 0),
        Measured(
            "Rows a second", one.rows_per_s or None, other.rows_per_s or None, per_second, 1 if whole else 0
        ),
        Measured("Money", a.cost_usd, b.cost_usd, money_usd, less),
        Measured("Money a row", _a_row(a), _a_row(b), money_usd),
        Measured("Failed rows", a.failed, b.failed, _whole, less),
        Measured("A row, p50", *_both(one, other, "p50"), _seconds),
        Measured("A row, p99", *_both(one, other, "p99"), _seconds),
        Measured("First token, p50", *_first(one, other), _seconds),
        Measured("Requests", one.counts.requests, other.counts.requests, _whole, 0),
        Measured("Answers from the cache", one.counts.cached, other.counts.cached, _whole, 0),
    ]


def _in_part(story: Story) -> bool:
    """Whether its report tells of some of its rows alone: it went on, or was killed since that was kept."""
    return story.goes_on or story.untold > 0


def _as_many(a: Story, b: Story) -> bool:
    """Whether both have done about as many rows."""
    rows = a.ok + a.failed, b.ok + b.failed
    return max(rows) - min(rows) <= EQUAL * max(rows)


def _did(story: Story) -> str:
    return f"{story.told:,} of its {count(round(story.ok + story.failed), 'row')}"


def _rows(story: Story) -> str:
    return count(round(story.ok + story.failed), "row")


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{two(value)} s"


def _a_row(story: Story) -> float | None:
    done = story.ok + story.failed
    return story.cost_usd / done if story.cost_usd is not None and done else None


def _both(one: Reported, other: Reported, name: str) -> tuple[float | None, float | None]:
    return tuple(  # type: ignore[return-value]  # of two
        getattr(report.row_latency_s, name) if report.row_latency_s.count else None for report in (one, other)
    )


def _first(one: Reported, other: Reported) -> tuple[float | None, float | None]:
    found = [report.waits_s.get("first") for report in (one, other)]
    a, b = (spread.p50 if spread is not None and spread.count else None for spread in found)
    return a, b


def compare(a: Story, b: Story, *, written: float | None = None) -> str:
    """One self-contained HTML file about two runs."""
    rows = [row for row in compared(a, b) if row.a or row.b]
    names = f"{clean(a.name or 'A', 60)} and {clean(b.name or 'B', 60)}"
    return document(
        f"{names}: two runs",
        _head(a, b),
        _table(rows),
        tag("div", rates(a, b), within(a, b), class_="halves"),
        tag("div", _bound(a, b), _settings(a, b), class_="halves"),
        _foot(a, b, written),
    )


def _stands(story: Story) -> str:
    """What is said behind the name of a run that has not done all its rows."""
    return "" if story.has_read_all else f" ({STATES[story.state].lower()})"


def compared_text(a: Story, b: Story) -> str:
    """The same in short, for a terminal of 80 columns."""
    names = (clean(story.name or "no name", 30) + _stands(story) for story in (a, b))
    lines = [
        "A is {}, B is {}.".format(*names),
        *textwrap.wrap(verdict(a, b), 80),
        *textwrap.wrap(lede(a, b), 80),
        "",
    ]
    lines.append(f"{'':<24}{'A':>18}{'B':>18}{'change':>12}")
    for row in compared(a, b):
        if row.a or row.b:
            one, other = ("not known" if value is None else row.shown(value) for value in (row.a, row.b))
            change = "" if row.change is None else f"{'+' if row.change > 0 else ''}{_signed(row.change)}"
            lines.append(f"{row.name:<24}{one:>18}{other:>18}{change:>12} {row.verdict}".rstrip())
    return "\n".join(lines)


# -- the head


def _head(a: Story, b: Story) -> Markup:
    total = a.total if a.total is not None else a.ok + a.failed
    other = b.total if b.total is not None else b.ok + b.failed
    said = f"Two runs of {count(total, 'row')}"
    if total != other:
        said = f"Two runs, of {total:,} and of {count(other, 'row')}"
    who = tag("div", _who("A", a, "other"), _who("B", b, "line"), class_="two-runs")
    why = lede(a, b)
    return tag(
        "header",
        tag("p", tag("span", said), class_="who"),
        tag("h1", sentence(verdict(a, b))),
        tag("p", sentence(why), class_="lede") if why else None,
        who,
    )


def _who(letter: str, story: Story, class_: str) -> Markup:
    path = tag("svg", tag("path", d="M0 5H22", class_=class_), width="22", height="10", aria_hidden="true")
    parts: list[Part] = [path, tag("b", letter), tag("b", foreign(story.name or "no name", 60))]
    if not story.has_read_all:
        parts.append(tag("b", icon(story.state), STATES[story.state], class_="state"))
    parts += [tag("span", foreign(model_in(model, 60), 60)) for model in story.models[:2]]
    when = clock_time(story.began)
    parts.append(tag("span", f"{when} UTC" if when else ""))
    return tag("p", *parts)


def verdict(a: Story, b: Story) -> str:
    """What became better or worse, in one sentence."""
    by_name = {row.name: row for row in compared(a, b)}
    cost = list(_cost(by_name["Money"]))
    took = _took(by_name["Time"])
    in_part, timed = _in_part(a) or _in_part(b), bool(a.report.wall_s and b.report.wall_s)
    if timed and not in_part and _as_many(a, b):
        said = " and ".join([took, *cost])
    else:
        did = _did if in_part else _rows
        if timed:
            took = (
                f"B took {duration(b.report.wall_s)} for {did(b)}, A {duration(a.report.wall_s)} for {did(a)}"
            )
        said = "; ".join([took, *(f"in all, B {each}" for each in cost)])
    failed = round(b.failed - a.failed)
    if failed:
        said += f"; {count(abs(failed), 'more row' if failed > 0 else 'fewer row')} failed"
    return f"{said}."


def _took(time: Measured) -> str:
    if time.a is None or time.b is None:
        who = "A and B" if time.a is time.b else "A" if time.a is None else "B"
        return f"How long {who} took is not known"
    if time.change is None or abs(time.change) < EQUAL:
        return f"B took about as long as A ({duration(time.b)})"
    return f"B took {duration(time.b)} instead of {duration(time.a)}"


def _cost(money: Measured) -> Iterator[str]:
    if money.a is None or money.b is None or not (money.a or money.b):
        return
    if money.change is not None and abs(money.change) < EQUAL:
        yield f"cost {'about ' if money.a != money.b else ''}the same ({money_usd(money.b)})"
    else:
        word = "more" if money.b > money.a else "less"
        yield f"cost {money_usd(abs(money.b - money.a))} {word}"


def lede(a: Story, b: Story) -> str:
    """What may be behind it."""
    said = []
    if a.goes_on or b.goes_on:
        said.append(
            "Times, rates, requests and what bound are those of each run's latest start; money and rows, of all."
        )
    states = _states(a, b) if a.report.wall_s and b.report.wall_s else ()  # what bound the other is not known
    shares = [(_share(a.report, state), _share(b.report, state), state) for state in states]
    moved = [row for row in shares if abs(row[0] - row[1]) >= MOVED]
    for one, other, state in sorted(moved, key=lambda row: -abs(row[0] - row[1]))[:2]:
        said.append(
            f"{name_of(state, seen=_seen(a, b))} bound {percent(one)} of A and {percent(other)} of B."
        )
    cached = b.report.counts.cached - a.report.counts.cached
    if abs(cached) >= EQUAL * max(1, b.ok):
        who = ("B", "A") if cached > 0 else ("A", "B")
        said.append(f"{who[0]}'s cache answered {count(abs(cached), 'more row')} than {who[1]}'s.")
    return " ".join(said)


# -- the table


def _table(rows: Sequence[Measured]) -> Markup:
    columns = [
        Column(""),
        Column("A", number=True),
        Column("B", number=True, class_="b"),
        Column("less | more", class_="change"),
        Column("change", number=True),
        Column(""),
    ]
    note = f"B against A. The bar is the change in percent; left is less. Below {percent(EQUAL)} it is called equal."
    if not rows:
        return section("What is different", "", none())
    return section("What is different", sentence(note), table(columns, [_line(row) for row in rows]))


def _line(row: Measured) -> list[Part]:
    a, b = ("not known" if value is None else kept(row.shown(value)) for value in (row.a, row.b))
    change, word = row.change, row.verdict
    said = "" if change is None else kept(f"{'+' if change > 0 else ''}{_signed(change)}")
    class_ = {"better": "accent", "worse": "bad"}.get(word, "plain")
    return [
        tag("b", row.name),
        a,
        b,
        _change_bar(change, class_),
        said,
        tag("span", word, class_=word or None),
    ]


def _signed(change: float) -> str:
    return f"-{percent(-change)}" if change < 0 else percent(change)


def _change_bar(change: float | None, class_: str) -> Markup:
    """From a line in the middle, to the left where it is less; a doubling fills it."""
    width = min(1.0, abs(change or 0.0)) / 2
    left = 0.5 - width if (change or 0) < 0 else 0.5
    bar = tag(
        "rect", class_=f"share {class_}", x=percent_of(left), width=percent_of(width), height="6", y="6"
    )
    zero = tag("line", class_="zero", x1="50%", x2="50%", y1="-5", y2="23")
    return tag("svg", bar, zero, width="100%", height="18", aria_hidden="true")


# -- what else differs


def _states(a: Story, b: Story) -> list[str]:
    found = {*a.report.bound_s, *b.report.bound_s}
    ordered = sorted(found, key=lambda state: -max(_share(a.report, state), _share(b.report, state)))
    return [state for state in ordered if max(_share(a.report, state), _share(b.report, state)) >= LEAST]


def _share(report: Reported, state: str) -> float:
    return min(1.0, report.bound_s.get(state, 0.0) / report.wall_s) if report.wall_s else 0.0


def _seen(a: Story, b: Story) -> bool:
    return bool(a.report.by_model or b.report.by_model)


def _bound(a: Story, b: Story) -> Markup:
    columns = [
        Column(""),
        Column("A", number=True),
        Column("", class_="bars"),
        Column("B", number=True),
        Column("", class_="bars"),
    ]
    rows: list[list[Part]] = []
    for state in _states(a, b):
        one, other = _share(a.report, state), _share(b.report, state)
        shown = [kept(percent(one)), cell_bar(one, "plain"), kept(percent(other)), cell_bar(other)]
        rows.append([name_of(state, seen=_seen(a, b)), *shown])
    return section("What bound", "share of each run", table(columns, rows) if rows else none())


def _settings(a: Story, b: Story) -> Markup:
    names = list(dict.fromkeys([*a.settings, *b.settings]))
    differ = [name for name in names if a.settings.get(name) != b.settings.get(name)]
    columns = [Column(""), Column("A"), Column("B")]
    rows: list[list[Part]] = [
        [name, *(foreign(story.settings.get(name, "not set"), 120) for story in (a, b))] for name in differ
    ]
    note = f"{len(differ)} of {len(names)}; the others are equal" if differ else f"{len(names)}, all equal"
    shown = section("Settings that differ", note if names else "", table(columns, rows) if rows else none())
    return tag("div", shown, _changed(a, b))


def _changed(a: Story, b: Story) -> Markup | None:
    """Rows that failed in one and not in the other, where both read the same input."""
    same = a.total is not None and a.total == b.total and a.settings.get("input") == b.settings.get("input")
    if a.rows is None or b.rows is None or not same:
        return None
    one, other = set(a.rows.failed_at), set(b.rows.failed_at)
    rows: list[tuple[str, Part]] = [
        ("failed in A, answered in B", f"{len(one - other):,}"),
        ("answered in A, failed in B", f"{len(other - one):,}"),
        ("failed in both", f"{len(one & other):,}"),
    ]
    return section("Rows that changed", "by their place in the input", pairs(rows))


def _foot(a: Story, b: Story, written: float | None) -> Markup:
    names = " ".join(clean(story.name, 60) for story in (a, b) if story.name)
    when = f" \u00b7 written {clock_time(written)}" if written is not None else ""
    said = f"A difference under {percent(EQUAL)} is called equal. Times are UTC."
    return tag("footer", tag("span", f"cottonpalm report {names}{when}"), tag("span", sentence(said)))
