"""Shows on the command's screen what is logged and nobody else takes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cottonpalm.cli.screen.screen import Screen


class OnScreen(logging.Handler):
    """Says it in the words of the command line, above the display, and without control characters."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        from cottonpalm.cli.screen.wording import here

        said = here(record.getMessage())
        if record.levelno < logging.ERROR:
            self._screen.warn(said)
            return
        self._screen.error(said)
        if record.exc_info and record.exc_info[1] is not None:
            self._screen.traceback(record.exc_info[1])
