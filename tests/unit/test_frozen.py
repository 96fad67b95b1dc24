"""What a program frozen by PyInstaller has to have in it. PyInstaller itself is not installed here."""

from __future__ import annotations

import runpy
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from cottonpalm._pyinstaller import hook_dirs
from tests.support.loopback import ROOT

if TYPE_CHECKING:
    import pytest


def test_the_hook_adds_our_pages_and_the_release_of_the_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = ModuleType("PyInstaller.utils.hooks")
    helpers.collect_data_files = lambda package: [("files of", package)]  # type: ignore[attr-defined]
    helpers.copy_metadata = lambda package: [("release of", package)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyInstaller", ModuleType("PyInstaller"))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils", ModuleType("PyInstaller.utils"))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", helpers)
    (folder,) = hook_dirs()
    hook = runpy.run_path(str(Path(folder) / "hook-cottonpalm.py"))
    assert hook["datas"] == [("files of", "cottonpalm"), ("release of", "genai-prices")]


def test_pyinstaller_is_told_where_the_hook_is() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert groups["pyinstaller40"] == {"hook-dirs": f"{hook_dirs.__module__}:{hook_dirs.__name__}"}
