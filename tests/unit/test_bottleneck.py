"""What bound a run, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.observers.words.bottleneck import bound_by

if TYPE_CHECKING:
    from cottonpalm.types import Bottleneck


@pytest.mark.parametrize(
    ("states_s", "cpu_s", "said"),
    [
        (
            {"concurrency": 92.0},
            5.0,
            ["The limit on requests in flight (40 at the end) bound 92 % of the run."],
        ),
        ({"reader": 50.0, "concurrency": 30.0, "tail": 15.0}, 5.0, ["For 50 %", "The limit on"]),
        ({"pause": 200.0}, 0.0, ["Waits after rejections covered 100 %"]),
        ({"cap": 60.0}, 95.0, ["For 95 % of the run this process's own CPU", "Your own limit"]),
        ({"tail": 99.4}, 0.0, ["For 99.4 % of the run"]),
        ({"": 99.0, "concurrency": 1.0}, 3.0, ["Nothing held the run back"]),
        ({}, 0.0, ["Nothing held the run back"]),
    ],
)
def test_what_took_the_longest_is_said_first(
    states_s: dict[Bottleneck, float], cpu_s: float, said: list[str]
) -> None:
    found = bound_by(states_s, 100.0, cpu_s, 40.0)
    assert len(found) == len(said)
    for sentence, begins in zip(found, said, strict=True):
        assert sentence.startswith(begins)


@pytest.mark.parametrize(
    ("states_s", "wall_s", "said"),
    [
        ({"tail": 1.17, "": 0.01}, 1.2, "All its rows were under way from the start."),
        ({"tail": 99.6}, 100.0, "All its rows were under way from the start."),
        ({"tail": 0.3, "": 0.3}, 0.6, "For 50 % of the run only its last rows were under way."),
        ({"tail": 0.55, "pace": 0.02}, 0.6, "For 92 % of the run only its last rows were under way."),
    ],
)
def test_a_run_of_a_few_rows_has_no_last_ones(
    states_s: dict[Bottleneck, float], wall_s: float, said: str
) -> None:
    """What opening it and ending it takes is no time in which others could have been under way."""
    assert bound_by(states_s, wall_s, 0.0, 10.0) == (said,)


def test_the_cpu_of_a_moment_tells_nothing() -> None:
    assert bound_by({}, 0.003, 0.003, 1.0) == ("Nothing held the run back for long.",)


def test_a_run_of_no_time_was_bound_by_nothing() -> None:
    assert bound_by({"concurrency": 1.0}, 0.0, 0.0, 1.0) == ()
