"""The top of the page: the verdict as a sentence, six figures, and what to change."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.advice.rules import advice_of, why_nothing
from cottonpalm.observers.measures.rates import rates, window_s
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, sentence, tag, words
from cottonpalm.observers.page.parts import section
from cottonpalm.observers.page.plots import percent_of, share_bar
from cottonpalm.observers.page.rows import KINDS
from cottonpalm.observers.page.spread import FEW
from cottonpalm.observers.words.formatting import count, duration, model_in, rate
from cottonpalm.observers.words.numbers import money_usd, percent, two

if TYPE_CHECKING:
    from cottonpalm.observers.advice.advice import Advice
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story

CARDS: Final = 3
LONG: Final = 7  # characters of a figure: more do not fit at its full size
STATES: Final = {
    "running": "Running",
    "done": "Done",
    "some failed": "Done, with failed rows",
    "stopped": "Stopped",
    "failed": "Failed",
}
_ICONS: Final = {
    "running": "M4 2.5v7l6 -3.5Z",
    "paused": "M2.5 2h2.5v8h-2.5ZM7 2h2.5v8h-2.5Z",
    "stopping": "M2.5 2.5h7v7h-7Z",
    "done": "M2 6.5l3 3 5.5 -7",
    "ok": "M2 6.5l3 3 5.5 -7",
    "some failed": "M6 1a5 5 0 0 1 0 10Z",
    "stopped": "M2.5 2.5h7v7h-7Z",
    "failed": "M2.5 2.5l7 7M9.5 2.5l-7 7",
}


def clock_time(seconds: float | None) -> str:
    """A moment as a day and a time, in UTC, as pages are read elsewhere and later."""
    return "" if seconds is None else f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%-d %b %Y, %H:%M}"


def icon(state: str) -> Markup:
    """What stands before the word for a state."""
    return tag(
        "svg",
        tag("circle", cx="6", cy="6", r="5", class_="ring") if state == "some failed" else None,
        tag("path", d=_ICONS[state], class_="open" if state in ("done", "failed", "ok") else "full"),
        width="12",
        height="12",
        viewBox="0 0 12 12",
        aria_hidden="true",
    )


def head(story: Story, data: str | None = None) -> Markup:
    """Who, when, the verdict and why."""
    parts: list[Part] = [tag("b", icon(story.state), STATES[story.state], class_="state")]
    if story.name:
        parts.append(tag("span", "run ", tag("b", foreign(story.name, 60))))
    parts += [tag("span", foreign(model_in(model, 60), 60)) for model in story.models[:2]]
    if story.began is not None:
        parts.append(tag("span", _when(story.began, story.ended)))
    if data is not None:
        name = "".join(char if char.isalnum() or char in "-_." else "-" for char in story.name or "run")
        parts.append(tag("a", "Data (JSON)", href=data, download=f"{name[:60]}.json", class_="tool"))
    return tag(
        "header",
        tag("p", *parts, class_="who"),
        tag("h1", verdict(story)),
        tag("p", lede(story), class_="lede") if lede(story) else None,
    )


def _when(began: float, ended: float | None) -> str:
    set_back = ended is not None and ended < began  # the clock was
    if ended is None or set_back or clock_time(began) == clock_time(ended):
        return f"{clock_time(began)} UTC"
    day = clock_time(ended).split(", ")
    end = day[1] if clock_time(began).startswith(day[0] + ",") else clock_time(ended)
    return f"{clock_time(began)} to {end} UTC"


def verdict(story: Story) -> str:
    """How it went, in one sentence."""
    if not story.all_rows and story.state == "done":
        return "There were no rows."
    done = f"{_of_all(story, story.ok)} answered"
    priced = story.cost_usd if story.known or story.done else None
    money = "" if priced is None else f" for {kept(money_usd(priced))}"
    if story.before:  # what those cost is not known either
        done, money = f"{_of_all(story, story.done)} done", ""
    whole = story.known and not story.goes_on and not story.untold
    took = f" in {kept(duration(story.report.wall_s))}" if whole else ""
    failed = f"; {story.failed:,} failed" if story.failed else ""
    begins = {"stopped": "Stopped: ", "failed": "Failed: ", "running": "So far "}.get(story.state, "")
    return f"{begins}{done}{took}{money}{failed}."


def _of_all(story: Story, rows: int) -> str:
    """`12 of 40 rows`, `12 of about 40 rows`; `12 rows` where nobody knows of how many."""
    if (total := story.all_rows) is None:
        return count(rows, "row")
    return f"{rows:,} of {'about ' if story.is_guess else ''}{count(total, 'row')}"


def lede(story: Story) -> str:
    """Why it took so long, or why it stopped."""
    parts = [story.reason] if story.reason else []
    if story.known and (part := _in_part(story)):
        parts.append(part)
    return sentence(" ".join([*parts, *story.report.bound_by]))


def _in_part(story: Story) -> str:
    """Of how many rows the report tells, and in what time; "" where that is all of them."""
    rows, took = count(story.told, "row"), kept(duration(story.report.wall_s))
    untold = f" The report that was kept does not tell of {story.untold:,} more." if story.untold else ""
    if story.goes_on:
        return f"{rows} in this life of the run, in {took}; {story.report.counts.stored:,} were done before.{untold}"
    return f"{rows} in {took}.{untold}" if untold else ""


def figures(story: Story) -> Markup:
    """Six numbers, each with what it is to be held against."""
    return tag(
        "div",
        _answered(story),
        _failed(story),
        _time(story),
        _rate(story),
        _money(story),
        _median(story),
        class_="figures",
    )


def _figure(name: str, value: Part, bar: Part, note: Part) -> Markup:
    if type(value) is str and len(value) > LONG:
        value = tag("span", value, class_="long")
    return tag("div", tag("p", name), tag("p", value, class_="value"), bar, tag("p", note, class_="note"))


def _units(said: str) -> Markup:
    """A quantity with its units small: `1 h 20 min`, `10.0/s`."""
    parts: list[Part] = []
    for part in said.replace("/", " /").split():
        small = not part[0].isdigit() and not part.startswith("$")
        parts.append(tag("small", part) if small else f"\u2009{part}" if parts else part)
    return join(parts)


def _answered(story: Story) -> Markup:
    name, rows = ("Done", story.done) if story.before else ("Answered", story.ok)
    if (total := story.all_rows) is None:
        return _figure(name, f"{rows:,}", share_bar(0.0), "of how many is not known")
    share = rows / total if total else 0.0
    note = f"{kept(percent(share))} of {'about ' if story.is_guess else ''}{total:,}"
    return _figure(name, f"{rows:,}", share_bar(share, "accent"), note)


def _failed(story: Story) -> Markup:
    done = story.ok + story.failed
    share = story.failed / done if done else 0.0
    note: Part = f"{kept(percent(share))} of {done:,}"
    kinds = (
        {kind: seen.rows for kind, seen in story.rows.kinds.items()}
        if story.rows is not None
        else {kind: sum(types.values()) for kind, types in story.report.errors.items()}
    )
    if kinds:
        kind = max(kinds, key=kinds.__getitem__)
        note = join((f"{kept(percent(share))}, {kinds[kind]:,} of them ", tag("code", kind), _meant(kind)))
    return _figure("Failed", f"{story.failed:,}", share_bar(share, "bad"), note)


def _meant(kind: str) -> str:
    """What a kind of failure means, in brackets; nothing of one that a later version has made."""
    return f" ({KINDS[kind]})" if kind in KINDS else ""


def _time(story: Story) -> Markup:
    wall, active = story.report.wall_s, story.report.active_s
    if not story.known:
        return _figure("Time", tag("small", "not known"), share_bar(0.0), "its course was not kept")
    note = f"{kept(duration(active))} of it active" if wall - active >= 1 else "all of it active"
    if story.untold:
        note = f"for {story.told:,} of {count(story.ok + story.failed, 'row')}"
    return _figure("Time", _units(duration(wall)), share_bar(active / wall if wall else 0.0, "ink"), note)


def _nothing(story: Story) -> tuple[Part, Part, Part]:
    """Of a row, where none was asked, or where it is not known."""
    said, note = ("none", "no row was asked") if story.known else ("not known", "its course was not kept")
    return tag("small", said), share_bar(0.0), note


def _rate(story: Story) -> Markup:
    mean = story.report.rows_per_s
    if not mean:
        return _figure("Rate", *_nothing(story))
    if window_s(story.report) is None:
        return _figure("Rate", _units(rate(mean)), share_bar(0.0), "on average")
    most = max(rates(story.report), default=mean)
    note = f"{kept(rate(most))} at most"
    return _figure("Rate", _units(rate(mean)), share_bar(mean / max(mean, most), "ink", 1.0), note)


def _money(story: Story) -> Markup:
    cost, budget = story.cost_usd, story.report.money.budget_usd
    done = story.ok + story.failed
    if not story.known and not done:
        return _figure("Money", *_nothing(story))
    if not cost and not story.asked_models:
        return _figure("Money", tag("small", "none"), share_bar(0.0), "no model was seen")
    if cost is None:
        return _figure("Money", tag("small", "not known"), share_bar(0.0), "no price for some rows")
    if budget:
        note = f"{kept(percent(cost / budget))} of {money_usd(budget)}"
        if held := story.report.money.uncertain_usd:
            note += f"; {kept(percent(held / budget))} is uncertain"
        return _figure("Money", money_usd(cost), share_bar(cost / budget, "accent", 1.0), note)
    note = f"{money_usd(cost / done)} a row" if done else "nothing was asked"
    return _figure("Money", money_usd(cost), share_bar(1.0 if cost else 0.0, "accent"), note)


def _median(story: Story) -> Markup:
    spread = story.report.row_latency_s
    if not spread.count:
        return _figure("One row", *_nothing(story))
    if spread.count < FEW:
        note = f"{kept(two(spread.mean) + ' s')} on average"
        return _figure("One row, at most", _units(two(spread.max) + " s"), share_bar(0.0), note)
    note = f"{kept('99 %')} took {kept(two(spread.p99) + ' s')} or less"
    bar = share_bar(spread.p50 / spread.p99 if spread.p99 else 0.0, "ink", 1.0)
    return _figure("One row, median", _units(two(spread.p50) + " s"), bar, note)


def advice(story: Story) -> Markup:
    """At most three cards, the rest to be unfolded; why there is none where there is none."""
    found = advice_of(story.report)
    if not found:
        told = ("Nothing. ", why_nothing(story.report))
        if not story.known:
            only = ", only its rows" if story.done else ""
            told = ("Not known. ", f"The course of this run was not kept{only}.")
        said = tag("p", tag("b", told[0]), sentence(told[1]), class_="nothing")
        return section("What to change", "Computed from this run.", said)
    note = "Computed from this run." + (" Gains do not add up." if len(found) > 1 else "")
    cards = [_card(each) for each in found]
    more = None
    if len(cards) > CARDS:
        rest = tag("div", *cards[CARDS:], class_="cards")
        more = tag("details", tag("summary", f"{len(cards) - CARDS} more"), rest)
    return section("What to change", note, tag("div", *cards[:CARDS], class_="cards"), more)


def _card(each: Advice) -> Markup:
    how = join(("Counted. " if each.exact else "Estimate. ", "How: ", words(each.how), "."))
    gain = kept(each.gained()).replace("\u2212\u2212", "\u2212")
    return tag(
        "article",
        tag("p", tag("b", gain), f" of {kept(each.amount(each.whole))}", class_="gain"),
        tag("p", tag("b", each.what), " ", sentence(each.why), class_="advice"),
        _bars(each) if each.unit != "rows" else None,
        tag("p", how, class_="how"),
        class_="card",
    )


def _bars(each: Advice) -> Markup:
    now, then, label = each.bars
    rows = [("now", now, "plain"), (label, then, "accent")]
    parts: list[Part] = []
    for name, value, class_ in rows:
        width = percent_of(value / now if now else 0.0)
        bar = tag("rect", class_=f"share {class_}", width=width, height="7", y="2")
        parts.append(tag("span", name))
        parts.append(tag("svg", bar, width="100%", height="11", aria_hidden="true"))
        parts.append(tag("span", kept(each.amount(value))))
    return tag("div", *parts, class_="now-then")
