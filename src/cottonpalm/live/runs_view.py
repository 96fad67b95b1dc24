"""All runs of the store, grouped by what can be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.live.ending import ending
from cottonpalm.live.frame import at, part, place, state, state_of, zone
from cottonpalm.live.stories import glanced
from cottonpalm.observers.measures.rates import window_s
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, sentence, tag
from cottonpalm.observers.page.over_time import lanes, name_of, seen, to_edges
from cottonpalm.observers.page.parts import Column, section, table
from cottonpalm.observers.page.plots import X, inner, percent_of, plot
from cottonpalm.observers.words.formatting import binds, count, model_in
from cottonpalm.observers.words.numbers import money_usd
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cottonpalm.live.reading import Standing
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story

MOST: Final = 100  # runs on the page
SPARK: Final = 26
_GROUPS: Final = {
    "Going": ("running", "paused", "stopping"),
    "Stopped, can go on": ("stopped", "failed"),
    "Ended": ("done", "some failed"),
}
_WHY: Final = {
    "Going": "what binds",
    "Stopped, can go on": "why it stopped",
    "Ended": "what bound it most",
}


def parts_of(standings: Sequence[Standing], url: str) -> dict[str, Markup]:
    """What the stream replaces."""
    told = [(each, glanced(each.info, each.life, url)) for each in standings]
    by_state = [(state_of(each, story.state), each, story) for each, story in told]
    shown = by_state[:MOST]
    groups = [
        _group(title, [(each, story, name) for name, each, story in shown if name in names])
        for title, names in _GROUPS.items()
    ]
    left = len(by_state) - len(shown)
    more = tag("p", f"{count(left, 'older run')} not shown; `cottonpalm status` lists all.", class_="note")
    return {"head": _head(by_state), "runs": join([*groups, more if left else None])}


def title_of(standings: Sequence[Standing]) -> str:
    """For the tab of the browser."""
    going = sum(each.going for each in standings)
    return f"{count(going, 'run')} going" if going else "Runs"


def view(standings: Sequence[Standing], url: str) -> list[Markup]:
    """The view when it is opened."""
    shown = parts_of(standings, url)
    foot = tag("footer", tag("span", "cottonpalm dashboard"), tag("span", f"Times are {zone()}."))
    return [part("head", shown["head"]), part("runs", shown["runs"]), foot]


def _head(by_state: Sequence[tuple[str, Standing, Story]]) -> Markup:
    going = sum(each.going for _, each, _ in by_state)
    stopped = sum(name in _GROUPS["Stopped, can go on"] for name, _, _ in by_state)
    said = "No run yet." if not by_state else f"{count(going, 'run')} {'is' if going == 1 else 'are'} going"
    if not going and by_state:
        said = "No run is going"
    if by_state:
        said += f"; {stopped} stopped and can go on." if stopped else "."
    cost = sum(each.info.cost_pico for _, each, _ in by_state) / PICO
    lede = (
        f"{money_usd(cost)} spent over {count(len(by_state), 'run')} in this store."
        if by_state
        else ("A run appears here as soon as it begins.")
    )
    return tag("header", tag("h1", sentence(said)), tag("p", sentence(lede), class_="lede"))


def _group(title: str, runs: Sequence[tuple[Standing, Story, str]]) -> Markup | None:
    if not runs:
        return None
    note = "the same command again asks only what is left" if title.startswith("Stopped") else ""
    columns = [
        Column("state"),
        Column("run"),
        Column("rows", class_="progress-cell"),
        Column("rows a second", class_="wide spark-cell"),
        Column(_WHY[title], class_="odd"),
        Column("money", number=True),
        Column("ready" if title == "Going" else "end", number=True, class_="odd"),
    ]
    return section(title, note, table(columns, [_line(*each) for each in runs], class_="runs"))


def _line(each: Standing, story: Story, name: str) -> list[Part]:
    info = each.info
    models = ", ".join(model_in(model, 40) for model in story.models[:2])
    link = tag("a", foreign(info.name, 60), href=place("now", info.name))
    budget = story.report.money.budget_usd
    unknown = "not known" if story.asked_models else "none"
    cost = unknown if story.cost_usd is None else money_usd(story.cost_usd)
    money = join((cost, tag("small", f"of {money_usd(budget)}") if budget else None))
    end = _end(each, story, name)
    return [
        state(name),
        join((link, tag("small", models) if models else None)),
        join((bar(each), tag("small", counts_of(each)))),
        spark(story, going=each.going),
        _why(each, story, name),
        money,
        end,
    ]


def bar(each: Standing, height: int = 6) -> Markup:
    """Answered, failed, and what is left."""
    total = each.about or (0 if each.going else each.ok + each.failed)  # how far it is may not be known
    ok, failed = (each.ok / total, each.failed / total) if total else (0.0, 0.0)
    rects: list[Part] = [tag("rect", class_="track", width="100%", height=height)]
    rects.append(tag("rect", class_="share", width=percent_of(min(1.0, ok)), height=height))
    if failed:
        rects.append(
            tag(
                "rect",
                class_="share bad",
                x=percent_of(min(0.995, ok)),
                width=percent_of(max(0.005, failed)),
                height=height,
            )
        )
    return tag("svg", *rects, class_="bar", width="100%", height=height + 4, aria_hidden="true")


def counts_of(each: Standing) -> str:
    """`61,240 of 120,000, 37 failed`."""
    done = each.ok + each.failed
    said = f"{done:,} of {each.of_all}" if each.about not in (None, done) else f"{done:,}"
    return f"{said}, {each.failed:,} failed" if each.failed else said


def spark(story: Story, *, going: bool) -> Part:
    """The course of the rate, without numbers."""
    moments = seen(story.report)
    most = max((each.rows_per_s for each in moments), default=0.0)
    if len(moments) < 2 or not most or window_s(story.report) is None:
        return ""
    course = to_edges([(each.middle, each.rows_per_s) for each in moments])
    points = [(X * x, SPARK - 1 - (SPARK - 3) * value / most) for x, value in course]
    line = "M" + "L".join(f"{x:.0f} {y:.1f}" for x, y in points)
    area = f"{line}L{points[-1][0]:.0f} {SPARK}L{points[0][0]:.0f} {SPARK}Z"
    quiet = "" if going else " quiet"
    paths = (tag("path", d=area, class_=f"line area{quiet}"), tag("path", d=line, class_=f"line{quiet}"))
    return plot(SPARK, f"Rows a second, at most {most:.1f}.", inner(SPARK, *paths), class_="spark")


def _why(each: Standing, story: Story, name: str) -> Part:
    if each.going:
        return binds_now(each.said) or ("paused" if name == "paused" else "")
    if story.reason:
        return tag("span", story.reason, class_="worse" if name == "failed" else None)
    found = lanes(story.report)
    return name_of(found[0][0], seen=bool(story.report.by_model)) if found else ""


def binds_now(said: Mapping[str, Any] | None) -> str:
    """What keeps it from being faster, as its process says."""
    if said is None:
        return ""
    return binds(
        said["binding"], said["pause_s"], said["silent_s"], said["trouble"], seen=said.get("key") != ""
    )


def _end(each: Standing, story: Story, name: str) -> Part:
    if not each.going:
        return kept(at(story.ended)) if story.ended else ""
    ends = ending(story.report, each) if name == "running" else None
    if ends is None:
        return ""
    when = kept(f"about {at(clock.wall() + ends.seconds)}")
    return when if ends.enough_for is None else join((when, tag("small", "the budget is spent then")))
