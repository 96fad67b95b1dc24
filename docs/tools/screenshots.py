"""Pictures of the report and of the live page, for the docs. Needs Chromium and playwright.

`python -m docs.tools.screenshots [report] [live]`: both unless said. The runs are real, with a real model class over a
scripted transport: those of the report on a virtual clock, some twenty minutes in as many seconds, those of the live
page on the real one. Nothing in the pictures is made up.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import httpx2
from docs.tools.reference import ROOT
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from rich.console import Console

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Cache, Limits, RunStopped, clock
from cottonpalm.observers.page.compare import compare
from cottonpalm.observers.page.of_outcomes import rows_seen
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.page.story import Story
from cottonpalm.observers.terminal.progress import Progress
from cottonpalm.testing import FlakyTransport, Flaw, virtual_run

if TYPE_CHECKING:
    from cottonpalm import Run

FOLDER: Final = ROOT / "docs" / "images"
ROWS: Final = 2400
ROWS_VIEW: Final = "rows?run=tickets-november&status=failed"
BEGAN: Final = 1_795_698_120.0
REVIEWS: Final = (
    "The screen is bright and the battery lasts two days; I would buy it again at once.",
    "It stopped working after a week, and nobody answers the telephone.",
    "Does what it says. The box was damaged, the thing itself was not.",
    "برنامج رائع لكن البطارية ضعيفة",
    '=HYPERLINK("http://example.com") is what the label says, and it is wrong.',
    "I wanted to like it. The left button needs a second press every other time.",
)
FONTS: Final = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)  # rich names fonts of another server
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)


class Provider(FlakyTransport):
    """Takes so many tokens a minute and says in its headers what is left; is down for a while; refuses some rows."""

    def __init__(self, tokens_per_minute: int) -> None:
        super().__init__(then=self._says)
        self._rng, self._per_s = Random(1), tokens_per_minute / 60  # noqa: S311 - a simulation
        self._most = self._left = tokens_per_minute / 20
        self._at = 0.0

    async def handle_async_request(self, request: Any) -> Any:
        answer = await super().handle_async_request(request)
        await asyncio.sleep(self._rng.lognormvariate(0.6, 0.5) if answer.status_code == 200 else 0.1)
        return answer

    def _says(self, request: Any) -> Any:
        now, text = clock.now(), json.loads(request.content)["messages"][-1]["content"]
        if 130 <= now < 155:
            return Flaw.DROP
        if "number 77" in text:
            return 400 if self._rng.random() < 0.3 else 500
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._per_s), now
        tokens = len(request.content) // 4 + 20
        if self._left < tokens:
            return (429, {"retry-after-ms": str(int(1000 * (tokens - self._left) / self._per_s) + 50)})
        self._left -= tokens
        return (200, self._headers())

    def _headers(self) -> dict[str, str]:
        reset_s = (self._most - self._left) / self._per_s
        return {
            "x-ratelimit-limit-tokens": str(int(self._per_s * 60)),
            "x-ratelimit-remaining-tokens": str(int(self._left)),
            "x-ratelimit-reset-tokens": f"{reset_s:.2f}s",
        }


def rows() -> list[dict[str, str]]:
    rng, found = Random(7), []  # noqa: S311 - a simulation
    for n in range(ROWS):
        text = f"Review number {n - n % 8 if n % 8 == 3 else n}: {rng.choice(REVIEWS)}"
        found.append({"text": text + " And so on, at length." * (120 if n % 61 == 0 else 4)})
    return found


def story(name: str, tokens_per_minute: int, **options: Any) -> tuple[Story, list[str]]:
    """One run, and what the terminal showed in the middle of it."""
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        max_tokens=200,  # type: ignore[call-arg]  # by its alias
        api_key="sk-0123456789abcdef",  # type: ignore[arg-type]  # a text will do
        http_async_client=httpx2.AsyncClient(transport=Provider(tokens_per_minute)),
    )
    chain = ChatPromptTemplate.from_template("Positive or negative? {text}") | model | StrOutputParser()
    console = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    display = Progress(console=console, live=False, lines=False, budget_usd=0.5)

    async def main() -> Story:
        processor = BatchProcessor(
            chain,
            limits=Limits(),
            concurrency=AdaptiveConcurrency(initial=10, maximum=120),
            observers=[display],
            budget=Budget(total=0.5),
            **options,
        )
        async with processor.astart(rows()) as run:
            outcomes = []
            async for outcome in run:
                outcomes.append(outcome)
                numbers = display.numbers(run.stats)
                if len(outcomes) == ROWS // 2:
                    console.print(display.picture(numbers))
            report = run.report
        state = "some failed" if report.counts.failed else "done"
        settings = {"model": "openai:gpt-4.1-mini", "budget": "$0.50", "input": "reviews.csv"}
        settings["cache"] = "on" if "cache" in options else "off"
        return Story(
            report,
            name,
            state,  # type: ignore[arg-type]  # one of both
            models=("openai:gpt-4.1-mini",),
            began=BEGAN,
            ended=BEGAN + report.wall_s,
            total=ROWS,
            rows=rows_seen(outcomes),
            settings=settings,
            mend=f"cottonpalm retry {name}" if report.counts.failed else "",
        )

    return virtual_run(main(), 1), [console.export_svg(title="cottonpalm run")]


def pictures() -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only pictures need it

    first, [terminal] = story("reviews", 60_000)
    second, _ = story("reviews-2", 120_000, cache=Cache())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "terminal.svg").write_text(FONTS.sub("", terminal), "utf-8")
    pages = {
        "report": page_of(first, written=BEGAN + 3600),
        "compare": compare(first, second, written=BEGAN + 3600),
    }
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for name, text in pages.items():
            file = Path(folder, f"{name}.html")
            file.write_text(text, "utf-8")
            for width, scheme in ((1280, "light"), (1280, "dark"), (768, "light"), (390, "dark")):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(file.as_uri())
                page.screenshot(path=FOLDER / f"{name}-{width}-{scheme}.png", full_page=True)
                page.close()
        browser.close()


class Lively(FlakyTransport):
    """Takes a moment for each request, refuses some rows, and is busy now and then."""

    def __init__(self) -> None:
        super().__init__(then=self._says)
        self._rng = Random(3)  # noqa: S311 - a simulation

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.sleep(self._rng.lognormvariate(-0.6, 0.5))
        return await super().handle_async_request(request)

    def _says(self, request: Any) -> Any:
        if b"4:" in request.content:
            return 400 if self._rng.random() < 0.5 else 500
        return 503 if self._rng.random() < 0.02 else 200


def begun(store: Path, run: str, rows_: int, **options: Any) -> Run:
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        max_tokens=200,  # type: ignore[call-arg]  # by its alias
        api_key="sk-0123456789abcdef",  # type: ignore[arg-type]  # a text will do
        http_async_client=httpx2.AsyncClient(transport=Lively()),
    )
    chain = ChatPromptTemplate.from_template("Positive or negative? {text}") | model | StrOutputParser()
    processor = BatchProcessor(
        chain, store=store, run=run, limits=Limits(), budget=Budget(total=0.5), observers=[Looks()], **options
    )
    texts = [{"text": f"Review number {n}: {REVIEWS[n % len(REVIEWS)]}"} for n in range(rows_)]
    return processor.start(texts)


class Looks:
    """Somebody listens, so events are made."""

    def see(self, _: Any) -> None:
        return


def read(run: Run) -> None:
    with suppress(RunStopped):
        list(run)


def live_pictures() -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only pictures need it

    from cottonpalm.live.server import Dashboard  # noqa: PLC0415 - an extra

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = Path(folder, "reviews.db")
        with begun(store, "reviews-monday", 120) as done:
            list(done)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        with Dashboard(store, 0) as page, begun(store, "tickets-november", 2000, concurrency=12) as run:
            reader = threading.Thread(target=read, args=(run,), daemon=True)
            reader.start()
            for width, scheme in ((1280, "light"), (1280, "dark"), (768, "light"), (390, "dark")):
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                tab = context.new_page()
                tab.goto(page.url)
                tab.wait_for_timeout(7000)  # something must have happened
                for name, place in (("runs", ""), ("now", "now?run=tickets-november"), ("rows", ROWS_VIEW)):
                    tab.goto(f"http://127.0.0.1:{page.port}/{place}")
                    tab.wait_for_timeout(2500)
                    if name == "rows" and width == 1280:
                        tab.keyboard.press("j")
                        tab.wait_for_timeout(500)
                    tab.screenshot(
                        path=FOLDER / f"live-{name}-{width}-{scheme}.png", full_page=name != "rows"
                    )
                context.close()
            run.stop()
            reader.join()
        browser.close()


if __name__ == "__main__":
    asked = sys.argv[1:] or ["report", "live"]
    if "report" in asked:
        pictures()
    if "live" in asked:
        live_pictures()
    sys.stdout.write(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER.relative_to(ROOT)}\n")
