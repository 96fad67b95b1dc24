"""Our own modules as programs in processes of their own."""

from __future__ import annotations

import os
import sys
from typing import Final

_BEGIN: Final = (
    "import os, runpy, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep);"
    " runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *words: str) -> list[str]:
    """What starts it. It finds modules where we do: a zipapp, shiv or a script may have added to `sys.path`."""
    path = os.pathsep.join(entry for entry in sys.path if isinstance(entry, str))  # others are no entries
    return [sys.executable, "-P", "-c", _BEGIN, path, module, *words]
