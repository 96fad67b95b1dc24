"""The checkpoint file of technique 8: a store with one run, in a file whose name may look like a pickle's."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.engine.input.keys import content_key
from cottonpalm.errors import ChainChanged, RunBusy, StoreError
from cottonpalm.protocols import OK, StoredRow
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cottonpalm.protocols import RunInfo, RunStore
    from cottonpalm.stores.sqlite.store import SqliteStore

log = logging.getLogger("cottonpalm")
PAGE: Final = 1_000  # stored rows that are read in one go
COMPANIONS: Final = ("-wal", "-shm", "-lock")
BY_HAND: Final = "by_hand"  # key in a run's meta: how many rows were saved by hand, without their inputs
_MAGIC: Final = b"SQLite format 3\0"


class Checkpoint:
    """A `protocols.Store` in one file. The file is made when it is needed, and deleted when all rows are done.

    Args:
        path: the file; a relative one is of the folder where the process is now.
        types: the classes from which outputs are rebuilt.
    """

    def __init__(self, path: str | Path, types: Mapping[str, type]) -> None:
        self.path = path
        self.types = types
        self._store: SqliteStore | None = None

    @property
    def path(self) -> Path:
        """The file, by its whole path: the process may go to another folder."""
        return self._path

    @path.setter
    def path(self, value: str | Path) -> None:
        self._path = Path(value).expanduser().absolute()

    @property
    def exists(self) -> bool:
        """Whether there is a file with rows that are done."""
        return self.path.exists()

    # -- a store

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> RunStore:
        """See `protocols.Store`; a chain that has changed is warned of, not refused.

        Raises:
            StoreError: the file is no checkpoint of ours (it is left as it is), or cannot be used.
            RunBusy: another batch works on it.
        """
        store = self._opened()
        try:
            return store.open_run(name, fingerprint, fresh=fresh)
        except ChainChanged as changed:
            what = "; ".join(changed.changes)
            log.warning(
                "%s goes on with another chain than it began with: %s; delete it to ask anew", self.path, what
            )
            return store.open_run(name, None)

    def runs(self) -> list[RunInfo]:
        """See `protocols.Store`."""
        return self._opened().runs()

    def remove(self, name: str) -> None:
        """See `protocols.Store`."""
        self._opened().remove(name)

    def close(self) -> None:
        """See `protocols.Store`; the next call opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> SqliteStore:
        if self._store is None:
            from cottonpalm.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - sqlite3 is only needed here

            self._refuse_strangers()
            self._store = SqliteStore(self.path)
        return self._store

    def _refuse_strangers(self) -> None:
        """Check only the first bytes, so that we never load a file whose loading could run code."""
        try:
            with self.path.open("rb") as file:
                head = file.read(len(_MAGIC))
        except OSError:  # the file does not exist, or the store will report the error better
            return
        if head and head != _MAGIC:
            raise StoreError(
                f"{self.path} is not a checkpoint that cottonpalm has written; if it is a pickle, it is not opened, "
                "since that could run anything. Move it away, or name another checkpoint_file"
            )

    def delete(self, name: str) -> None:
        """The file and its companions are gone, unless another process works on the run by now: then they are its."""
        try:
            run = self._opened().open_run(name, None)
        except RunBusy as busy:
            log.info("%s stays: %s", self.path, busy)
            return
        with closing(run):  # no other batch may begin with a file that we delete
            for suffix in (*COMPANIONS[:-1], "", COMPANIONS[-1]):  # never leave a log without its database
                Path(f"{self.path.resolve()}{suffix}").unlink(missing_ok=True)
        self.close()

    # -- its rows, by hand

    def save(self, name: str, results: Sequence[Any], count: int) -> None:
        """Replace the stored rows by the outputs of the first rows.

        Raises:
            CannotStore: an output would not come back as it is.
        """
        holes = count < len(results)  # results as `load` returns them: a None is a row that is not done
        rows = [
            StoredRow(slot, key, key, OK, self._record(slot, output))
            for slot, output in enumerate(results)
            if not (holes and output is None)
            for key in [content_key(["cottonpalm: saved by hand", slot])]
        ]
        with closing(self.open_run(name, None, fresh=True)) as run:
            _write(run, rows)
            run.set_meta(**{BY_HAND: len(results)})

    def _record(self, slot: int, output: Any) -> bytes:
        return pack(Outcome(slot, "ok", output), keep_input=False, types=self.types)

    def adopt(self, name: str, inputs: Sequence[Any]) -> None:
        """Attach these inputs to the rows that were saved by hand without inputs."""
        with closing(self.open_run(name, None)) as run:
            if not (count := run.meta().get(BY_HAND)):
                return
            rows = []
            for slot, record in _records(run):
                if slot < min(count, len(inputs)):
                    key = content_key(inputs[slot])
                    rows.append(StoredRow(slot, key, key, OK, record))
            _write(run, rows)
            run.set_meta(**{BY_HAND: 0})

    def load(self, name: str) -> tuple[list[Any], int] | None:
        """Return the outputs by row (None if not done) and how many are done; None if there is no checkpoint."""
        if not self.exists:
            return None
        with closing(self.open_run(name, None)) as run:
            if (last := run.last_slot()) < 0:
                return None
            results: list[Any] = [None] * (last + 1)
            count = 0
            for slot, record in _records(run):
                results[slot] = unpack(record, slot, self.types).output
                count += 1
            return results, count


def _records(run: RunStore) -> Iterator[tuple[int, bytes]]:
    """Yield slot and record of every row that was answered."""
    after = -1
    while page := run.scan(after, PAGE):
        after = page[-1].slot
        yield from run.read([found.slot for found in page if found.status == OK]).items()


def _write(run: RunStore, rows: Sequence[StoredRow]) -> None:
    """Write and wait until it is durable."""
    if not rows:
        return
    done: Future[None] = Future()
    run.write(rows, lambda error: done.set_exception(error) if error else done.set_result(None))
    done.result()
