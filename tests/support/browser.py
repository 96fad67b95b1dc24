"""A real Chromium, where there is one; tests that need it say why they are left out where there is none.

In CI they are never left out: they fail.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> str | None:
    """Why no browser can be driven here; None where one can."""
    if not any(map(shutil.which, _NAMES)):
        return "no Chromium is installed: apt-get install chromium"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install playwright"
    return None


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """A browser with these flags besides; or the test is left out, with the reason; in CI it fails with it."""
    if reason := missing():
        left_out = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        left_out(reason)
    from playwright.sync_api import sync_playwright

    path = next(path for name in _NAMES if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()
