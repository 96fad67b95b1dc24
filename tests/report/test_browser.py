"""The pages as people see them: a real Chromium, at many widths, light and dark, by pointer and by keyboard."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cottonpalm.observers.page.compare import compare
from cottonpalm.observers.page.run_page import page_of
from tests.report import stories
from tests.support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cottonpalm.observers.page.story import Story

WIDTHS = (360, 390, 561, 700, 768, 830, 901, 1000, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Shown(NamedTuple):
    """A page that is open, what it complained about and what it asked for."""

    page: Any
    trouble: list[str]
    asked: list[str]


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Any] = []

    def show(text: str, width: int = 1280, **more: Any) -> Shown:
        file = tmp_path / "report.html"
        file.write_text(text, "utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, **more)
        opened.append(page)
        result = Shown(page, [], [])
        page.on("console", lambda message: result.trouble.append(message.text))
        page.on("pageerror", lambda error: result.trouble.append(str(error)))
        page.on("request", lambda request: result.asked.append(request.url))
        page.goto(file.as_uri())
        return result

    yield show
    for page in opened:
        page.close()


def texts_outside(page: Any) -> list[str]:
    """Texts of plots that stand outside of the page, or of their plot, to the left or to the right."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("svg text")].filter(text => {
            const own = text.getBoundingClientRect();
            return own.width && (own.left < -1 || own.right > innerWidth + 1);
        }).map(text => text.textContent)"""
    )
    return found


@pytest.mark.parametrize("story", [stories.long_story, stories.hostile_story, stories.empty_story])
def test_nothing_scrolls_sideways_at_any_width(shown: Any, story: Any) -> None:
    page = shown(page_of(story())).page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        assert texts_outside(page) == [], width


def test_nothing_scrolls_sideways_where_two_runs_are_compared(shown: Any) -> None:
    page = shown(compare(stories.long_story(), stories.other_story())).page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        assert texts_outside(page) == [], width


LENGTHS_S = (
    9.4,
    14.0,
    47.0,
    131.0,
    299.0,
    611.0,
    1510.0,
    4800.0,
    5390.0,
    13_700.0,
    40_000.0,
    95_000.0,
    400_000.0,
)


def meeting(page: Any) -> list[str]:
    """Texts of one plot that lie over another, and values beside a plot that do not fit their column."""
    found: list[str] = page.evaluate(
        """() => {
        const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
        const found = [];
        for (const svg of document.querySelectorAll("svg.axis-x, svg.heads, svg.plot")) {
            const texts = [...svg.querySelectorAll("text")]
                .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
            texts.forEach(([one, a], n) => texts.slice(n + 1).forEach(([other, b]) => {
                if (overlap(a, b)) found.push(`${one} on ${other}`);
            }));
        }
        for (const cell of document.querySelectorAll(".values, .values span, .four span")) {
            if (cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== "inline") {
                found.push(`${cell.textContent} is too wide`);
            }
        }
        return found;
    }"""
    )
    return found


@pytest.mark.parametrize("wall_s", LENGTHS_S)
def test_no_mark_stands_on_another_and_each_value_fits_its_column(shown: Any, wall_s: float) -> None:
    story = stories.lasting(wall_s)
    one, two = (page_of(story), compare(story, stories.lasting(wall_s / 3)))
    for text in (one, two):
        page = shown(text).page
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert meeting(page) == [], width


def failing() -> Story:
    """A run whose provider fails again and again, each time for longer."""
    story = stories.long_story()
    course = tuple(
        replace(m, bound_s={"probe": 40.0} if n % 20 < n // 20 * 3 else {"tokens": 40.0})
        for n, m in enumerate(story.report.over_time)
    )
    return replace(story, report=replace(story.report, over_time=course))


def test_the_name_of_a_failure_stands_within_its_band_or_not_at_all(shown: Any) -> None:
    page = shown(page_of(failing())).page
    names = set()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        named, outside = page.evaluate(
            """() => {
            const plot = document.querySelector(".time svg.plot");
            const bands = [...plot.querySelectorAll(".band")].map(band => band.getBoundingClientRect());
            const texts = [...plot.querySelectorAll("text.middle")]
                .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
            const within = box => bands.some(band => box.left >= band.left - 1 && box.right <= band.right + 1);
            return [texts.length, texts.filter(([, box]) => !within(box)).map(([said]) => said)];
        }"""
        )
        names.add(named)
        assert outside == [], width
    assert len(names) > 1, "more of them on a wide page than on a narrow one"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_within_bands_and_areas_stand_out_from_them(shown: Any, scheme: str) -> None:
    page = shown(page_of(failing()), color_scheme=scheme).page
    ink = page.evaluate("getComputedStyle(document.querySelector('.heading p')).color")
    fills = page.evaluate("[...document.querySelectorAll('text.soft')].map(t => getComputedStyle(t).fill)")
    assert set(fills) == {ink}, "not the colour of ticks, which is too weak on a soft ground"


def test_values_beside_a_plot_are_whole_on_paper(shown: Any) -> None:
    page = shown(page_of(stories.long_story()), width=700).page
    page.emulate_media(media="print")
    assert meeting(page) == []


def test_a_page_asks_for_nothing_and_its_own_policy_has_nothing_to_complain_about(shown: Any) -> None:
    seen = shown(page_of(stories.long_story()))
    assert len(seen.asked) == 1
    assert seen.trouble == []


def test_hostile_rows_run_nothing(shown: Any) -> None:
    seen = shown(page_of(stories.hostile_story()))
    seen.page.mouse.move(400, 400)
    assert seen.page.evaluate("window.harmed") is None
    assert "<script>window.harmed" in seen.page.inner_text("body")
    assert seen.asked[1:] == []
    assert seen.trouble == []


def test_even_markup_that_got_in_would_not_run(shown: Any) -> None:
    text = page_of(stories.long_story()).replace("<footer>", "<script>window.harmed = 1</script><footer>")
    seen = shown(text)
    assert seen.page.evaluate("window.harmed") is None
    assert any("Content Security Policy" in trouble for trouble in seen.trouble)


@pytest.mark.parametrize(("scheme", "paper", "ink"), [("light", 251, 27), ("dark", 17, 233)])
def test_the_page_follows_the_theme(shown: Any, scheme: str, paper: int, ink: int) -> None:
    page = shown(page_of(stories.long_story()), color_scheme=scheme).page
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('h1')).color]"
    )
    assert [int(colour.split("(")[1].split(",")[0]) for colour in colours] == [paper, ink]


def test_tables_sort_by_click_and_by_key_and_say_so(shown: Any) -> None:
    page = shown(page_of(stories.long_story())).page

    table = page.locator("table.rows").first
    values = [float(cell.get_attribute("data-by")) for cell in table.locator("tbody td:nth-child(2)").all()]
    assert values == sorted(values, reverse=True)
    table.locator("th button", has_text="row").click()
    rows = [int(cell.get_attribute("data-by")) for cell in table.locator("tbody td:nth-child(1)").all()]
    assert rows == sorted(rows, reverse=True)
    page.keyboard.press("Enter")
    rows = [int(cell.get_attribute("data-by")) for cell in table.locator("tbody td:nth-child(1)").all()]
    assert rows == sorted(rows)
    assert table.locator("th").first.get_attribute("aria-sort") == "ascending"


def test_the_crosshair_goes_by_pointer_and_by_arrow_keys_and_shows_the_numbers_of_its_moment(
    shown: Any,
) -> None:
    story = stories.long_story()
    page = shown(page_of(story)).page
    values = page.locator("[data-at]")
    still = values.nth(0).inner_text()
    assert "mean" in still
    page.locator(".time").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert values.nth(0).inner_text() == f"{story.report.over_time[3].rows_per_s:.1f}"
    assert page.locator(".now").inner_text().replace("\u00a0", " ") == "at 2 min 00 s"
    page.keyboard.press("Escape")
    assert values.nth(0).inner_text() == still
    box = page.locator(".time .plot-cell").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + 20)
    assert values.nth(0).inner_text() == "0", "the provider was down then"
    page.mouse.move(5, 5)
    assert values.nth(0).inner_text() == still


def test_tab_reaches_whatever_can_be_done(shown: Any) -> None:
    page = shown(page_of(stories.long_story())).page
    wanted = page.evaluate("document.querySelectorAll('a, summary, th button, .time').length")
    reached = set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert (
        len(reached - {page.evaluate("[...document.querySelectorAll('*')].indexOf(document.body)"), -1})
        >= wanted
    )


def test_without_script_all_is_there_but_sorting_and_the_crosshair(
    shown: Any, browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "still.html"
    file.write_text(page_of(stories.long_story()), "utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "Slowest rows" in page.inner_text("body")
    context.close()


def test_on_paper_it_is_light_whole_and_at_most_four_pages(shown: Any) -> None:
    page = shown(page_of(stories.long_story()), color_scheme="dark").page
    pdf = page.pdf(format="A4", print_background=True)
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 4
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('details')).display") == "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(shown: Any, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG asks."""
    page = shown(page_of(stories.long_story()), color_scheme=scheme).page
    weak = page.evaluate(
        """() => {
        const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = element => {
            for (let at = element; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (!/, 0\\)$/.test(colour)) return colour;
            }
            return "rgb(255, 255, 255)";
        };
        const own = element => [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        return [...document.querySelectorAll("main *")].filter(own).map(element => {
            const style = getComputedStyle(element);
            const [one, other] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
            return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.textContent.slice(0, 40)];
        }).filter(([ratio]) => ratio < 4.5);
    }"""
    )
    assert weak == []
