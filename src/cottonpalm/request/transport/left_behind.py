"""What is logged of work that a row left behind, as LangChain leaves the branches of a stream that is read no further.

Its requests are refused with RowClosed, as they should be, and nobody is there to hear it. So asyncio would log an
error with its traceback for each of them, and LangChain a warning; neither is news to anybody.
"""

from __future__ import annotations

import logging
from typing import Final

from cottonpalm.runtime.wait_queue import RowClosed

_LOGGERS: Final = ("asyncio", "langchain_core.callbacks.manager")


def install() -> None:
    """Keep these records out of both logs. A logger has a filter only once, however often it is added."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it tells of anything but a refusal of ours; LangChain gives the error as text."""
    error = record.exc_info[1] if record.exc_info else None
    told = record.args if isinstance(record.args, tuple) else ()
    refused = f"{RowClosed.__name__}("
    return not (isinstance(error, RowClosed) or any(str(each).startswith(refused) for each in told))
