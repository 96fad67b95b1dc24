"""Our own modules as programs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from cottonpalm.programs import command

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_program_has_our_path_however_long_it_is_and_whatever_is_in_its_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a:b, c"
    folder.mkdir()
    (folder / "says_its_words.py").write_text("import sys; print(sys.argv[1:], len(sys.path), __name__)")
    path = [f"/nowhere/{'x' * 90}{number}" for number in range(2_000)]
    monkeypatch.setattr("sys.path", ["", *path, str(folder)])
    done = subprocess.run(command("says_its_words", "--a", ""), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['--a', ''] 2002 __main__\n", "")
