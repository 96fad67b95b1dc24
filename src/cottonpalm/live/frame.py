"""What all views share: the page round them, states with their icons, clock times, where links lead."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from cottonpalm import clock
from cottonpalm.observers.page.document import MADE_HERE
from cottonpalm.observers.page.head import icon
from cottonpalm.observers.page.markup import Markup, foreign, tag
from cottonpalm.observers.page.plots import hatches

if TYPE_CHECKING:
    from cottonpalm.live.reading import Standing
    from cottonpalm.observers.page.markup import Part

VIEWS: Final = {"now": "Now", "rows": "Rows", "report": "Report"}


def place(view: str, run: str | None = None, **more: object) -> str:
    """Where a view is: names are never part of a path."""
    query = {name: value for name, value in {"run": run, **more}.items() if value not in (None, "")}
    return f"/{view}?{urlencode(query)}" if query else f"/{view}"


def state(name: str) -> Markup:
    """An icon with its word."""
    return tag("b", icon(name), "done, some failed" if name == "some failed" else name, class_="state")


def state_of(standing: Standing, ended: str) -> str:
    """The state of a run: what its process follows, or how it ended."""
    if not standing.going:
        return ended
    said = standing.said or {}
    if said.get("stopping") or standing.asked.stop:
        return "stopping"
    return "paused" if said.get("held") or standing.asked.held else "running"


def at(seconds: float | None) -> str:
    """A time of today, or a day before it, on this machine's clock."""
    if seconds is None:
        return ""
    moment, now = (dt.datetime.fromtimestamp(each, dt.UTC).astimezone() for each in (seconds, clock.wall()))
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%-d %b %Y, %H:%M}"


def zone() -> str:
    """The name of this machine's time zone."""
    return f"{dt.datetime.fromtimestamp(clock.wall(), dt.UTC).astimezone():%Z}"


def part(name: str, *inside: Part) -> Markup:
    """A part of a page that the stream replaces."""
    return tag("div", *inside, id=f"part-{name}")


def page(title: str, store: str, *parts: Part, run: str | None = None, view: str = "runs") -> str:
    """The whole page. It loads its styles and its script from here, and nothing from elsewhere."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(MADE_HERE),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/live.css"),
        tag("script", src="/live.js", defer=True),
    )
    where = tag("a", foreign(store, 40), href="/")
    crumbs: Part = where if run is None else tag("span", where, " / ", tag("b", foreign(run, 60)))
    tabs = [_tab(name, said, run, view) for name, said in VIEWS.items()] if run is not None else []
    bar = tag(
        "nav",
        tag("a", "cottonpalm", href="/", class_="home"),
        crumbs,
        tag("span", *tabs, class_="tabs") if tabs else None,
        tag("span", "", id="link", role="status", class_="link"),
        aria_label="cottonpalm",
    )
    body = tag(
        "body",
        hatches(),
        bar,
        tag("main", *parts),
        tag("p", "", id="spoken", class_="unseen", aria_live="polite"),
        data_view=view,
        data_run=run,
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _tab(name: str, said: str, run: str | None, view: str) -> Markup:
    return tag("a", said, href=place(name, run), aria_current="page" if name == view else None)
