"""Shows a fetch: a bar in a terminal, a few plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cottonpalm.local.assets import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """Where a fetch is shown."""

    def say(self, line: str) -> None:
        """Show one line."""

    def bar(self, total_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a download; the function takes the bytes that have come so far."""


class Silent:
    """Shows nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, total_bytes: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 - the protocol's
        """Nothing."""
        yield lambda _: None


class Lines:
    """Plain lines on stderr: at the start and at each quarter."""

    def say(self, line: str) -> None:
        """One line."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    @contextmanager
    def bar(self, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A line a quarter of the way."""
        quarters = 0

        def advance(done_bytes: int) -> None:
            nonlocal quarters
            if (reached := 4 * done_bytes // total_bytes) > quarters:
                quarters = reached
                self.say(f"  {done_bytes / MEGABYTE:.0f} of {total_bytes / MEGABYTE:.0f} MB")

        yield advance


class Bar(Lines):
    """Shows a bar in the terminal."""

    @contextmanager
    def bar(self, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A bar that leaves nothing behind."""
        from rich.console import Console  # noqa: PLC0415 - only who sees a bar pays for it
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task("", total=total_bytes)
            yield lambda done_bytes: shown.update(task, completed=done_bytes)


def progress_for(*, quiet: bool) -> Progress:
    """Return the display for this process's stderr."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()
