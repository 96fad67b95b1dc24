"""The rescue file: outcomes that the store did not take, until the next process that opens their run takes them in.

It holds lines of JSON. One that names the run stands before each group, so that nothing of another run is taken for its
own; a line that a crash cut short is no row, and is left out.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from cottonpalm.locks import PLAIN
from cottonpalm.protocols import Spent, StoredRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("cottonpalm")

# In a folder that others may write, a link could lead anywhere, and a pipe would be waited for.
_SAFE: Final = PLAIN | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Rescued(NamedTuple):
    """What a rescue file holds.

    Attributes:
        rows: in the order in which they were written.
        spent: what the run had spent by then, with all steps; None: nothing is said of it.
    """

    rows: list[StoredRow]
    spent: Spent | None


class RescueFile:
    """That of one run, whose lease its user holds. It is in the first of a few places that could be written.

    Args:
        folders: where it may be, the best place first.
        number: the run's, in its store.
        name: the run's name.
        created: when the run began: one that was removed, or begun afresh, leaves nothing to the next of its name.
    """

    def __init__(self, folders: Sequence[Path], number: int, name: str, created: float) -> None:
        self._run = {"rescued": 1, "run": name, "number": number, "created": created}
        mark = blake2b(orjson.dumps(self._run), digest_size=10).hexdigest()
        self._paths = tuple(folder / f"cottonpalm-rescue-{mark}.jsonl" for folder in folders)

    def put(self, rows: Sequence[StoredRow], spent: Spent | None) -> Path:
        """Keep a group durably; return the file that holds it, or the last part of it.

        Raises:
            OSError: no place has room for all of it; what there was room for is kept.
        """
        try:
            return self._put(rows, spent)
        except OSError:
            if len(rows) < 2:
                raise
        half = len(rows) // 2
        try:
            self.put(rows[:half], None)
        finally:
            last = self.put(rows[half:], spent)
        return last

    def _put(self, rows: Sequence[StoredRow], spent: Spent | None) -> Path:
        lines = [self._run, *map(_of_row, rows), *([] if spent is None else [{"spent": list(spent)}])]
        block = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        trouble = OSError("there is no place for it")
        with suppress(OSError):
            _state().mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._paths:
            try:
                _append(path, block)
            except OSError as exc:
                trouble = exc
            else:
                return path
        raise trouble

    def read(self) -> Rescued:
        """Return what is kept, in all places."""
        rows, spent = list[StoredRow](), list[Spent]()
        for line in self._lines():
            if (row := _row(line)) is not None:
                rows.append(row)
            elif (said := _spent(line)) is not None:
                spent.append(said)
        return Rescued(rows, _summed(spent))

    def remove(self) -> None:
        """Delete it: all that it held is stored, or belongs to nothing any more. What was not taken in stays."""
        for path in self._paths:
            with suppress(OSError):
                _check_own(path.lstat(), path)
                path.unlink()

    def _lines(self) -> Iterator[Any]:
        ours = False
        for path in self._paths:
            for text in _own(path).splitlines():
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(line, dict) and "rescued" in line:
                    ours = line == self._run
                elif ours:
                    yield line

    def __str__(self) -> str:
        return " and ".join(str(path) for path in self._paths if path.exists())


def folders(beside: Path | None) -> tuple[Path, ...]:
    """Where a rescue file may be: beside the store, in the user's folder for states, among the temporary files."""
    return (*(() if beside is None else (beside,)), _state(), Path(tempfile.gettempdir()))


def _state() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "cottonpalm"


def _of_row(row: StoredRow) -> dict[str, Any]:
    return row._asdict() | {
        "key": row.key.hex(),
        "content": row.content.hex(),
        "record": row.record.decode(),  # as it is: a record is compared with one that is stored
    }


def _row(line: Any) -> StoredRow | None:
    try:
        row = StoredRow(**line)
        key, content = bytes.fromhex(row.key), bytes.fromhex(row.content)  # type: ignore[arg-type]  # as text
        record = row.record.encode()  # type: ignore[attr-defined]
        return StoredRow(int(row.slot), key, content, int(row.status), record, int(row.cost_pico))
    except (TypeError, ValueError, AttributeError):
        return None


def _spent(line: Any) -> Spent | None:
    try:
        account, reported, uncertain, leased, steps = line["spent"]
        told = tuple((float(at), int(pico)) for at, pico in steps)
        return Spent(str(account), int(reported), int(uncertain), int(leased), told)
    except (TypeError, ValueError, KeyError):
        return None


def _summed(spent: Sequence[Spent]) -> Spent | None:
    """The highest sums, since each says what all was; and the steps of all, of which each was said once."""
    if not spent:
        return None
    last = max(spent, key=lambda one: one.total)
    return last._replace(steps=tuple(step for one in spent for step in one.steps))


def _append(path: Path, block: bytes) -> None:
    """Write the whole block durably behind what is there, or nothing."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | _SAFE, 0o600)
    try:
        _check_own(os.fstat(fd), path)
        end = os.lseek(fd, 0, os.SEEK_END)
        try:
            left = memoryview(block)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            if not end:
                path.unlink()
            raise
    finally:
        os.close(fd)


def _own(path: Path) -> bytes:
    """What the file holds, if it is one that only we write."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _SAFE), "rb") as file:
            _check_own(os.fstat(file.fileno()), path)
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        log.warning("%s is not taken in: %s", path, exc)
        return b""


def _check_own(found: os.stat_result, path: Path) -> None:
    """Refuse a file that somebody else could have written: its answers would pass for ours.

    Raises:
        PermissionError: it is such a one.
    """
    mine = not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE)
    if not (mine and stat.S_ISREG(found.st_mode)):
        raise PermissionError(f"{path} is another user's, or others may write it")
