"""The live page as a person uses it, with a run in another process; and a page of somebody else, which gets nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cottonpalm import clock
from cottonpalm.live.server import Dashboard
from cottonpalm.stores import open_store
from tests.live.conftest import until
from tests.support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ROWS = 60
LONG = "a-run-with-a-long-name-" + "x" * 60
RUNS = ("tickets", "victim", LONG, "keys", "ends")
PATIENCE_MS = 60_000  # the machine may have much to do
WIDTHS = ((360, "dark"), (768, "light"), (1280, "light"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """`evil.example` is pointed at this machine, as DNS rebinding does."""
    with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as found:
        yield found


class Work(NamedTuple):
    """Runs of another process, and their page."""

    process: subprocess.Popen[bytes]
    store: Path
    page: Dashboard

    def let(self, run: str, rows: int) -> None:
        """Rows of this run below this number may end."""
        Path(f"{self.store}.{run}").write_text(str(rows))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    path = tmp_path_factory.mktemp("work") / "reviews.db"
    store = open_store(path)
    for run in RUNS:
        Path(f"{path}.{run}").write_text("0")
    command = [sys.executable, "-m", "tests.live.worker", str(path), str(ROWS), *RUNS]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        until(lambda: len([run for run in store.runs() if run.holder]) == len(RUNS))
        with Dashboard(path, 0) as page:
            yield Work(process, path, page)
    finally:
        store.close()
        process.kill()
        process.wait()


class Seen(NamedTuple):
    """A tab, and what it complained about."""

    tab: Any
    trouble: list[str]


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Seen]]:
    made: list[Any] = []

    def show(url: str, **more: Any) -> Seen:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **more})
        made.append(context)
        context.set_default_timeout(PATIENCE_MS)
        seen = Seen(context.new_page(), [])
        seen.tab.on("console", lambda message: seen.trouble.append(message.text))
        seen.tab.on("pageerror", lambda error: seen.trouble.append(str(error)))
        seen.tab.goto(url)
        return seen

    yield show
    for context in made:
        context.close()


@pytest.mark.core
def test_a_person_follows_pauses_caps_and_cancels_a_run_of_another_process(
    work: Work, opened: Callable[..., Seen]
) -> None:
    tab, trouble = opened(work.page.url)
    assert "token" not in tab.url
    tab.get_by_role("link", name="tickets").click()  # it appears without a reload
    work.let("tickets", 20)
    tab.locator("#part-progress").get_by_text("18 answered").wait_for()
    tab.locator("#part-head .state").filter(has_text="running").wait_for()
    from playwright.sync_api import expect

    expect(tab).to_have_title("33 % tickets", timeout=PATIENCE_MS)
    tab.locator("#part-progress").get_by_text("5 in flight").wait_for()
    assert "20 of 60 rows" in tab.locator("h1").inner_text()

    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("button", name="Resume").wait_for()
    tab.locator("#part-head .state").filter(has_text="paused").wait_for()
    work.let("tickets", 30)  # five were in flight: they are finished and kept, and no other begins
    tab.locator("#part-progress").get_by_text("22 answered").wait_for()
    tab.locator("#part-progress").get_by_text("0 in flight").wait_for()
    tab.get_by_role("button", name="Resume").click()
    tab.get_by_role("button", name="Pause").wait_for()
    tab.locator("#part-progress").get_by_text("27 answered").wait_for()

    tab.get_by_label("Cap, rows at once").fill("2")
    tab.get_by_role("button", name="Set").click()
    tab.get_by_text("At most 2 rows at once").wait_for()
    store = open_store(work.store)
    assert store.ordered("tickets").most == 2  # type: ignore[attr-defined]

    tab.get_by_role("link", name="Show them").click()
    assert tab.locator("h1").inner_text() == "3 failed rows of 30"
    tab.get_by_role("link", name="14", exact=True).click()
    drawer = tab.locator("#drawer")
    drawer.get_by_role("heading", name="Row 14 index 13").wait_for()  # it is fetched
    assert "<script>harm()</script> row 13 is \\x1b[31mbad\\x1b[0m \\u202e!" in drawer.inner_text()
    assert "question 13" in drawer.inner_text()
    tab.keyboard.press("j")
    drawer.get_by_role("heading", name="Row 24 index 23").wait_for()
    tab.keyboard.press("Escape")
    assert drawer.is_hidden()
    assert tab.evaluate("document.activeElement.dataset.row") == "23"
    tab.keyboard.press("/")
    tab.keyboard.type("row 3 is")
    tab.keyboard.press("Enter")
    tab.get_by_text("searched for").wait_for()
    assert tab.locator("a[data-row]").all_inner_texts() == ["4"]

    tab.get_by_role("link", name="Now").click()
    tab.get_by_text("Cancel\u2026").click()
    tab.get_by_text("is not asked").wait_for()
    tab.get_by_role("button", name="Cancel the run").click()
    until(lambda: b'"stopping":true' in store.shown("tickets"))  # type: ignore[attr-defined]
    work.let("tickets", ROWS)
    tab.locator("#part-head .state").filter(has_text="stopped").wait_for()
    [info] = [each for each in store.runs() if each.name == "tickets"]
    assert 30 <= info.ok + info.failed < ROWS
    store.close()
    assert trouble == []


def test_nothing_scrolls_sideways_at_any_width_light_or_dark(work: Work, opened: Callable[..., Seen]) -> None:
    work.let(LONG, 25)
    base = f"http://127.0.0.1:{work.page.port}"
    for width, scheme in WIDTHS:
        tab, trouble = opened(work.page.url, viewport={"width": width, "height": 800}, color_scheme=scheme)
        for place in ("/", f"/now?run={LONG}", f"/rows?run={LONG}", f"/row?run={LONG}&at=3"):
            until(lambda tab=tab, place=place: tab.goto(base + place).status == 200)
            assert tab.evaluate("document.documentElement.scrollWidth") == width, (place, width)
        assert trouble == [] or all("404" in said for said in trouble)  # the row may not be there yet


def test_runs_of_another_day_keep_within_their_columns_and_leave_room_for_names(
    store: Path, opened: Callable[..., Seen]
) -> None:
    today = clock.wall
    clock.replace(None, lambda: today() + 2 * 86_400)
    try:
        with Dashboard(store, 0) as page:
            for width in (920, 1280):
                tab, _ = opened(page.url, viewport={"width": width, "height": 800})
                ends = "[...document.querySelectorAll('.runs td:last-child')]"
                assert not tab.evaluate(f"{ends}.some((end) => end.scrollWidth > end.clientWidth)")
                assert tab.evaluate("document.querySelector('.runs td:nth-child(2)').clientWidth") > 120
    finally:
        clock.replace()


FOCUS = "(({ tagName, textContent, name }) => `${tagName} ${name || textContent}`)(document.activeElement)"


def test_by_keys_alone_a_run_is_capped_and_cancelled_while_its_numbers_change(
    work: Work, opened: Callable[..., Seen]
) -> None:
    tab, trouble = opened(work.page.url)
    keys = tab.get_by_role("link", name="keys")
    keys.focus()
    work.let("keys", 3)
    tab.get_by_text("3 of 60", exact=True).wait_for()
    assert tab.evaluate(FOCUS) == "A keys"
    tab.keyboard.press("Enter")

    def moves(rows: int) -> None:
        work.let("keys", rows)
        tab.locator("#part-controls").get_by_text(f"What is done ({rows} rows) stays as it is").wait_for(
            state="attached"
        )

    cap = tab.get_by_label("Cap, rows at once")
    cap.focus()
    tab.keyboard.type("3")
    tab.keyboard.press("Tab")
    moves(10)
    assert (tab.evaluate(FOCUS), cap.input_value()) == ("BUTTON Set", "3")
    tab.keyboard.press("Enter")
    store = open_store(work.store)
    until(lambda: store.ordered("keys").most == 3)  # type: ignore[attr-defined]
    tab.keyboard.press("Tab")
    moves(20)
    assert tab.evaluate(FOCUS) == "SUMMARY Cancel\u2026"
    tab.keyboard.press("Enter")
    tab.get_by_text("is not asked").wait_for()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    until(lambda: b'"stopping":true' in store.shown("keys"))  # type: ignore[attr-defined]
    work.let("keys", ROWS)
    tab.locator("#part-head .state").filter(has_text="stopped").wait_for()
    store.close()
    assert trouble == []


def test_what_came_while_a_part_was_in_use_is_there_when_it_is_not(
    work: Work, opened: Callable[..., Seen]
) -> None:
    tab, trouble = opened(work.page.url)
    tab.get_by_role("link", name="ends").click()
    tab.get_by_text("Cancel\u2026").click()
    tab.get_by_text("is not asked").wait_for()
    work.let("ends", ROWS)
    tab.locator("#part-head .state").filter(has_text="done, some failed").wait_for()
    assert tab.get_by_role("button", name="Cancel the run").is_visible()  # not taken from under the hand
    tab.get_by_text("Cancel\u2026").click()
    tab.get_by_text("No process works on this run").wait_for()
    assert trouble == []


def test_a_page_whose_process_is_gone_says_so_and_what_to_open_when_there_is_another(
    work: Work, opened: Callable[..., Seen]
) -> None:
    with Dashboard(work.store, 0) as page:
        tab, trouble = opened(page.url)
        tab.get_by_role("link", name="victim").click()
        tab.locator("#part-progress").get_by_text("5 in flight").wait_for()
        tab.route("**/order", lambda order: order.abort())  # as where it was killed just now
        tab.get_by_role("button", name="Pause").click()
        note = tab.get_by_text("The process that serves this page did not answer")
        note.wait_for()
        tab.evaluate("coming.set('controls', '<p class=\"note\"></p>'); settle()")  # the run goes on
        assert note.is_visible()
    tab.get_by_text("this page ended with its command or program").wait_for()
    assert tab.get_by_role("button", name="Pause").is_disabled()
    with Dashboard(work.store, page.port) as other:
        tab.get_by_text("Open the address that cottonpalm printed").wait_for()
        tab.context.new_page().goto(other.url)
        tab.locator("#link").get_by_text("live", exact=True).wait_for()
        assert tab.get_by_role("button", name="Pause").is_enabled()
    assert all("Failed to load resource" in said for said in trouble)  # the browser's own words


def test_tabs_that_nobody_sees_leave_the_browsers_connections_to_those_that_somebody_does(
    work: Work, opened: Callable[..., Seen]
) -> None:
    """Six are all that a browser opens to one place."""
    first, _ = opened(work.page.url)
    first.context.add_init_script(
        "window.away = false; Object.defineProperty(document, 'hidden', { get: () => window.away })"
    )
    base = f"http://127.0.0.1:{work.page.port}/now?run=victim"
    see = "(away) => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); }"
    tabs = []
    for _ in range(9):
        tab = first.context.new_page()
        tab.goto(base, timeout=PATIENCE_MS)
        tab.locator("#link").get_by_text("live", exact=True).wait_for()
        tabs.append(tab)
        tab.evaluate(see, True)
    tabs[0].evaluate(see, False)
    tabs[0].get_by_label("Cap, rows at once").fill("4")
    tabs[0].get_by_role("button", name="Set").click()
    store = open_store(work.store)
    until(lambda: store.ordered("victim").most == 4)  # type: ignore[attr-defined]
    store.close()


ATTACK = """<!doctype html><title>evil</title><body><script>
const ours = "http://127.0.0.1:PORT";
const own = { credentials: "include" };
const text = (answer) => answer.text();
const cancel = { run: "victim", what: "cancel" };
const order = (more) => fetch(ours + "/order", { method: "POST", body: new URLSearchParams(cancel), ...more });
const tries = {
  read: () => fetch(ours + "/", own).then(text),
  blind: () => fetch(ours + "/rows?run=victim", { ...own, mode: "no-cors" }).then(text),
  order: () => order({ ...own, mode: "no-cors" }).then(text),
  header: () => order({ headers: { authorization: "Bearer x" } }).then(text),
  stream: () => new Promise((done, lost) => {
    const source = new EventSource(ours + "/stream", { withCredentials: true });
    source.onopen = () => done("open");
    source.onerror = () => lost("closed");
  }),
  script: () => new Promise((done, lost) => {
    const tag = document.createElement("script");
    tag.src = ours + "/live.js";
    tag.onload = () => done("ran");
    tag.onerror = () => lost("refused");
    document.body.append(tag);
  }),
  form: () => new Promise((done) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: ours + "/order", target: "frame" });
    for (const [name, value] of Object.entries(cancel)) {
      form.append(Object.assign(document.createElement("input"), { name, value }));
    }
    const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
    document.body.append(frame, form);
    frame.onload = () => done("sent");
    form.submit();
  }),
};
(async () => {
  const found = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try { found[name] = await attempt(); } catch (error) { found[name] = "refused"; }
  }
  window.found = found;
})();
</script>"""


@pytest.mark.core
def test_a_page_of_somebody_else_reads_nothing_and_changes_nothing(
    work: Work, opened: Callable[..., Seen]
) -> None:
    tab, _ = opened(work.page.url)  # the victim is signed in, in the same browser
    tab.get_by_role("link", name="victim").wait_for()
    text = ATTACK.replace("PORT", str(work.page.port))

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Evil)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store = open_store(work.store)
    try:
        for origin in ("http://evil.example", "http://localhost", "http://127.0.0.1"):
            other = tab.context.new_page()
            other.goto(f"{origin}:{server.server_port}/")
            other.wait_for_function("window.found")
            found = other.evaluate("window.found")
            assert "victim" not in str(found), (origin, found)
            assert found["read"] == found["header"] == found["stream"] == found["script"] == "refused", (
                origin,
                found,
            )
            other.close()
            asked = store.ordered("victim")  # type: ignore[attr-defined]
            assert (asked.stop, asked.held) == (False, False), origin
        rebound = tab.context.new_page()
        answer = rebound.goto(f"http://evil.example:{work.page.port}/?token=guess")
        assert answer is not None
        assert answer.status == 421
        assert "victim" not in rebound.content()
    finally:
        store.close()
        server.shutdown()
        server.server_close()
        thread.join()
    assert work.process.poll() is None
