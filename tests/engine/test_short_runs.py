"""How a run begins, by how many rows it has: over real sockets, before anybody is answered."""

from __future__ import annotations

import json
import time
from contextlib import closing
from operator import length_hint
from typing import TYPE_CHECKING, Any

import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Limits
from cottonpalm.cli.readers.open_rows import open_rows
from cottonpalm.testing import ScriptedChain
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.replies import Request

ROWS, ANSWER_S = 960, 2.0
ALL = [f"row {n}" for n in range(ROWS)]


def peak_before_answers(rows: Any, **how: Any) -> int:
    """The most in flight while nobody was answered; the run is left then."""
    with Loopback(latency=ANSWER_S) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x", model="m")  # type: ignore[arg-type]
        with BatchProcessor(model, **how).start(rows) as run:
            assert next(iter(run)).status == "ok"
            return server.peak


def test_a_short_run_lets_a_quarter_of_its_rows_go_before_it_is_answered() -> None:
    assert peak_before_answers(ALL) >= ROWS / 4


def test_rows_whose_number_nobody_knows_begin_with_care() -> None:
    assert peak_before_answers(row for row in ALL) < ROWS / 4


def test_a_run_that_goes_on_counts_the_rows_that_are_left(tmp_path: Path) -> None:
    old, came_s = [f"old {n}" for n in range(2_000)], list[float]()

    def latency(request: Request) -> float:
        if "old" in request.text:
            return 0.0
        came_s.append(time.monotonic())
        return ANSWER_S

    with Loopback(latency=latency) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x", model="m")  # type: ignore[arg-type]

        def life() -> BatchProcessor:
            return BatchProcessor(model, store=f"sqlite:///{tmp_path}/runs.db", run="two", limits=Limits())

        assert None not in life().batch(old)
        with life().start([*old, *ALL[:300]]) as run:
            assert all(outcome.status == "ok" for outcome in run)
    first = sum(at_s < came_s[0] + ANSWER_S for at_s in came_s)
    assert 40 <= first < 200  # of 300 rows; all of them, had it begun as a run of 2,300 does


class Hinting:
    """Rows with a hint of their own."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint

    def __iter__(self) -> Iterator[int]:
        return iter(range(20))

    def __length_hint__(self) -> int:
        if isinstance(self.hint, Exception):
            raise self.hint
        return self.hint  # type: ignore[no-any-return]


@pytest.mark.parametrize("hint", [0, 5, 10**6, 10**30, -1, 2.5, None, RuntimeError("no rows yet")])
def test_a_hint_that_is_wrong_or_fails_costs_no_row(hint: Any) -> None:
    chain = ScriptedChain(then=lambda row: f"answer to {row}")
    with BatchProcessor(chain).start(Hinting(hint)) as run:
        assert sorted((outcome.index, outcome.output) for outcome in run) == [
            (n, f"answer to {n}") for n in range(20)
        ]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_says_about_how_many_rows_it_has(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    lines = [json.dumps({"text": row}) for row in ALL] if kind == "jsonl" else ["text", *ALL]
    path.write_text("\n".join(lines))
    with closing(open_rows(str(path))) as rows:
        assert ROWS / 2 < length_hint(rows) < 2 * ROWS
        assert len(list(rows)) == length_hint(rows) == ROWS
