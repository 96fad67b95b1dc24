"""One run as it goes: how far it is, what binds, what it costs, and the buttons that change it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.live.ending import ending
from cottonpalm.live.frame import at, part, place, state, state_of, zone
from cottonpalm.live.reading import OLD_S
from cottonpalm.live.runs_view import bar, binds_now
from cottonpalm.live.stories import glanced
from cottonpalm.observers.page.head import figures, lede
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, sentence, tag
from cottonpalm.observers.page.money import money
from cottonpalm.observers.page.over_time import over_time
from cottonpalm.observers.page.parts import Cell, Column, none, section, table
from cottonpalm.observers.page.plots import cell_bar
from cottonpalm.observers.page.rows import KINDS
from cottonpalm.observers.words.formatting import clean, count, duration, model_in
from cottonpalm.observers.words.numbers import percent, roughly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.live.ending import Ending
    from cottonpalm.live.reading import Standing
    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story


def title_of(each: Standing) -> str:
    """For the tab of the browser: `51 % tickets`."""
    share, name = _share(each), clean(each.info.name, 60)
    return f"{percent(share)} {name}" if each.going and share is not None else name


def parts_of(each: Standing, url: str) -> dict[str, Markup]:
    """What the stream replaces."""
    story = glanced(each.info, each.life, url)
    name = state_of(each, story.state)
    ends = ending(story.report, each) if name == "running" else None
    return {
        "head": _head(each, story, name, ends),
        "progress": _progress(each, ends),
        "controls": controls(each, name),
        "figures": figures(story),
        "course": over_time(story.report) or Markup(""),
        "money": money(story.report) or Markup(""),
        "aside": join((_kinds(each, story.report), _notes(each))),
    }


def view(each: Standing, url: str) -> list[Markup]:
    """The view when it is opened."""
    shown = parts_of(each, url)
    main = tag("div", part("course", shown["course"]), part("money", shown["money"]), class_="column")
    foot = tag("footer", tag("span", "cottonpalm dashboard"), tag("span", f"Times are {zone()}."))
    return [
        part("head", shown["head"]),
        part("progress", shown["progress"]),
        part("controls", shown["controls"]),
        part("figures", shown["figures"]),
        tag("div", main, part("aside", shown["aside"]), class_="two-columns"),
        foot,
    ]


# -- the head


def _share(each: Standing) -> float | None:
    return (each.ok + each.failed) / each.about if each.about else None


def _head(each: Standing, story: Story, name: str, ends: Ending | None) -> Markup:
    words = (each.info.holder or "").rsplit(" ", 2)
    who = f"process {words[1]} on {words[0]}" if len(words) == 3 else each.info.holder or ""
    parts = [state(name), *(tag("span", each) for each in (_when(story), who) if each)]
    parts += [tag("span", foreign(model_in(model, 60), 60)) for model in story.models[:2]]
    return tag(
        "header",
        tag("p", *parts, class_="who"),
        tag("h1", sentence(verdict(each, story, name, ends))),
        tag("p", sentence(_why(each, story, name)), class_="lede"),
    )


def _when(story: Story) -> str:
    if story.began is None:
        return ""
    began, ended = kept(at(story.began)), kept(at(story.ended))
    return f"since {began}" if story.ended is None else began if began == ended else f"{began} to {ended}"


def verdict(each: Standing, story: Story, name: str, ends: Ending | None) -> str:
    """How far it is, in one sentence, and when it will be ready."""
    done, share = each.ok + each.failed, _share(each)
    if share is not None and share < 1:
        begin = "Half done" if 0.48 <= share <= 0.52 else f"{percent(share)} done"
        said = f"{begin}: {done:,} of {each.of_all} {'row' if each.about == 1 else 'rows'}."
    else:
        said = f"{count(done, 'row')} done."
    if name == "paused":
        return f"Paused. {said}"
    if name == "stopping":
        return f"Stopping. {said}"
    if not each.going:
        return {"stopped": "Stopped. ", "failed": "Failed. "}.get(story.state, "") + said
    return said if ends is None else f"{said} {_when_it_ends(ends)}"


def _when_it_ends(ends: Ending) -> str:
    when = at(clock.wall() + ends.seconds)
    if ends.enough_for is None:
        return f"Ready about {when}."
    return f"The budget is spent about {when}, after about {count(ends.enough_for, 'row')}."


def _why(each: Standing, story: Story, name: str) -> str:
    if not each.going:
        return lede(story)
    if each.said is None:
        return "Its process shows how it stands within a second or two of your looking."
    if each.age_s > OLD_S:
        return _old(each)
    if name == "paused":
        return "No row starts until it is resumed; what is in flight is finished and kept."
    if name == "stopping":
        return "No more rows start; what is in flight is finished and kept. The same command again goes on."
    bound = binds_now(each.said)
    if bound and each.said.get("why"):  # an older process says none
        bound += f" ({each.said['why']})"
    return f"What binds now: {bound}." if bound else "Nothing holds it back just now."


def _old(each: Standing) -> str:
    """Why what its process said is old: a process at which nobody looks says nothing."""
    ago = duration(each.age_s)
    if each.looked_s > OLD_S:
        return f"Its process has said nothing for {ago}; the numbers are as old as that."
    return f"Somebody looked last {ago} ago; how it stands now is here within a second or two."


def _progress(each: Standing, ends: Ending | None) -> Markup:
    said = each.said or {}
    parts: list[tuple[str, str, str]] = [(f"{each.ok:,}", "answered", "")]
    if each.failed:
        parts.append((f"{each.failed:,}", "failed", "worse"))
    if each.going and said:
        parts.append((f"{said['requests']:,}", "in flight", ""))
    if each.about is not None:
        about = "" if each.total is not None else "about "
        parts.append((f"{about}{each.about - each.ok - each.failed:,}", "left", ""))
    spans = [
        tag("span", tag("b", number), f" {word}", class_=class_ or None) for number, word, class_ in parts
    ]
    if ends is not None:
        seconds, least, most = (roughly(value) for value in ends[:3])
        ranged = f"{seconds} left" if least == most else f"{seconds} left, {least} to {most}"
        ranged += "" if ends.enough_for is None else ", then the budget is spent"
        spans.append(tag("span", kept(ranged), class_="end-of-line"))
    done = each.ok + each.failed
    label = f"{done:,} of {each.of_all} rows" if each.about else f"{done:,} rows"
    shown = tag("div", bar(each, 10), role="img", aria_label=label)
    return tag("div", shown, tag("p", *spans, class_="counts"), class_="progress")


# -- the buttons


def controls(each: Standing, name: str) -> Markup:
    """What can be asked of it; each says what happens. A run that takes no orders says why."""
    if not each.going:
        return tag(
            "p", "No process works on this run, so there is nothing to pause or cancel.", class_="note"
        )
    if not each.takes_orders:
        return tag("p", "This kind of store brings no orders to a run.", class_="note")
    if name == "stopping":
        return tag("p", "It was asked to stop.", class_="note")
    run, said = each.info.name, each.said or {}
    flying = (
        f"the {said['requests']:,} in flight are" if said.get("requests", 0) > 1 else "what is in flight is"
    )
    held = name == "paused"
    word, what = ("Resume", "resume") if held else ("Pause", "pause")
    effect = "Resume: rows start again at once." if held else f"Pause: {flying} finished and kept."
    return tag(
        "div",
        _form(run, what, tag("button", word, class_="primary" if held else None, name_="button")),
        _cap(each, run),
        _cancel(each, run, flying),
        tag("span", effect, class_="note"),
        class_="controls",
    )


def _form(run: str, what: str, *inside: Part, class_: str = "") -> Markup:
    hidden = [
        tag("input", type_="hidden", name_=name, value=value)
        for name, value in (("run", run), ("what", what))
    ]
    return tag("form", *hidden, *inside, method="post", action="/order", class_=class_ or None)


def _cap(each: Standing, run: str) -> Markup:
    most = each.asked.most
    own = (each.said or {}).get("cap")
    field = tag(
        "input",
        type_="number",
        name_="most",
        id="most",
        min="1",
        max="100000",
        step="1",
        placeholder="none" if own is None else str(own),
        value=None if most is None else str(most),
        inputmode="numeric",
    )
    label = tag("label", "Cap, rows at once", for_="most")
    return _form(run, "cap", label, field, tag("button", "Set"), class_="joined")


def _cancel(each: Standing, run: str, flying: str) -> Markup:
    left_rows = "" if each.total is None else f" ({count(each.total - each.ok - each.failed, 'row')})"
    said = (
        f"What is done ({count(each.ok + each.failed, 'row')}) stays as it is, {flying} finished and kept, and what is"
        f" left{left_rows} is not asked. The same command again goes on."
    )
    button = tag("button", "Cancel the run", class_="danger", name_="sure")
    asks = tag("div", tag("p", sentence(said)), _form(run, "cancel", button), class_="asks")
    return tag("details", tag("summary", "Cancel\u2026", role="button"), asks, class_="cancel")


# -- beside


def _kinds(each: Standing, report: Reported) -> Markup:
    run = each.info.name
    if not each.failed:
        return section("Failed rows", "", none())
    columns = [Column("kind"), Column("rows", number=True), Column("", class_="bars")]
    found = {kind: sum(types.values()) for kind, types in report.errors.items()}
    most = max(found.values(), default=1)
    rows: list[list[Part | Cell]] = [
        [
            join((tag("code", kind), tag("small", KINDS.get(kind, "")))),
            f"{number:,}",
            cell_bar(number / most, "bad"),
        ]
        for kind, number in sorted(found.items(), key=lambda pair: -pair[1])
    ]
    link = tag("a", "Show them", href=place("rows", run, status="failed"))
    told = sum(found.values())  # by the report, which is of this life, and a moment older than the count
    note = f"{each.failed:,}" + (f", the kind of {told:,} as reported" if told != each.failed else "")
    return section("Failed rows", note, table(columns, rows) if rows else None, link)


def _notes(each: Standing) -> Markup | None:
    notes: Sequence[tuple[float, str]] = (each.said or {}).get("notes", ())
    if not each.going:
        return None
    lines = [
        tag("div", tag("dt", kept(_clock(when))), tag("dd", foreign(said, 90))) for when, said in notes[:10]
    ]
    return section("Events", "", tag("dl", *lines, class_="events") if lines else none())


def _clock(when: Any) -> str:
    return f"{dt.datetime.fromtimestamp(float(when), dt.UTC).astimezone():%H:%M:%S}"
