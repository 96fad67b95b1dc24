"""Rows that other processes answer, by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def test_what_workers_need_is_said_in_one_line_before_any_call(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    for said, why in (
        (ask("in.jsonl", "-o", "out.jsonl", "--workers", "2"), "--workers needs --executor processes"),
        (
            ask("in.jsonl", "-o", "o.jsonl", "--executor", "processes", "--ray-address", "auto"),
            "--ray-address needs --executor ray",
        ),
        (ask("in.jsonl", "-o", "out.jsonl", "--executor", "everywhere"), "local"),
    ):
        assert said.code == 2
        assert why in said.err
