"""The output file as such: is it ours, and how is it replaced in one step."""

from __future__ import annotations

import fcntl
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
from cottonpalm.cli.problems import Code, Problem, os_problem, shown
from cottonpalm.stores.rules.leniently import kept_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cottonpalm.protocols import RunStore

HEAD: Final = 256  # bytes at the beginning and...
TAIL: Final = 4096  # ...at the end by which a file is recognised
META: Final = "output "  # before the path: where the mark is kept among the run's own facts
OURS: Final = b'{"index":'  # how each line begins


@dataclass(slots=True)
class Mark:
    """What the run knows of the output it wrote, kept in the store.

    Attributes:
        path: absolute.
        size: bytes up to the end of the last line that is accounted for.
        head: the first bytes, as hex.
        tail: checksum of the last bytes before `size`.
        written: the slots whose lines lie before `size`, as ranges; None: not kept, look at the file.
        doubles: some rows may have two lines, of which the later one counts.
        moved: the lines' numbers are not the store's, since the input was edited.
        replacing: the file is being replaced; what stands there is ours, old or new.
        layout: which rows, in which order, a file written in one go holds.
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
        """The mark of this path, if the run has written there before."""
        kept = meta.get(META + path)
        return kept_as(cls, kept) if kept else None

    def keep(self, store: RunStore) -> None:
        """Put it into the store, durably."""
        store.set_meta(**{META + self.path: asdict(self)})

    def recognise(self, fd: int) -> None:
        """Remember by which bytes this file, whose first `size` bytes are ours, is known again."""
        self.head = os.pread(fd, min(HEAD, self.size), 0).hex()
        self.tail = _tail(fd, self.size)

    def state_of(self, fd: int, size: int) -> str:
        """`whole`, `short` (a part is missing), or `foreign`."""
        if self.replacing or size == 0:
            return "short"
        if not self.size:  # nothing was accounted for yet
            return "whole" if os.pread(fd, len(OURS), 0) == OURS else "foreign"
        head = bytes.fromhex(self.head)[:size]
        if os.pread(fd, len(head), 0) != head:
            return "foreign"
        if size < self.size:
            return "short"
        return "whole" if _tail(fd, self.size) == self.tail else "foreign"


def examine(path: str, mark: Mark | None, overwrite: bool) -> str:
    """What is there: `new` (nothing, or to be written anew), `whole` (ours) or `short` (ours, with a part missing).

    Raises:
        Problem: a file that this run did not write stands there, and `overwrite` was not said.
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
    """Whether something that we did not write follows what we did.

    What is written in one step ends there. Lines of JSON are appended: a torn one is no one else's.
    """
    file.seek(at)
    if not format_of(path, "output").appends:
        return bool(file.read(1))
    return any(line.endswith(b"\n") and not line.startswith((OURS, b"\0")) for line in file)


def refusal(path: str, mark: Mark | None) -> str:
    """What is said of a file that is not this run's, or not any more."""
    if mark is None:
        mend = "choose another -o, or say --overwrite to replace it"
        return f"{shown(path)} exists and was not written by this run; {mend}"
    return f"{shown(path)} was changed since this run wrote it; move it away, or say --overwrite to write it anew"


def _tail(fd: int, size: int) -> int:
    first = max(0, size - TAIL)
    return zlib.crc32(os.pread(fd, size - first, first))


def is_stream(path: str) -> bool:
    """Standard output, a pipe or a device: can only be written to the end."""
    try:
        return path == "-" or not stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def probe(path: str) -> None:
    """Make sure that the output's folder can be written, before any call is made.

    Raises:
        Problem: it cannot, and why.
    """
    try:
        fd, part = _new_part(path)
        os.close(fd)
        part.unlink()
    except OSError as error:
        raise os_problem("write", path, error) from error


def _new_part(path: str) -> tuple[int, Path]:
    """A file of our own beside `path`, locked while it is written; those that killed processes left go."""
    target = Path(path)
    begin = f".{target.name[:200]}."
    for left in target.parent.glob(f"{escape(begin)}*.part"):
        _sweep(left)
    part = target.with_name(f"{begin}{secrets.token_hex(4)}.part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd, part


def _sweep(part: Path) -> None:
    """Delete it, if nobody writes it."""
    with suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def _sync_folder(path: str) -> None:
    """Make a new name durable."""
    with suppress(OSError):  # not every file system knows this
        fd = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, whole and durable, when the block ends well; else nothing changed.

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
