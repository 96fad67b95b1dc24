"""Our own modules as programs in processes of their own."""

from __future__ import annotations

import sys
from typing import Final

_BEGIN: Final = (
    "import runpy, sys; at = 2 + int(sys.argv[1]); sys.path[:] = sys.argv[2:at]; module = sys.argv[at];"
    " del sys.argv[1 : at + 1]; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def command(module: str, *words: str) -> list[str]:
    """What starts it. It finds modules where we do: a zipapp, shiv or a script may have added to `sys.path`."""
    # each entry is a word of its own: Linux takes no longer words than 128 kB
    path = [entry for entry in sys.path if isinstance(entry, str)]  # others are no entries
    return [sys.executable, "-P", "-c", _BEGIN, str(len(path)), *path, module, *words]
