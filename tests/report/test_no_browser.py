"""Where no browser can be had, the tests of pages say so, and in CI they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.browser import chromium, missing


@pytest.mark.parametrize(("ci", "ends"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser_the_tests_of_pages_fail_in_ci_and_are_left_out_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, ends: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    assert missing() is not None
    with pytest.raises(ends, match="apt-get install chromium"), chromium():
        pass


def test_the_checks_of_the_repository_count_as_ci() -> None:
    assert "export CI=true" in (Path(__file__).parents[2] / ".ci" / "run").read_text()
