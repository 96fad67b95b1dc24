"""Every example runs, and says what it is there to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT
from tests.docs.reading import model_is_there, type_in

if TYPE_CHECKING:
    from pathlib import Path

SAYS = {
    "faults.py": [
        "first: 'at last' after 5 requests",
        "second: fail_row, OpenAIInvalidRequestError",
        "third: 'answer to: third' after 1 requests",
    ],
    "resume.py": ["0 were stored already, 3 seen", "10 were stored already, 0 seen"],
    "stream.py": ["0: one at a time", "1: and all at once"],
    "label_reviews.py": ["of 12 agree with people"],
}
NEED_THE_MODEL = {"label_reviews.py"}


def test_every_example_is_known_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(set(SAYS) - NEED_THE_MODEL))
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    said = type_in(f"python -W error {ROOT / 'examples' / name}", tmp_path)
    for words in SAYS[name]:
        assert words in said, said
    assert "Traceback" not in said, said


def test_the_labels_of_a_second_run_come_from_the_store(tmp_path: Path) -> None:
    if not model_is_there():
        pytest.skip("the embedded model is not in the cache")
    name = "label_reviews.py"
    for stored in (0, 12):
        said = type_in(f"python {ROOT / 'examples' / name}", tmp_path)
        assert SAYS[name][0] in said, said
        assert f"{stored} came from the store" in said, said
