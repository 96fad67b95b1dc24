"""The pages of the documentation, cut into the blocks that are run and the links that are followed.

An HTML comment before a block says how to treat it:

    <!-- file: app.py -->          the block is that file; it is written, not run
    <!-- needs: model -->          run only where the embedded model is in the cache
    <!-- not run: why -->          only compiled (Python), or only its options are looked up (console)

A `text` block that follows a run Python block directly is what the block prints. In expected output `...` stands for
anything within a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTE: Final = re.compile(r"<!-- (file|needs|not run)(?:: (.*?))? -->\s*$")
LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it begins, its language, its text, and what the comment before it says."""

    line: int
    language: str
    text: str
    note: str = ""
    value: str = ""
    prints: str | None = None  # what a Python block prints, where the page says so


def pages() -> list[Path]:
    """Every page, the two READMEs first."""
    return [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]


def name_of(page: Path) -> str:
    """The page's name in the report of a test."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The page's blocks, in order; a `text` block that says what the block before it prints is part of that one."""
    text, found, end = page.read_text(encoding="utf-8"), list[Block](), 0
    for match in BLOCK.finditer(text):
        between, language = text[end : match.start()], match[1]
        end = match.end()
        if language == "text" and found and found[-1].language == "python" and not between.strip():
            last = found.pop()
            found.append(Block(last.line, last.language, last.text, last.note, last.value, match[2]))
            continue
        note = NOTE.search(between)
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(line, language, match[2], *((note[1], note[2] or "") if note else ("", ""))))
    return found


def code(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block, for comparing two pages."""
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> set[str]:
    """What the page's prose says in code."""
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))}


def numbers(page: Path) -> set[str]:
    """The numbers of two figures and more in the page's prose."""
    return set(re.findall(r"\d[\d,.]*\d", re.sub(r"`[^`\n]+`|\]\([^)]*\)", "", prose(page))))


def paragraphs(page: Path) -> int:
    """How many paragraphs and points of a list the page's prose has."""
    return len(re.findall(r"(?:^|\n)(?:\n(?=\S)|- )(?!<!--)", prose(page)))


def links(page: Path) -> list[str]:
    """The targets of the page's links."""
    return LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that the page's headings make, as GitHub makes them."""
    return {_anchor(heading) for heading in HEADING.findall(prose(page))}


def _anchor(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its rank or above."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{name_of(page)} has no heading {heading!r}"
    rest = text[found.end() :]
    after = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: after.start()] if after else rest


def table(text: str) -> list[list[str]]:
    """The cells of every table row in a text, header and rule left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows]
    rules = {n for n, row in enumerate(cells) if all(re.fullmatch(r":?-+:?", cell) for cell in row)}
    return [row for n, row in enumerate(cells) if n not in rules and n + 1 not in rules]
