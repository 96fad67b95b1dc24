"""The batches of a run: what was submitted, which requests are in it, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import orjson

from cottonpalm.errors import StoreError
from cottonpalm.providers.answer import loads, written
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.lines import BatchFault, BatchState, Phase, Result
from cottonpalm.providers.batches.stages import AskedRow, Batch, Member, Stage, lost_by
from cottonpalm.stores.rules.leniently import kept_as
from cottonpalm.stores.sql.batch_rows import LINE_BITS
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from cottonpalm.stores.sql.connection import Connection

T = TypeVar("T")
Write = Callable[[Callable[["Connection"], Any]], Any]  # runs a function in a durable transaction
Rows = Callable[..., list[Any]]  # returns the rows of a statement

OUT, AGAIN, REFUSED, GOOD = range(4)  # the fate of a line; a better one replaces a worse one
_MASK: Final = (1 << LINE_BITS) - 1
_LINE: Final = "INSERT INTO batch_line (id, run, row, key, fate) VALUES (?,?,?,?,0)"
_ASKED: Final = (
    "SELECT key, fate, status, body FROM batch_line LEFT JOIN batch_answer USING (id)"
    " WHERE run = ? AND row = ? AND fate <> 1"
)
_LANES: Final = (
    "SELECT key, batch.body FROM batch_line JOIN batch ON batch.id = batch_line.id >> ?"
    " WHERE batch_line.run = ? AND row = ? ORDER BY batch.id"
)
_REFUSED: Final = (
    "SELECT batch_line.id, status, batch_answer.body, batch.body FROM batch_line JOIN batch_answer USING (id)"
    " JOIN batch ON batch.id = batch_line.id >> ? WHERE batch_line.run = ? AND fate = 2"
)
_KEEP: Final = (
    "UPDATE batch_line SET fate = ?, status = ?, lost = ?, why = ? WHERE id = ? AND fate < ? AND NOT (fate = 1 AND"
    " EXISTS (SELECT 1 FROM batch_line AS other WHERE other.run = batch_line.run AND other.row = batch_line.row"
    " AND other.key = batch_line.key AND other.fate <> 1))"
)
_ANSWER: Final = (
    "INSERT INTO batch_answer (id, body) VALUES (?,?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
)
_TOOL: Final = (
    "INSERT INTO batch_tool (run, row, key, body) VALUES (?,?,?,?) ON CONFLICT (run, row, key) DO NOTHING"
)
_ROW: Final = (
    "INSERT INTO batch_row (run, row, key, content) VALUES (?,?,?,?)"
    " ON CONFLICT (run, row) DO UPDATE SET key = excluded.key, content = excluded.content"
)
_FORGET: Final = "FROM batch_line WHERE run = ? AND row = ? AND fate <> 1 AND fate >= 2"


def batches_of(rows: Rows, run: int) -> list[Batch]:
    """Return all batches of a run, oldest first."""
    return [decoded(body) for (body,) in rows("SELECT body FROM batch WHERE run = ? ORDER BY id", (run,))]


class SqlBook:
    """See `stages.Book`."""

    def __init__(self, write: Write, rows: Rows, run: int) -> None:
        """Make the book of one run.

        Args:
            write: runs a function of the connection in a transaction, under the run's lease; durable on return.
            rows: reads what is committed.
            run: the run's number.
        """
        self._write, self._rows, self._run = write, rows, run

    def plan(self, batch: Batch, members: Sequence[Member]) -> None:
        """See `stages.Book`."""
        self._write(lambda db: _plan(db, self._run, batch, members))

    def put(self, batch: Batch) -> None:
        """See `stages.Book`."""
        self._write(lambda db: _put(db, batch))

    def batches(self) -> list[Batch]:
        """See `stages.Book`."""
        return batches_of(self._rows, self._run)

    def members(self, tag: str) -> list[Member]:
        """See `stages.Book`."""
        bounds = self._bounds(tag)
        sql = "SELECT row, key FROM batch_line WHERE id >= ? AND id < ? ORDER BY id"
        return [Member(*found) for found in self._rows(sql, bounds)]

    def lost(self, tag: str) -> list[tuple[Member, Result]]:
        """See `stages.Book`."""
        sql = (
            "SELECT id, row, key, status, lost, why, body FROM batch_line LEFT JOIN batch_answer USING (id)"
            " WHERE id >= ? AND id < ? AND fate = 1 ORDER BY id"
        )
        return [
            (Member(row, key), _result(f"{tag}-{id_ & _MASK}", status, body, lost, why))
            for id_, row, key, status, lost, why, body in self._rows(sql, self._bounds(tag))
        ]

    def keep(self, tag: str, results: Iterable[tuple[int, Result]]) -> None:
        """See `stages.Book`."""
        (first, _), found = self._bounds(tag), list(results)
        self._write(lambda db: _keep(db, first, found))

    def close(self, batch: Batch) -> int:
        """See `stages.Book`."""
        return cast("int", self._write(lambda db: _close(db, batch)))

    def asked(self, row: int) -> Mapping[bytes, Result | None]:
        """See `stages.Book`."""
        return {
            key: None if fate == OUT else _result("", status, body)
            for key, fate, status, body in self._rows(_ASKED, (self._run, row))
        }

    def lanes(self, row: int) -> Mapping[bytes, Lane]:
        """See `stages.Book`."""
        return {key: decoded(body).lane for key, body in self._rows(_LANES, (LINE_BITS, self._run, row))}

    def doubt(self, passes: Callable[[Lane, Result], bool]) -> None:
        """See `stages.Book`."""
        found = self._rows(_REFUSED, (LINE_BITS, self._run))
        doubted = [
            (line,)
            for line, status, body, batch in found
            if passes(decoded(batch).lane, _result("", status, body))
        ]
        if doubted:
            self._write(lambda db: _ask_again(db, doubted))

    def forget(self, rows: Iterable[int]) -> None:
        """See `stages.Book`."""
        values = [(self._run, row) for row in rows]
        self._write(lambda db: _forget(db, values))

    def tools(self, row: int) -> Mapping[bytes, bytes]:
        """See `stages.Book`."""
        return dict(
            self._rows("SELECT key, body FROM batch_tool WHERE run = ? AND row = ?", (self._run, row))
        )

    def keep_tools(self, row: int, answers: Mapping[bytes, bytes]) -> None:
        """See `stages.Book`."""
        values = [(self._run, row, key, body) for key, body in answers.items()]
        self._write(lambda db: _keep_tools(db, values))

    def rows(self) -> list[AskedRow]:
        """See `stages.Book`."""
        sql = "SELECT row, key, content FROM batch_row WHERE run = ? ORDER BY row"
        return [
            AskedRow(row, bytes(key), bytes(content)) for row, key, content in self._rows(sql, (self._run,))
        ]

    def keep_rows(self, rows: Iterable[AskedRow]) -> None:
        """See `stages.Book`."""
        values = [(self._run, *row) for row in rows]
        self._write(lambda db: _keep_rows(db, values))

    def past(self, limit: int = 200) -> list[Batch]:
        """See `stages.Book`."""
        found = self._rows("SELECT body FROM batch ORDER BY id DESC LIMIT ?", (2 * limit,))
        return [batch for (body,) in found if (batch := decoded(body)).over][:limit]

    def known(self) -> dict[str, bool]:
        """See `stages.Book`."""
        found = self._rows("SELECT batch_id, body FROM batch WHERE batch_id IS NOT NULL ORDER BY id")
        known: dict[str, bool] = {}
        for batch_id, body in found:
            known[batch_id] = known.get(batch_id, False) or decoded(body).proven
        return known

    def _bounds(self, tag: str) -> tuple[int, int]:
        found = self._rows("SELECT id FROM batch WHERE run = ? AND tag = ?", (self._run, tag))
        if not found:
            raise StoreError(f"batch {tag} is not of this run")
        [(batch,)] = found
        return batch << LINE_BITS, (batch + 1) << LINE_BITS


def _plan(db: Connection, run: int, batch: Batch, members: Sequence[Member]) -> None:
    sql = "INSERT INTO batch (run, tag, batch_id, body) VALUES (?,?,?,?) ON CONFLICT (tag) DO NOTHING RETURNING id"
    made = db.execute(sql, (run, batch.tag, batch.batch_id, encoded(batch))).fetchall()
    if not made:  # it was planned as the connection broke: no other batch has its tag
        return
    first = made[0][0] << LINE_BITS
    taken = set(_out_of(db, run, members))
    for member in members:
        if member in taken:
            raise StoreError(
                f"{numbered(member.row)} is in a batch already, or has its answer: it was not submitted again. Two"
                " programs may be working on the same run"
            )
    db.executemany(
        _LINE, [(first + number, run, member.row, member.key) for number, member in enumerate(members)]
    )


def _out_of(db: Connection, run: int, members: Sequence[Member]) -> Iterable[Member]:
    """Return the members that have a line which is out or final."""
    sql = "SELECT 1 FROM batch_line WHERE run = ? AND row = ? AND key = ? AND fate <> 1"
    seen: set[Member] = set()
    for member in members:
        if member in seen or db.execute(sql, (run, *member)).fetchone():
            yield member
        seen.add(member)


def _put(db: Connection, batch: Batch) -> None:
    sql = "UPDATE batch SET batch_id = ?, body = ? WHERE tag = ?"
    if not db.execute(sql, (batch.batch_id, encoded(batch), batch.tag)).rowcount:
        raise StoreError(f"batch {batch.tag} was removed by another process")


def _keep(db: Connection, first: int, results: Sequence[tuple[int, Result]]) -> None:
    for number, result in results:
        fate = GOOD if result.good else REFUSED if result.final else AGAIN
        values = (fate, result.status, result.lost, _kept(result.why), first + number, fate)
        if not db.execute(_KEEP, values).rowcount:
            continue  # the line already has a result that is as good
        if result.body is not None:
            body = (first + number, written(result.body))
            db.execute(_ANSWER, body)


def _close(db: Connection, batch: Batch) -> int:
    _put(db, batch)
    [(found,)] = db.execute("SELECT id FROM batch WHERE tag = ?", (batch.tag,)).fetchall()
    sql = (
        "UPDATE batch_line SET fate = 1, status = 0, lost = ?, why = ? WHERE id >= ? AND id < ? AND fate = 0"
    )
    bounds = (found << LINE_BITS, (found + 1) << LINE_BITS)
    return db.execute(sql, (lost_by(batch), _kept(batch.why), *bounds)).rowcount


def _kept(why: str) -> str | None:
    """What a provider said, as a column of text can hold it: it may quote a row, and Postgres has no NUL there."""
    return why.replace("\0", "\ufffd") or None


def _forget(db: Connection, rows: Sequence[tuple[int, int]]) -> None:
    db.executemany(f"DELETE FROM batch_answer WHERE id IN (SELECT id {_FORGET})", rows)  # noqa: S608 - our own words
    db.executemany("DELETE FROM batch_tool WHERE run = ? AND row = ?", rows)
    db.executemany("DELETE FROM batch_row WHERE run = ? AND row = ?", rows)
    db.executemany(f"DELETE {_FORGET}", rows)


# Functions of their own, as no cursor may leave the writer's thread.


def _ask_again(db: Connection, lines: Sequence[tuple[int]]) -> None:
    db.executemany("UPDATE batch_line SET fate = 1 WHERE id = ? AND fate = 2", lines)


def _keep_tools(db: Connection, values: Sequence[tuple[int, int, bytes, bytes]]) -> None:
    db.executemany(_TOOL, values)


def _keep_rows(db: Connection, values: Sequence[tuple[int, int, bytes, bytes]]) -> None:
    db.executemany(_ROW, values)


def _result(
    custom_id: str, status: int, body: bytes | None, lost: str | None = None, why: str | None = None
) -> Result:
    return Result(custom_id, status, None if body is None else loads(body), cast("Any", lost), why or "")


def encoded(batch: Batch) -> str:
    """Return a batch as JSON; it contains no credential."""
    return orjson.dumps(batch).decode()


def decoded(text: str) -> Batch:
    """Return the batch from its JSON; fields that a newer version wrote are left out."""
    found = orjson.loads(text)
    state = found["state"]
    found |= {
        "lane": _lane(found["lane"]),
        "stage": Stage(found["stage"]),
        "strangers": tuple(found["strangers"]),
        "twins": tuple(found["twins"]),
        "state": None if state is None else _state(state),
    }
    return kept_as(Batch, found)


def _lane(found: dict[str, Any]) -> Lane:
    return kept_as(Lane, found | {"headers": tuple((name, value) for name, value in found["headers"])})


def _state(found: dict[str, Any]) -> BatchState:
    faults = tuple(kept_as(BatchFault, fault) for fault in found["faults"])
    read = {"phase": Phase(found["phase"]), "results": tuple(found["results"]), "faults": faults}
    return kept_as(BatchState, found | read)
