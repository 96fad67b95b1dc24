"""Answers that stream, as lines of the display: in order, in their places, in any width, harmless."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console, Group

from cottonpalm.observers.terminal.coming import KEPT, SHOWN, Coming, ComingRows
from cottonpalm.observers.terminal.panel import line, panel
from tests.report.stories import HOSTILE
from tests.report.test_panel import SHOWN as NUMBERS

pytestmark = pytest.mark.core


def lines(*coming: Coming, width: int = 80, unicode: bool = True) -> list[str]:
    drawn = panel(replace(NUMBERS, coming=coming, streams=len(coming)), width, unicode=unicode)
    return [text.plain for text in drawn[7:]]


def test_each_row_has_a_line_with_its_last_words() -> None:
    said = "It is a fair price for what it does, though the manual could be much better than it is"
    assert lines(Coming(3, "Yes"), Coming(24_311, said), Coming(9, "")) == [
        "  row 4      Yes",
        "  row 24,312 …or what it does, though the manual could be much better than it is",
        "  row 10     begins again",
    ]
    assert lines(Coming(3, "Yes")) == ["  row 4  Yes"]


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [12, 20, 40, 79, 80, 200])
@pytest.mark.parametrize("said", ["\u4f60\u597d" * 300, "x" * 500, "caf\u00e9 " * 99, "a\nb\n", *HOSTILE[:5]])
def test_no_answer_makes_a_line_too_wide_or_moves_the_cursor(said: str, width: int, unicode: bool) -> None:
    rows = ComingRows()
    for index in (1, 999_999_999):
        rows.add(index, said)
    drawn = panel(replace(NUMBERS, coming=rows.shown), width, unicode=unicode)
    assert all(text.cell_len <= width for text in drawn)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False).print(
        Group(*drawn)
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", out.getvalue())
    assert unicode or all(text.plain.isascii() for text in drawn)


def test_a_row_keeps_its_line_until_it_is_over_and_then_the_one_that_waits_longest_takes_it() -> None:
    rows = ComingRows()
    for index in range(SHOWN + 2):
        rows.add(index, f"{index}")
    rows.over(1)
    assert [coming.row for coming in rows.shown] == [0, SHOWN, 2, 3]
    rows.over(SHOWN + 1)  # it was waiting
    rows.over(0)
    assert [coming.row for coming in rows.shown] == [SHOWN, 2, 3]
    assert len(rows) == 3
    rows.add(77, "next")
    assert rows.shown[0] == Coming(77, "next")


def test_pieces_add_up_to_the_end_of_the_answer_and_no_more_is_kept() -> None:
    rows, whole = ComingRows(), ""
    for piece in range(1000):
        rows.add(5, f"{piece} ")
        whole += f"{piece} "
    assert rows.shown == (Coming(5, whole[-KEPT:]),)
    rows.put(5, "")
    rows.add(5, "anew")
    assert rows.shown == (Coming(5, "anew"),)


def test_a_log_says_how_many_answers_are_streaming_and_shows_none() -> None:
    said = line(replace(NUMBERS, coming=(Coming(1, "secret"),), streams=12), 200)
    assert said.endswith(", 12 streaming")
    assert "secret" not in said
