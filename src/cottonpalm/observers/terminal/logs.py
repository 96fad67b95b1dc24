"""What the user's own code logs while a display is redrawn: above it, as what is printed."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.live import Live


@contextmanager
def shown(display: Live) -> Iterator[None]:
    """Show a display; whatever logs to the terminal logs above it meanwhile.

    The display takes the place of `sys.stderr` and `sys.stdout`. A handler that was made before holds what stood there,
    and would write into the display, which is then drawn over its line.
    """
    before = sys.stderr, sys.stdout
    display.start()
    moved = []
    for old, new in zip(before, (sys.stderr, sys.stdout), strict=True):
        moved += [(handler, old) for handler in _handlers(old) if handler.setStream(new) is old]
    try:
        yield
    finally:
        display.stop()
        for handler, old in moved:
            handler.setStream(old)


def _handlers(stream: object) -> list[logging.StreamHandler[Any]]:
    """Those that write to this stream, of all loggers."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {
        handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers
    }
    return [
        handler
        for handler in handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream
    ]
