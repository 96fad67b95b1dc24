"""The output file: checks whether this run wrote it, and replaces it in one step."""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm.cli.files.formats import format_of
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.locks import PLAIN, WINDOWS, lock_file, read_at
from cottonpalm.shell import Code
from cottonpalm.stores.rules.leniently import kept_as
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cottonpalm.protocols import RunStore

HEAD: Final = 256  # we recognise a file by so many bytes at its beginning and...
TAIL: Final = 4096  # ...so many at its end
META: Final = "output "  # the mark's key among the run's own facts is this, followed by the path
OURS: Final = b'{"index":'  # each of our lines begins with this


@dataclass(slots=True)
class Mark:
    """What the run knows about the output it wrote. The store keeps it.

    Attributes:
        path: the absolute path.
        size: bytes up to the end of the last line that the mark covers.
        head: the first bytes, as hex.
        tail: checksum of the last bytes before `size`.
        written: the slots whose lines lie before `size`, as ranges; None: not kept, so read the file.
        doubles: True: some rows may have two lines, of which the later one counts.
        moved: True: the lines' numbers are not the store's, since the input was edited.
        replacing: True: the file was being replaced, so the old and the new file are both ours.
        layout: for a file written in one go: which rows it holds, in which order, and how it is written.
        seq: every outcome up to this number is in the file; -1: not known, look at each row.
    """

    path: str
    size: int = 0
    head: str = ""
    tail: int = 0
    written: list[list[int]] | None = field(default_factory=list)
    doubles: bool = False
    moved: bool = False
    replacing: bool = False
    layout: str = ""
    seq: int = -1

    @classmethod
    def of(cls, meta: Mapping[str, Any], path: str) -> Mark | None:
        """Return the mark of this path, if the run has written there before."""
        kept = meta.get(META + path)
        return kept_as(cls, kept) if kept else None

    def keep(self, store: RunStore) -> None:
        """Write the mark into the store, durably."""
        store.set_meta(**{META + self.path: asdict(self)})

    def recognise(self, fd: int) -> None:
        """Remember the bytes by which we recognise this file, whose first `size` bytes are ours."""
        self.head = read_at(fd, min(HEAD, self.size), 0).hex()
        self.tail = _tail(fd, self.size)

    def state_of(self, fd: int, size: int) -> str:
        """Return `whole`, `short` (a part is missing), or `foreign`."""
        if self.replacing or size == 0:
            return "short"
        if not self.size:  # the mark covers nothing yet
            return "whole" if read_at(fd, len(OURS), 0) == OURS else "foreign"
        head = bytes.fromhex(self.head)[:size]
        if read_at(fd, len(head), 0) != head:
            return "foreign"
        if size < self.size:
            return "short"
        return "whole" if _tail(fd, self.size) == self.tail else "foreign"


def examine(path: str, mark: Mark | None, overwrite: bool) -> str:
    """Say what is at the path: `new` (nothing, or to be replaced), `whole` (ours) or `short` (ours, a part is missing).

    Raises:
        Problem: there is a file that this run did not write, and `overwrite` is False.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            state = mark.state_of(file.fileno(), size) if mark else "foreign" if size else "new"
            if mark is not None and state == "whole" and _was_added_to(file, path, mark.size):
                state = "foreign"
    except FileNotFoundError:
        return "short" if mark else "new"
    except OSError as error:
        raise os_problem("read the output", path, error) from error
    if state == "foreign" and not overwrite:
        raise Problem(refusal(path, mark))
    return "new" if state == "foreign" else state


def _was_added_to(file: BinaryIO, path: str, at: int) -> bool:
    """Whether another program has appended something to what we wrote.

    A file that we write in one step must end where we ended. We append lines of JSON, so a torn line is our own.
    """
    file.seek(at)
    if not format_of(path, "output").appends:
        return bool(file.read(1))
    return any(line.endswith(b"\n") and not line.startswith((OURS, b"\0")) for line in file)


def claim(fd: int, path: str) -> None:
    """Keep all others from writing this file until the descriptor is closed.

    Raises:
        Problem: another process, or another run of this one, is writing it.
    """
    if lock_file(fd) is False:
        raise Problem(
            f"{shown(path)} is being written by another run: wait for it or stop it, or choose another -o"
        )


def refusal(path: str, mark: Mark | None) -> str:
    """Return the message for a file that this run did not write, or that was changed since."""
    if mark is None:
        mend = "choose another -o, or say --overwrite to replace it"
        return f"{shown(path)} exists and was not written by this run; {mend}"
    return f"{shown(path)} was changed since this run wrote it; move it away, or say --overwrite to write it anew"


def _tail(fd: int, size: int) -> int:
    first = max(0, size - TAIL)
    return zlib.crc32(read_at(fd, size - first, first))


def is_stream(path: str) -> bool:
    """Whether it is standard output, a pipe or a device, to which one can only append."""
    try:
        return path == "-" or not (stat.S_ISREG(mode := Path(path).stat().st_mode) or stat.S_ISDIR(mode))
    except OSError:
        return False


def is_same(path: str, other: str) -> bool:
    """Whether both are one file or pipe, by whatever names; `-` is standard output, as `/dev/stdout` is."""
    with suppress(OSError):
        return os.path.samestat(*(os.stat(1 if each == "-" else each) for each in (path, other)))  # noqa: PTH116
    return path == other


def probe(path: str) -> None:
    """Check that the output's folder can be written, before any call is made.

    Raises:
        Problem: it cannot be written; the message says why.
    """
    try:
        fd, part = _new_part(path)
        os.close(fd)
        part.unlink(missing_ok=True)  # it is locked no more, so another process may sweep it away
    except OSError as error:
        raise os_problem("write", path, error) from error


def _new_part(path: str) -> tuple[int, Path]:
    """A file of our own beside `path`, locked while it is written; those that killed processes left go."""
    target = Path(path)
    begin = f".{target.name[:200]}."
    for left in target.parent.glob(f"{escape(begin)}*.part"):
        _sweep(left)
    while True:
        part = target.with_name(f"{begin}{secrets.token_hex(4)}.part")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN, 0o666)
        lock_file(fd, wait=True)
        if part.exists():
            break
        os.close(fd)  # another process, which begins now too, swept it away before it was locked
    with suppress(OSError):  # a file that is replaced keeps its permissions; a new one has the usual ones
        part.chmod(stat.S_IMODE(target.stat().st_mode))
    return fd, part


def _sweep(part: Path) -> None:
    """Delete it, unless a process is writing it."""
    with suppress(OSError):
        with part.open("rb") as file:
            free = lock_file(file.fileno())
            if free and not WINDOWS:  # which deletes no open file
                part.unlink()
        if free and WINDOWS:
            part.unlink()


def _sync_folder(path: str) -> None:
    """Make a new name durable."""
    with suppress(OSError):  # not every file system knows this
        fd = os.open(Path(path).parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path`, durably and in one step, if the block ends well; else `path` stays as it is.

    Raises:
        Problem: it cannot be written, with exit code 4 (the results are safe in the store).
    """
    try:
        fd, part = _new_part(path)
        with os.fdopen(fd, "w+b", buffering=1 << 18) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
                _sync_folder(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise os_problem("write", path, error, Code.STOPPED) from error
