"""The documentation is true: its code runs, its links lead somewhere, its two languages say the same."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.docs import reading
from tests.docs.options import options_of
from tests.docs.pages import (
    ROOT,
    anchors,
    blocks,
    code,
    links,
    name_of,
    numbers,
    pages,
    paragraphs,
    prose,
    spans,
)

if TYPE_CHECKING:
    from pathlib import Path

CHINESE = ROOT / "README.zh-CN.md"
TWINS = {CHINESE: ROOT / "README.md"} | {
    page: ROOT / "docs" / page.relative_to(ROOT / "docs" / "zh")
    for page in (ROOT / "docs" / "zh").rglob("*.md")
}
RUN = [page for page in pages() if page not in TWINS]  # their code is that of the English pages


@pytest.mark.timeout(600)  # a page types up to twenty commands, each a process of its own
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_all_code_on_the_page_runs_and_prints_what_the_page_says(page: Path, reader: Path) -> None:
    reading.follow(page, reader)


def test_the_runner_sees_a_difference(tmp_path: Path) -> None:
    page = ROOT / "README.md"
    assert sum(block.language in ("python", "console") for block in blocks(page)) >= 4
    reading.compare("one\ntwo 2.5 s\n", "one\ntwo ... s\n", "here")
    with pytest.raises(AssertionError, match="here shows"):
        reading.compare("one\ntwo\n", "one\n", "here")


@pytest.mark.parametrize("page", TWINS, ids=name_of)
def test_a_chinese_page_has_the_code_and_the_sections_of_the_english_one(page: Path) -> None:
    english = TWINS[page]
    assert code(page) == code(english)
    levels = [re.findall(r"^(#+) ", prose(each), re.MULTILINE) for each in (page, english)]
    assert levels[0] == levels[1]
    tables = [len(re.findall(r"^\|", prose(each), re.MULTILINE)) for each in (page, english)]
    assert tables[0] == tables[1], "a table has another number of rows"
    assert paragraphs(page) == paragraphs(english), "a paragraph or a point is missing"


@pytest.mark.parametrize("page", TWINS, ids=name_of)
def test_a_chinese_page_names_what_the_english_one_names(page: Path) -> None:
    english = TWINS[page]
    assert spans(page) == spans(english)
    assert numbers(english) <= numbers(page)  # 2026 年 11 月 has one more than November 2026
    assert _led(page) == _led(english)


def _led(page: Path) -> set[str]:
    """Where a page leads; a page and its twin are one place, and the page itself is none."""
    targets = [(link, *link.partition("#")[::2]) for link in links(page)]
    places = {
        (TWINS.get(to := (page.parent / path).resolve(), to), anchor) if path and "://" not in link else link
        for link, path, anchor in targets
    }
    return {str(place) for place in places if place != (TWINS.get(page, page), "")}


def test_every_technique_has_a_page_in_both_languages_that_lead_to_each_other() -> None:
    english, chinese = ROOT / "docs" / "techniques", ROOT / "docs" / "zh" / "techniques"
    names = {page.name for page in english.glob("*.md")}
    assert len(names) == 10
    assert names == {page.name for page in chinese.glob("*.md")}
    for name in names:
        assert f"../zh/techniques/{name}" in links(english / name)
        assert f"../../techniques/{name}" in links(chinese / name)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links out of the repository: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}, which has no such heading"


@pytest.mark.parametrize("page", ["architecture.md", "contributing.md"])
def test_the_page_names_files_that_exist(page: str) -> None:
    files = [
        f"/{path.relative_to(ROOT)}"
        for folder in ("src", "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert len(named) > 10
    for name in named:
        assert name == "go.py" or any(file.endswith(f"/{name}") for file in files), f"{page} names {name}"


def test_the_table_of_rooms_names_them_all() -> None:
    package = ROOT / "src" / "cottonpalm"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    table = (
        (ROOT / "docs" / "architecture.md")
        .read_text(encoding="utf-8")
        .partition("| room |")[2]
        .partition("\n\n")[0]
    )
    named = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert set(re.findall(r"`([\w/.]+)`", "".join(named))) == folders | files


def test_every_page_can_be_reached_from_the_index() -> None:
    docs = ROOT / "docs"
    linked = {(docs / link.partition("#")[0]).resolve() for link in links(docs / "index.md")}
    assert {page.resolve() for page in docs.rglob("*.md") if page.name != "index.md"} <= linked


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_shown_uses_options_that_exist(page: Path) -> None:
    for block in blocks(page):
        if block.language != "console":
            continue
        for command, _ in reading.commands(block.text):
            for words in _calls(command):
                known = options_of(words[1]) if len(words) > 1 and words[1].isalpha() else options_of(None)
                used = {word.partition("=")[0] for word in words[1:] if word.startswith("-") and word != "-"}
                assert used <= known, f"{name_of(page)}:{block.line}: {used - known} in {command}"


def _calls(command: str) -> list[list[str]]:
    """The calls of cottonpalm in a line of shell."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    found: list[list[str]] = []
    for word in words:
        if word == "cottonpalm":
            found.append([word])
        elif found and word in {"|", ";", "&&", "||"}:
            found.append([])
        elif found and found[-1]:
            found[-1].append(word.rstrip(";"))
    return [words for words in found if words]
