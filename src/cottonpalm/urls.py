"""Addresses of files, and the part of them that may be shown and stored: never a password, never a signature."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://")


def is_url(path: str) -> bool:
    """Whether this is an address (`https://…`, `s3://…`) and not a path."""
    return SCHEME.match(path) is not None


def local_path(path: str) -> str:
    """Return the path of a `file://` address; any other text as it is."""
    if not path.lower().startswith("file://"):
        return path
    return unquote(urlsplit(path).path)


def absolute(path: str) -> str:
    """Return the absolute path with links resolved, so that we never replace a link. `-` and addresses stay."""
    path = local_path(path)
    if path == "-" or is_url(path):
        return path
    real = os.path.realpath(path)
    # of a pipe (`/dev/stdout`, `<(…)`) the link names no file: only the link itself can be opened
    is_pipe = Path(path).exists() and not Path(real).exists()
    return str(Path(path).absolute()) if is_pipe else real


def in_memory(store: str | Path) -> bool:
    """Whether this is the address of a store in memory."""
    return str(store) in ("memory:", "memory://", ":memory:")


def whole_path(store: str | Path) -> str | Path:
    """Return a store's file by its whole path: the process may go to another folder. Other addresses stay."""
    text = str(store).removeprefix("sqlite:///")
    if in_memory(store) or is_url(text):
        return store
    return str(Path(text).expanduser().absolute())


def without_secrets(url: str) -> str:
    """Return an address without user, password, signature and fragment; a path as it is."""
    if not is_url(url):
        return url
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    kept = path if scheme.lower() == "memory" else re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{kept}"


def has_secrets(url: str) -> bool:
    """Whether an address may hold a part that must not be stored."""
    return without_secrets(url) != url


def file_name(path: str) -> str:
    """Return the last part of a path or an address."""
    return PurePosixPath(without_secrets(path)).name if is_url(path) else os.path.basename(path)  # noqa: PTH119


def shown(path: str) -> str:
    """Show a path as short as possible from this folder; an address without its secrets."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - compared as text
    return without_secrets(path.removeprefix(here))
