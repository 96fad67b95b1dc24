"""Rows that other processes answer, by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import lines, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command


def test_workers_answer_each_row_once_into_one_output_with_one_summary(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 40)
    said = ask("in.jsonl", "-o", "out.jsonl", "--executor", "processes", "--workers", "2")
    assert said.code == 0, said.err
    found = lines(folder / "out.jsonl")
    assert [line["output"] for line in found] == [f"answer to: say row-{n}" for n in range(40)]
    assert "40 ok" in said.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--workers", "2"), 'workers=... needs executor="processes"'),
        (("--executor", "processes", "--ray-address", "auto"), 'ray_address=... needs executor="ray"'),
        (("--executor", "everywhere"), 'say "local", "processes" or "ray"'),
    ],
)
def test_what_workers_need_is_said_in_one_line_before_any_call(
    ask: Command, folder: Path, words: tuple[str, ...], why: str
) -> None:
    rows(folder / "in.jsonl", 2)
    said = ask("in.jsonl", "-o", "out.jsonl", *words)
    assert said.code == 2
    assert why.replace('"', "") in said.err.replace('"', "")
