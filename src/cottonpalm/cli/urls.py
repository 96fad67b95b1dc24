"""Addresses of files elsewhere, and what of them may be shown and kept: never a password, never a signature."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://")


def is_url(path: str) -> bool:
    """Whether this is an address (`https://…`, `s3://…`) and no path."""
    return SCHEME.match(path) is not None


def local_path(path: str) -> str:
    """The path of a `file://` address; everything else as it is."""
    if not path.lower().startswith("file://"):
        return path
    return unquote(urlsplit(path).path)


def absolute(path: str) -> str:
    """The path to keep: links followed, so that replacing the file does not replace a link. `-` and addresses stay."""
    path = local_path(path)
    return path if path == "-" or is_url(path) else os.path.realpath(path)


def without_secrets(url: str) -> str:
    """An address without user, password, signature and fragment; a path as it is."""
    if not is_url(url):
        return url
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    kept = path if scheme.lower() == "memory" else re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{kept}"


def has_secrets(url: str) -> bool:
    """Whether an address may hold more than may be kept."""
    return without_secrets(url) != url


def file_name(path: str) -> str:
    """The last part of a path or an address."""
    return PurePosixPath(without_secrets(path)).name if is_url(path) else os.path.basename(path)  # noqa: PTH119
