"""What a few rows say about all of them: the ranges hold what they promise."""

from __future__ import annotations

from random import Random

import pytest

from cottonpalm.engine.input.keys import Distinct
from cottonpalm.planning.estimate import Range, tokens_of, total

SHAPES = {
    "even": lambda rng: rng.uniform(0.5, 1.5),
    "long tail": lambda rng: rng.lognormvariate(0, 1),
    "two kinds": lambda rng: 10.0 if rng.random() < 0.1 else 1.0,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_at_least_nine_in_ten_ranges_hold_the_truth(shape: str) -> None:
    rng, held = Random(11), 0
    for _ in range(400):
        costs = [SHAPES[shape](rng) for _ in range(1_000)]
        rng.shuffle(costs)
        ahead = total(costs[:50], 950)
        held += ahead.low <= sum(costs[50:]) <= ahead.high
    assert held >= 360


def test_equal_rows_leave_no_doubt_and_one_row_leaves_all() -> None:
    assert total([2.0] * 5, 10) == Range(20.0, 20.0, 20.0)
    assert total([2.0], 10) == Range(0.0, 20.0, float("inf"))
    assert total([2.0], 0) == Range(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="nothing"):
        total([], 3)


@pytest.mark.parametrize(
    ("text", "counts"),  # by the tokenizers o200k and cl100k
    [
        ("The quick brown fox jumps over the lazy dog. " * 4, (41, 41)),
        ('{"id": 17, "price": 3.25, "tags": ["a", "b"], "ok": true}', (28, 28)),
        ("今天天气很好，我们去公园散步吧。", (12, 20)),  # noqa: RUF001 - Chinese has commas of its own
        ("Сегодня хорошая погода, и мы идём гулять в парк.", (15, 27)),
        ("1.25,3.75,88.01,19.3\n" * 3, (48, 48)),
    ],
)
def test_the_range_of_a_text_holds_its_tokens(text: str, counts: tuple[int, int]) -> None:
    low, likely, high = tokens_of(text)
    assert low <= min(counts)
    assert max(counts) <= high
    assert low < likely < high


def test_repeats_are_counted_exactly_while_they_are_few_and_fairly_beyond() -> None:
    rows = [(n % 3_000).to_bytes(8, "big") for n in range(4_000)]
    keys = [bytes(Random(row).randbytes(16)) for row in rows]
    exact, sampled = Distinct(), Distinct(most=500)
    for key in keys:
        exact.add(key)
        sampled.add(key)
    assert (exact.repeats, exact.exact) == (1_000, True)
    assert not sampled.exact
    assert 700 < sampled.repeats < 1_300
