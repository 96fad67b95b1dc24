"""The live page as an application: what each address answers. Names of runs are never part of a path."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.live import now_view, rows_view, runs_view
from cottonpalm.live.frame import page, place
from cottonpalm.live.reading import SCRAPED_S, STATUSES, Query, Refused
from cottonpalm.live.stories import rows_of, told
from cottonpalm.observers.advice.advice import capital
from cottonpalm.observers.page.document import policy
from cottonpalm.observers.page.markup import Markup, tag
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.words.formatting import clean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from cottonpalm.live.reading import Reading

EVERY_S: Final = 1.0
STREAMS: Final = 64  # at once; a browser opens one a tab
BODY: Final = 4096  # bytes of an order
BODY_S: Final = 10.0  # seconds in which it must have come
LONGEST: Final = 200  # characters that are searched for
CLOSED: Final = "this page ended with its command or program; `cottonpalm dashboard` shows its runs again"
CAPS: Final = range(1, 100_001)


@dataclass(slots=True)
class Live:
    """What the page works with.

    Attributes:
        reading: the store.
        name: how the store is called on the page.
        url: the store's address, for commands.
        over: set when the server ends, so that its streams end too.
        streams: how many are open.
    """

    reading: Reading
    name: str
    url: str
    over: asyncio.Event
    streams: int = 0


def application(live: Live) -> Starlette:
    """The application, without the guard."""
    pages = Pages(live)
    routes = [
        Route("/", pages.runs),
        Route("/now", pages.now),
        Route("/rows", pages.rows),
        Route("/row", pages.row),
        Route("/report", pages.report),
        Route("/stream", pages.stream),
        Route("/metrics", pages.metrics),
        Route("/order", pages.order, methods=["POST"]),
        Route("/live.css", _file("live.css", "text/css", "style.css")),
        Route("/live.js", _file("live.js", "text/javascript", "script.js")),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _problem, StoreError: _problem})


def _file(name: str, type_: str, below: str) -> Callable[[Request], Response]:
    """One of ours, after what the report has too."""

    @cache
    def text() -> str:
        report = (files("cottonpalm.observers.page") / below).read_text("utf-8")
        return report + (files("cottonpalm.live") / name).read_text("utf-8")

    def answer(_: Request) -> Response:
        return Response(text(), media_type=f"{type_}; charset=utf-8")

    return answer


def _problem(request: Request, error: Exception) -> Response:
    said = clean(str(error), 400)
    if request.method == "POST":
        return PlainTextResponse(f"{said}\n", 409)
    status = 404 if isinstance(error, Refused) else 503
    shown = tag("header", tag("h1", "This cannot be shown."), tag("p", f"{capital(said)}.", class_="lede"))
    return HTMLResponse(page("cottonpalm", "all runs", shown, view="trouble"), status)


class Pages:
    """An answer for each address. Those that read the store run on threads, and block nobody."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def runs(self, _: Request) -> Response:
        """All runs."""
        found = self._live.reading.runs()
        shown = runs_view.view(found, self._live.url)
        return HTMLResponse(page(runs_view.title_of(found), self._live.name, *shown))

    def now(self, request: Request) -> Response:
        """One run as it goes."""
        found = self._live.reading.run(_run(request), watch=True)
        shown = now_view.view(found, self._live.url)
        return HTMLResponse(
            page(now_view.title_of(found), self._live.name, *shown, run=found.info.name, view="now")
        )

    def rows(self, request: Request) -> Response:
        """Rows of a run."""
        query = _query(request)
        found = self._live.reading.run(_run(request))
        shown = rows_view.view(found, query, self._live.reading.rows(found.info.name, query))
        title = f"Rows of {clean(found.info.name, 60)}"
        return HTMLResponse(page(title, self._live.name, *shown, run=found.info.name, view="rows"))

    def row(self, request: Request) -> Response:
        """One row: a page of its own, or the part that stands beside the table."""
        found = self._live.reading.run(_run(request))
        at = _number(request, "at")
        row = None if at is None else self._live.reading.row(found.info.name, at)
        if row is None:
            raise Refused("nothing is stored of this row")
        shown = rows_view.row_view(found, row, _query(request), whole="whole" in request.query_params)
        if "part" in request.query_params:
            return HTMLResponse(shown)
        title = f"Row {row.index} of {clean(found.info.name, 60)}"
        return HTMLResponse(page(title, self._live.name, shown, run=found.info.name, view="rows"))

    def report(self, request: Request) -> Response:
        """The report as it would be written now."""
        found = self._live.reading.run(_run(request), watch=True)
        rows = rows_of(self._live.reading.look(found.info.name))
        text = page_of(told(found.info, found.life, rows, self._live.url), written=clock.wall())
        return HTMLResponse(text, headers={"content-security-policy": policy()})

    def metrics(self, _: Request) -> Response:
        """All runs, for Prometheus."""
        try:
            from cottonpalm.live.metrics import TYPE, exposed
        except ImportError:
            return PlainTextResponse(
                "metrics need prometheus_client: pip install 'cottonpalm[metrics]'\n", 404
            )
        return Response(exposed(self._live.reading.runs(SCRAPED_S)), headers={"content-type": TYPE})

    async def order(self, request: Request) -> Response:
        """Pause, resume, cap or cancel."""
        given = await _form(request)
        run, what = given.get("run", ""), given.get("what", "")
        wishes, said = _wishes(what, given)
        await run_in_threadpool(self._live.reading.order, run, **wishes)
        if "text/html" in request.headers.get("accept", ""):  # a form without our script
            return RedirectResponse(place("now", run), 303)
        return PlainTextResponse(f"{said}\n")

    async def stream(self, request: Request) -> Response:
        """Fresh parts once a second, for as long as somebody listens; at the end how all stood."""
        if self._live.streams >= STREAMS:
            return PlainTextResponse("too many live pages are open; close some of them\n", 503)
        run = request.query_params.get("run")
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._events(run), media_type="text/event-stream", headers=headers)

    async def _events(self, run: str | None) -> AsyncIterator[bytes]:
        self._live.streams += 1
        before: dict[str, str] = {}
        try:
            while True:
                over = self._live.over.is_set()
                try:
                    title, parts, said = await run_in_threadpool(self._parts, run)
                except (Refused, StoreError) as error:
                    yield _event("gone", clean(str(error), 200))
                    return
                fresh = {name: html for name, html in parts.items() if before.get(name) != html}
                before.update(fresh)
                if fresh:
                    yield _event(
                        "parts", orjson.dumps({"title": title, "parts": fresh, "said": said}).decode()
                    )
                else:
                    yield _event("same", "")
                if over:
                    yield _event("gone", CLOSED)
                    return
                await _moment(self._live.over)
        finally:
            self._live.streams -= 1

    def _parts(self, run: str | None) -> tuple[str, dict[str, Markup], str]:
        if run is None:
            runs = self._live.reading.runs()
            return runs_view.title_of(runs), runs_view.parts_of(runs, self._live.url), ""
        found = self._live.reading.run(run, watch=True)
        parts = now_view.parts_of(found, self._live.url)
        return now_view.title_of(found), parts, f"{runs_view.counts_of(found)}."


async def _moment(over: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(EVERY_S):
            await over.wait()
    except TimeoutError:
        return


def _event(name: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\n{lines}\n".encode()


def _run(request: Request) -> str:
    return request.query_params.get("run", "")


def _number(request: Request, name: str) -> int | None:
    """A place in the input; None for what is none."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None


def _query(request: Request) -> Query:
    status = request.query_params.get("status", "all")
    text = request.query_params.get("text", "").strip()[:LONGEST]
    known = status if status in STATUSES else "all"
    return Query(known, text, _number(request, "after"), _number(request, "before"))


async def _form(request: Request) -> dict[str, str]:
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY:
                    raise Refused("an order is shorter than that")
    except TimeoutError:
        raise Refused(f"the order did not come whole within {BODY_S:g} s") from None
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _wishes(what: str, given: dict[str, str]) -> tuple[dict[str, Any], str]:
    """What is asked of the run, and what is said to who asked.

    Raises:
        Refused: this cannot be asked.
    """
    if what in ("pause", "resume"):
        held = what == "pause"
        return {"held": held}, "It pauses within a second." if held else "It goes on within a second."
    if what == "cancel":
        return {"stop": True}, "It stops within a second; what is in flight is finished and kept."
    if what != "cap":
        raise Refused("a run can be asked to pause, to resume, to keep to a cap and to stop")
    text = given.get("most", "").strip()
    if not text:
        return {"most": None}, "The cap is lifted within a second."
    if not (text.isascii() and text.isdecimal() and int(text) in CAPS):
        raise Refused(f"a cap is a whole number of rows from 1 to {CAPS[-1]:,}")
    return {"most": int(text)}, f"At most {int(text):,} rows at once, within a second."
