"""Locks of files by what the system has: `fcntl` on Linux and macOS, `msvcrt` on Windows; and flags it may lack.

A lock ends with its process, however that dies. Where a system or a file system has none, the answer is None, and the
caller goes by signs of life.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

fcntl: ModuleType | Any
msvcrt: ModuleType | Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None

PLAIN: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
WINDOWS: Final = sys.platform == "win32"
WHOLE: Final = 1 << 62  # the byte that stands for a whole file: far behind its end


def lock_byte(fd: int, at: int, *, shared: bool = False) -> bool | None:
    """Take a lock on one byte of a file, without waiting.

    Args:
        fd: of the file, opened for reading and writing.
        at: the byte; it need not exist.
        shared: only look whether another process has it, where that is possible without taking it.

    Returns:
        True: we have it. False: another process has it. None: there are no locks here.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, at)
        elif msvcrt is not None:
            os.lseek(fd, at, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            return None
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def unlock_byte(fd: int, at: int) -> None:
    """Give the lock back."""
    try:
        if fcntl is not None:
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, at)
        elif msvcrt is not None:
            os.lseek(fd, at, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
    except OSError:
        return


def lock_file(fd: int, *, wait: bool = False) -> bool | None:
    """Take the lock of a whole file, which ends when its descriptor is closed; the answer is that of `lock_byte`."""
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        elif msvcrt is not None:
            os.lseek(fd, WHOLE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            return None
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def read_at(fd: int, size: int, at: int) -> bytes:
    """Read so many bytes from a place of a file."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, at)
    before = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        os.lseek(fd, at, os.SEEK_SET)
        return os.read(fd, size)
    finally:
        os.lseek(fd, before, os.SEEK_SET)
