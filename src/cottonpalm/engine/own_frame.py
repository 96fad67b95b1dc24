"""Finds where in the user's own code an exception came from: the last frame that is neither a library's nor ours."""

from __future__ import annotations

import linecache
import os
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cottonpalm.redact import redact

if TYPE_CHECKING:
    from types import TracebackType

DEPTH: Final = 16  # the most causes that are followed from one exception
LINE_CHARS: Final = 160


def own_frame(exc: BaseException | None) -> str | None:
    """Return `file:line, in function: source line`; None where no code of the user's own was under way."""
    for _ in range(DEPTH):
        if exc is None:
            return None
        if (found := _last_own(exc.__traceback__)) is not None:
            return found
        exc = exc.__cause__ or exc.__context__
    return None


def _last_own(begin: TracebackType | None) -> str | None:
    found = None
    for frame, number in traceback.walk_tb(begin):
        if _is_own(frame.f_code.co_filename):
            found = (frame.f_code.co_filename, number, frame.f_code.co_name)
    if found is None:
        return None
    file, number, name = found
    line = redact(linecache.getline(file, number).strip())[:LINE_CHARS]
    return f"{_short(file)}:{number}, in {name}{f': {line}' if line else ''}"


def _is_own(file: str) -> bool:
    return not file.startswith("<") and not file.startswith(_others())


@cache
def _others() -> tuple[str, ...]:
    """The folders of Python, of installed packages, and of cottonpalm."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*(str(Path(path)) + os.sep for path in found), str(Path(__file__).parents[1]) + os.sep)


def _short(file: str) -> str:
    here = os.getcwd() + os.sep  # noqa: PTH109 - compared as text
    return file.removeprefix(here)
