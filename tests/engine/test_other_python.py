"""A run goes on in another process, under another Python, with its rows moved; a changed chain is refused there too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import ROOT, Loopback
from tests.support.transport import python_path


def second_python() -> str | None:
    """An interpreter of another minor version with the same packages: one that is named, or the one beside ours."""
    beside = (Path(ROOT) / name / "bin" / "python" for name in (".venv", ".venv-3.13"))
    named = os.environ.get("COTTONPALM_OTHER_PYTHON")
    found = [named] if named else [str(path) for path in beside if path.exists()]
    return next((python for python in found if version(python) != version(sys.executable)), None)


def version(python: str) -> str:
    said = "import sys; print(sys.version_info[:2])"
    return subprocess.run([python, "-c", said], capture_output=True, text=True, check=True).stdout


OTHER = second_python()
PROMPT = "{x}"
pytestmark = pytest.mark.skipif(
    OTHER is None, reason="no second Python: COTTONPALM_OTHER_PYTHON may name one"
)


def resumed(
    python: str, store: Path, url: str, rows: list[Any], *, model: str = "small", prompt: str = PROMPT
) -> Any:
    done = subprocess.run(  # noqa: PLW1510 - its errors are shown below
        [python, "-m", "tests.engine.resumed", str(store), url, model, prompt],
        input=json.dumps(rows), capture_output=True, text=True, timeout=100,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": python_path(Path(ROOT) / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def row(number: int) -> dict[str, str]:
    return {"x": f"row {number}"}


def test_rows_put_in_front_moved_or_taken_away_are_neither_paid_again_nor_mixed_up(tmp_path: Path) -> None:
    assert OTHER is not None
    first = [row(number) for number in range(20)]
    moved = [row(100), row(101), *reversed(first[3:]), row(102)]
    with Loopback() as server:
        before = resumed(sys.executable, tmp_path / "s.db", server.openai_url, first)
        after = resumed(OTHER, tmp_path / "s.db", server.openai_url, moved)
        again = resumed(sys.executable, tmp_path / "s.db", server.openai_url, [moved[1], *first, moved[-1]])
        assert server.counts == {f"row {number}": 1 for number in (*range(20), 100, 101, 102)}
    assert after[2:-1] == before[:2:-1]
    assert again == [after[1], *before, after[-1]]
    assert len({*before, *after}) == 23


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"prompt": "Say {x}"}, "ChatPromptTemplate"), ({"model": "large"}, "ChatOpenAI")],
    ids=["prompt", "model"],
)
def test_another_prompt_or_model_is_refused_with_its_name(
    changed: dict[str, str], named: str, tmp_path: Path
) -> None:
    assert OTHER is not None
    with Loopback() as server:
        resumed(sys.executable, tmp_path / "s.db", server.openai_url, [row(1)])
        refused = resumed(OTHER, tmp_path / "s.db", server.openai_url, [row(1), row(2)], **changed)
        assert server.counts == {"row 1": 1}
    assert named in refused
    assert next(iter(changed.values())) in refused
