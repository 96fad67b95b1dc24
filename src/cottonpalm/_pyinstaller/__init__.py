"""Where PyInstaller finds our hook: it asks the entry point `pyinstaller40` of each installed package."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folders with hooks, as PyInstaller takes them."""
    return [str(Path(__file__).parent)]
