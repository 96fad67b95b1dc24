"""The page of a run as text: complete, well formed, closed to the world, and unharmed by what rows hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from cottonpalm.observers.measures.reported import Counts, Moment
from cottonpalm.observers.measures.rows_seen import Glance, RowsSeen
from cottonpalm.observers.page.compare import compare, compared, compared_text, lede, verdict
from cottonpalm.observers.page.head import lede as lede_of
from cottonpalm.observers.page.head import verdict as verdict_of
from cottonpalm.observers.page.run_page import page_of
from cottonpalm.observers.page.story import Story
from cottonpalm.types import PICO
from tests.report import stories
from tests.report.made import NOTHING, made

if TYPE_CHECKING:
    from collections.abc import Callable

VOID = {"meta", "br", "col", "line", "rect", "path"}
STORIES = [stories.long_story, stories.hostile_story, stories.empty_story]


class Page(HTMLParser):
    """Checks that tags are closed in turn, and keeps what tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]

    @property
    def said(self) -> str:
        return " ".join(self.texts).replace("\u00a0", " ").replace("\u202f", " ")


@pytest.mark.parametrize("story", STORIES)
def test_each_page_is_well_formed_loads_nothing_and_lets_nothing_else_run(story: Callable[[], Story]) -> None:
    text = page_of(story(), written=0.0)
    page = Page(text)
    [policy] = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    for name in ("style", "script"):
        assert len(page.all(name)) == 1
        found = re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    addresses = [
        str(attrs.get(key)) for _, attrs in page.tags for key in ("src", "href", "xlink:href") if key in attrs
    ]
    assert all(address.startswith("data:application/json") for address in addresses)
    assert not any(key == "style" or key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert not page.all("img")


@pytest.mark.parametrize("story", STORIES)
def test_a_screen_reader_finds_one_heading_sections_by_name_and_a_sentence_for_each_plot(
    story: Callable[[], Story],
) -> None:
    page = Page(page_of(story()))
    assert len(page.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(section["aria-labelledby"] in ids for section in page.all("section"))
    for svg in page.all("svg"):
        labelled = svg.get("role") == "img" and len(svg.get("aria-label") or "") > 10
        assert labelled or svg.get("aria-hidden") or svg.get("viewbox"), svg


def test_behind_each_plot_over_time_stands_a_table_with_all_its_numbers() -> None:
    story = stories.long_story()
    page = Page(page_of(story))
    assert page.said.count("Show as a table") == 4
    rows = len(page.all("tr"))
    assert rows > 2 * len(story.report.over_time)


def test_the_numbers_of_the_report_are_those_of_the_page() -> None:
    said = Page(page_of(stories.long_story())).said
    for words in (
        "of 48,000 rows answered in 1 h 20 min",
        "Turn the cache on.",
        "5,760 rows (12 %) asked what another row had asked already",
        "49,725",
        "$20.03",
        "31.2 M",
        "87 %",
        "InvalidAnswer: at label: 'mixed' is not one of",
        "cottonpalm retry reviews-nov",
    ):
        assert words in said, words
    assert "None." in Page(page_of(stories.empty_story())).said


def test_the_data_can_be_saved_from_the_page_and_are_the_report_s() -> None:
    story = stories.long_story()
    [link] = [a for a in Page(page_of(story)).all("a") if a.get("download")]
    assert link["download"] == "reviews-nov.json"
    data = json.loads(base64.b64decode(str(link["href"]).partition(",")[2]))
    assert data == json.loads(json.dumps(story.report.to_dict()))


def test_hostile_text_is_shown_and_does_no_harm() -> None:
    text = page_of(stories.hostile_story())
    page = Page(text)
    assert len(page.all("script")) == 1
    assert "<script>window.harmed" in page.said
    assert not any(char in text for char in "\x1b\x07\x00\x08\u202e\u202c\u2066\u2069\ud800")
    assert len(text) < 200_000, "five megabytes of text are cut"
    text.encode("utf-8")


def test_a_long_report_is_small() -> None:
    assert len(page_of(stories.long_story()).encode()) < 200_000


def test_a_run_that_was_stopped_says_so_in_its_heading() -> None:
    assert verdict_of(stories.hostile_story()).startswith("Stopped: 6 of 12 rows answered")
    assert verdict_of(stories.empty_story()) == "There were no rows."


def test_a_run_of_more_rows_is_not_called_worse_for_taking_more() -> None:
    """A run of one row beside one of 120 was "+1,023 % worse" in time, in money and in failed rows."""
    few = Story(made(100, 10.0, cost_usd=1.0), "few")
    many = Story(made(0, 100.0, counts=Counts(ok=1900, failed=100), cost_usd=10.0), "many")
    rows = {row.name: row.verdict for row in compared(few, many)}
    assert (rows["Time"], rows["Money"], rows["Failed rows"]) == ("", "", "")
    assert rows["Money a row"] == "better", "half as much"
    assert verdict(few, many) == (
        "B took 1 min 40 s for 2,000 rows, A 10 s for 100 rows; in all, B cost $9.00 more; 100 more rows failed."
    )


def test_a_run_that_was_killed_is_compared_by_what_its_report_tells() -> None:
    """It "took 0.9 s for 60 rows", as its last report had come after 20; or "how long B took is not known and cost"."""
    whole = Story(made(60, 10.0, bound_s={"tokens": 9.0}), "whole", rows=RowsSeen().add(_glances(60)))
    killed = Story(made(20, 0.9), "killed", rows=RowsSeen().add(_glances(60)))
    assert verdict(whole, killed).startswith(
        "B took 0.9 s for 20 of its 60 rows, A 10 s for 60 of its 60 rows;"
    )
    assert {row.name: row.verdict for row in compared(whole, killed)}["Time"] == ""
    at_once = Story(NOTHING, "at once", rows=RowsSeen().add(_glances(1)))
    assert verdict(whole, at_once) == "How long B took is not known; in all, B cost $0.59 less."
    assert "bound" not in lede(whole, at_once), "what bound B is not known either"


def test_two_runs_compared_say_which_of_them_was_stopped() -> None:
    """Only the row counts showed it."""
    whole, cut = Story(made(60, 10.0), "whole", "some failed"), Story(made(20, 0.9), "cut", "stopped")
    assert compared_text(whole, cut).startswith("A is whole, B is cut (stopped).\n")
    said = Page(compare(whole, cut)).said
    assert "B cut Stopped" in " ".join(said.split())
    assert "Done" not in said
    assert "A is whole, B is whole (running)." in compared_text(whole, replace(whole, state="running"))


def test_the_page_of_a_run_that_was_killed_holds_its_time_against_the_rows_of_its_report() -> None:
    """It was "60 rows answered in 0.9 s", as its last report had come after 20; or "0 rows answered in 0 s"."""
    rows = RowsSeen().add(_glances(60))
    killed = Story(made(20, 0.9), "killed", "stopped", total=100, rows=rows)
    assert verdict_of(killed) == "Stopped: 60 of 100 rows answered for $0.60."
    said = Page(page_of(killed)).said
    assert "20 rows in 0.9 s. The report that was kept does not tell of 40 more." in said
    assert "for 20 of 60 rows" in said
    again = replace(killed, report=made(0, 0.9, counts=Counts(ok=20, stored=30)))
    said = lede_of(again)
    assert said.startswith("20 rows in this life of the run, in 0.9\u00a0s; 30 were done before. The report")
    assert said.endswith("does not tell of 10 more.")

    at_once = Story(NOTHING, "at once", "stopped", rows=RowsSeen())
    assert verdict_of(at_once) == "Stopped: 0 rows answered."
    said = Page(page_of(at_once)).said
    assert "Not known.  The course of this run was not kept." in said
    for wrong in ("in 0 s", "no row was asked", "no model was seen"):
        assert wrong not in said


def _glances(number: int) -> list[Glance]:
    return [Glance(at, 1.0, PICO // 100, 1, 1) for at in range(number)]


def test_two_runs_are_compared_in_words_and_in_numbers() -> None:
    a, b = stories.long_story(), stories.other_story()
    assert verdict(a, b) == f"B took 40 min 00 s instead of 1 h 20 min and cost the same ({_money(b)})."
    rows = {row.name: row for row in compared(a, b)}
    assert (rows["Time"].change, rows["Time"].verdict) == (-0.5, "better")
    assert (rows["Rows a second"].change, rows["Rows a second"].verdict) == (1.0, "better")
    assert rows["Money"].verdict == rows["Requests"].verdict == rows["Failed rows"].verdict == ""
    back = {row.name: row.verdict for row in compared(b, a)}
    assert (back["Time"], back["Rows a second"], back["A row, p50"]) == ("worse", "worse", "worse")


def test_a_run_that_went_on_is_not_called_faster_for_the_few_rows_of_its_latest_start() -> None:
    b, whole = stories.other_story(), stories.long_story()
    retried = replace(
        whole.report, wall_s=60.0, counts=replace(whole.report.counts, ok=400, failed=12, stored=47_588)
    )
    a = replace(whole, report=retried)
    assert verdict(a, b) == (
        "B took 40 min 00 s for 48,000 of its 48,000 rows, A 1 min 00 s for 412 of its 48,000 rows"
        f"; in all, B cost the same ({_money(b)})."
    )
    rows = {row.name: row for row in compared(a, b)}
    assert rows["Time"].verdict == rows["Rows a second"].verdict == ""
    assert "are those of each run's latest start" in Page(compare(a, b)).said
    assert "are those of each run's latest start" in compared_text(a, b)
    assert "latest start" not in compared_text(whole, b)


def _money(story: Story) -> str:
    return f"${story.cost_usd:.2f}"


def test_the_page_of_two_runs_names_what_differs_and_no_more() -> None:
    page = Page(compare(stories.long_story(), stories.other_story(), written=0.0))
    assert "Token quota bound 87 % of A and 0 % of B." in page.said
    assert "B's cache answered 5,760 more rows than A's." in page.said
    assert "1 of 5; the others are equal" in page.said
    assert "failed in both" in page.said
    same = Page(compare(stories.long_story(), stories.long_story()))
    assert "4, all equal" in same.said
    assert "better" not in same.said
    assert "worse" not in same.said


def test_hostile_and_empty_runs_can_be_compared() -> None:
    for one in STORIES:
        for other in STORIES:
            text = compare(one(), other())
            assert len(Page(text).all("script")) == 1


def test_both_lines_of_the_requests_in_flight_have_their_names_where_there_is_room() -> None:
    said = re.search(
        r'aria-label="Requests in flight.*?</svg>(?=</div>)', page_of(stories.long_story()), re.DOTALL
    )
    assert said is not None
    assert ">limit</text>" in said[0]
    assert ">in flight</text>" in said[0]


@pytest.mark.parametrize(("unknown", "begins"), [(0, 0.0), (5, 500.0)])
def test_the_line_of_the_limit_begins_where_it_is_known(unknown: int, begins: float) -> None:
    """Workers take seconds to begin: until then the line lay at 0."""
    course = [Moment(float(n), 1.0, None if n < unknown else 8.0, 4.0) for n in range(10)]
    text = page_of(Story(made(10, 10.0, over_time=tuple(course)), "r"))
    [line] = re.findall(r'<path d="M([\d.]+) [^"]*" class="limit"|class="limit"[^>]* d="M([\d.]+) ', text)
    assert float("".join(line)) == begins


def test_what_is_one_is_told_as_one() -> None:
    """`1 of them retries`, `1 tries failed`, and "times 1" among the settings of each run."""
    course = [Moment(float(n), 1.0, 8.0, 4.0, failed_tries=n == 3) for n in range(10)]
    report = made(10, 10.0, over_time=tuple(course), counts=Counts(ok=10, requests=11, retries=1, hedges=1))
    assert "; 1 try failed." in page_of(Story(report, "r"))
    assert "11, 1 of them a retry, 1 copy of late ones" in report.text()


def test_the_commonest_kind_of_failed_rows_is_said_in_words_too() -> None:
    report = made(96, 10.0, counts=Counts(ok=96, failed=4), errors={"degrade": {"X": 3}, "odd": {"Y": 1}})
    shown = " ".join(Page(page_of(Story(report, "r"))).said.split())
    assert "3 of them degrade (cut, or too long)" in shown


def test_the_heading_names_no_end_before_the_beginning_where_the_clock_was_set_back() -> None:
    story = replace(stories.long_story(), began=1_750_000_000.0, ended=1_750_003_600.0)
    assert "15 Jun 2025, 15:06 to 16:06 UTC" in page_of(story)
    back = page_of(replace(story, ended=1_749_996_400.0))
    assert "15 Jun 2025, 15:06 UTC" in back
    assert "14:06" not in back
