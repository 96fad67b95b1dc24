"""Systems without what Linux has: the modules, flags and signals are taken away, and a run works all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from cottonpalm import locks
from tests.cli.conftest import lines, rows

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.loopback import Loopback

POORER = """
import asyncio, os, signal, subprocess, sys
import langchain_openai  # others' code may need what Linux has
sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them fails from here on
for module, names in ((os, ("pread", "register_at_fork", "O_CLOEXEC", "O_DIRECTORY")), (signal, ("SIGALRM", "alarm"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from cottonpalm.cli.app import main
sys.exit(main())
"""


def test_without_fcntl_and_its_like_a_run_is_kept_goes_on_and_is_held(folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 3)
    model = ["--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "{text}", "-q"]
    for output in ("out.jsonl", "out.csv"):
        for limit in (["--limit", "2"], []):
            words = ["run", "in.jsonl", "-o", output, "--run", output, *limit, *model]
            command = [sys.executable, "-c", POORER, *words]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
    assert server.requests == 6
    assert [line["index"] for line in lines(folder / "out.jsonl")] == [0, 1, 2]


class Msvcrt:
    """The part of Windows' module that is used, over what this system has."""

    LK_NBLCK, LK_LOCK, LK_UNLCK = 2, 1, 0

    def __init__(self, real: object) -> None:
        self.real = real

    def locking(self, fd: int, how: int, size: int) -> None:
        at = os.lseek(fd, 0, os.SEEK_CUR)
        kinds = {
            self.LK_NBLCK: 6,
            self.LK_LOCK: 2,
            self.LK_UNLCK: 8,
        }  # exclusive and at once, exclusive, free
        self.real.lockf(fd, kinds[how], size, at)  # type: ignore[attr-defined]


HOLDS = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1, 7)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_byte_of_a_file_is_locked_where_windows_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(locks, "msvcrt", Msvcrt(locks.fcntl))
    monkeypatch.setattr(locks, "fcntl", None)
    fd = os.open(path, os.O_RDWR)
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert locks.lock_byte(fd, 7) is False
        assert locks.lock_byte(fd, 8) is True
        other.communicate(b"")
    assert locks.lock_byte(fd, 7) is True
    locks.unlock_byte(fd, 7)
    monkeypatch.setattr(locks, "msvcrt", None)
    assert locks.lock_byte(fd, 7) is None
    assert locks.lock_file(fd) is None
    os.close(fd)


def test_a_place_of_a_file_is_read_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)
    monkeypatch.delattr(os, "pread")
    assert locks.read_at(fd, 3, 1) == b"123"
    assert os.read(fd, 2) == b"45"
    os.close(fd)
