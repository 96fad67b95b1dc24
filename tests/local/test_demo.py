"""The demo labels real sentences and counts honestly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from cottonpalm.cli.app import main
from cottonpalm.errors import ConfigError, LocalModelError
from cottonpalm.local import demo, fetch, reviews
from cottonpalm.types import ErrorRecord, Kind, Outcome

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def sentences() -> None:
    try:
        fetch.ensure(fetch.REVIEWS, quiet=True)
    except LocalModelError as error:
        pytest.skip(f"the sentences cannot be had here: {error}")


def test_the_set_holds_3708_sentences_and_the_demo_takes_the_same_clear_ones_every_time() -> None:
    assert len(reviews.read(fetch.ensure(fetch.REVIEWS))) == 3708
    rows = reviews.rows(100)
    assert rows == reviews.rows(100)
    assert len({row["id"] for row in rows}) == 100
    assert all(
        abs(row["rating"]) >= 1.5 and (row["rating"] > 0) == (row["label"] == "positive") for row in rows
    )


@pytest.mark.parametrize("n", [0, 100_000])
def test_more_sentences_than_there_are_is_one_line(n: int) -> None:
    with pytest.raises(ConfigError, match="the demo has 1 to 1762 sentences"):
        reviews.rows(n)


@pytest.mark.usefixtures("real_model")
def test_a_failed_row_is_not_right_and_the_baseline_is_of_the_rows_that_were_tried() -> None:
    parts = demo.demo_parts(5)
    error = ErrorRecord(Kind.FAIL_ROW, "ValueError", "no")
    right = [Outcome(i, "ok", row["label"]) for i, row in enumerate(parts.rows[:4])]
    score = parts.score([*right, Outcome(4, "failed", error=error)])
    assert (score.right, score.total) == (4, 5)
    assert score.baseline == max(sum(r["label"] == label for r in parts.rows) for label in reviews.LABELS)


@pytest.mark.usefixtures("real_model")
def test_real_sentences_get_a_label_each_from_the_real_model() -> None:
    parts = demo.demo_parts(8)
    prompt = ChatPromptTemplate.from_messages([("system", parts.system), ("human", parts.prompt)])
    chain = prompt | parts.model | StrOutputParser()
    answers = chain.batch(
        [{"text": row["text"]} for row in parts.rows], {"max_concurrency": parts.concurrency}
    )
    assert set(answers) <= set(reviews.LABELS)
    score = parts.score(Outcome(i, "ok", answer) for i, answer in enumerate(answers))
    assert score.total == 8
    assert "of 8 labels agree with the human ratings" in str(score)


@pytest.mark.usefixtures("real_model")
def test_the_demo_says_less_or_more_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--rows", "2", "--quiet"]) == 0
    quiet = capfd.readouterr().err
    assert main(["demo", "--rows", "2", "--verbose", "--no-progress"]) == 0
    assert len(quiet) < len(capfd.readouterr().err)
