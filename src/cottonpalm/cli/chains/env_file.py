"""The providers' keys: from the environment, and those that are not set there from a `.env` in the command's folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cottonpalm.cli.chains.models import PROVIDERS
from cottonpalm.cli.readers.encodings import marked

LINE: Final = re.compile(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*")
NAME: Final = ".env"


def take_keys(folder: str) -> str | None:
    """Put the providers' keys and addresses of the file into the environment; return what to say of it.

    Those that are there lose what is blank round them: no header can carry it, and no key has it.
    """
    wanted = {name for known in PROVIDERS.values() for name in (*known.keys, *known.urls)}
    os.environ.update({name: os.environ[name].strip() for name in wanted & os.environ.keys()})
    try:
        data = (Path(folder) / NAME).read_bytes()
        text = data.decode(marked(data) or "utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    found = [(match[1], _bare(match[2])) for line in text.splitlines() if (match := LINE.fullmatch(line))]
    taken = {name: value for name, value in found if name in wanted and value and not os.environ.get(name)}
    os.environ.update(taken)
    return f"{', '.join(taken)} from {NAME}" if taken else None


def _bare(value: str) -> str:
    """The value without quotes and what is blank within them, or without the comment behind it."""
    if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
        return value[1 : value.find(value[0], 1)].strip()
    return value.partition(" #")[0].strip()
