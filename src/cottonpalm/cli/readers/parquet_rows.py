"""Rows of a Parquet file, read in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from cottonpalm.cli.files.arrow_types import in_python
from cottonpalm.cli.problems import Problem, extra
from cottonpalm.cli.readers.rows import BadRow, InputRows, Row

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

BATCH_BYTES: Final = 1 << 22  # a batch holds about this many bytes...
BATCH_ROWS: Final = 1024  # ...and at most this many rows
BUFFERS_BYTES: Final = 1 << 25  # the buffers of all columns together
ENCRYPTED: Final = b"PARE"  # an encrypted file begins and ends with these bytes
BUFFER_BYTES: Final = 1 << 18  # the buffer of one column


class Parquet(InputRows):
    """Yields the rows as Python values: dates, decimals, bytes, lists and dicts as Arrow gives them.

    Python has no nanoseconds, so times with nanoseconds are given as text.

    Args:
        name: for messages.
        file: an open, seekable file; it is closed with the rows.
    """

    unit: ClassVar[str] = "row"
    has_gaps: ClassVar[bool] = True

    def __init__(self, name: str, file: io.BufferedReader[Any]) -> None:
        self._file = file
        self._batch: Iterator[Row | BadRow] = iter(())
        super().__init__(name)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._file.close()

    def _begin(self) -> None:
        parquet = extra("pyarrow.parquet", "parquet", "a Parquet file")
        if not self._file.seekable():
            raise Problem(
                f"{self.name}: its server gives it from the beginning only; fetch it and name the file"
            )
        if self._file.peek(4)[:4] == ENCRYPTED:
            raise self._unreadable(ValueError("encrypted"))
        try:
            meta = parquet.read_metadata(self._file)
            room = min(BUFFER_BYTES, BUFFERS_BYTES // max(1, meta.num_columns))
            self._source = parquet.ParquetFile(
                self._file, metadata=meta, pre_buffer=False, buffer_size=max(1 << 12, room)
            )
        except Exception as error:
            raise self._unreadable(error) from error
        self._count: int = meta.num_rows
        self.schema = self._source.schema_arrow.remove_metadata()
        self._check_names(self.schema.names)
        self.columns = list(self.schema.names)
        self._known.update(self.columns)
        self._batches = self._source.iter_batches(batch_size=_batch_rows(meta), use_threads=False)

    def _check_names(self, names: list[str]) -> None:
        if len(set(names)) < len(names):
            doubled = next(name for name in names if names.count(name) > 1)
            raise Problem(f"{self.name}: the column {doubled!r} is there twice; rename one")

    def _guess(self) -> tuple[int, bool] | None:
        return self._count, True

    def _next(self) -> Row | None:
        self.begins += 1
        while (row := next(self._batch, None)) is None:
            try:
                batch = next(self._batches, None)
            except Exception as error:
                raise self._unreadable(error) from error
            if batch is None:
                return None
            self._batch = self._rows_of(batch)
        if isinstance(row, BadRow):
            raise self.bad(str(row))
        return row

    def _rows_of(self, batch: Any) -> Iterator[Row | BadRow]:
        try:
            columns = [in_python(column) for column in batch.columns]
        except Exception:  # noqa: BLE001 - some value has no form in Python: which one?
            return (_row_or_why(batch.slice(at, 1)) for at in range(batch.num_rows))
        names = batch.schema.names
        return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))

    def _unreadable(self, error: Exception) -> Exception:
        if isinstance(error, Problem):
            return error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "encrypted" in reason.lower():
            return Problem(f"{self.name} is an encrypted Parquet file; write it without encryption")
        if "footer" in reason or "file size is" in reason:
            return Problem(
                f"{self.name} is no Parquet file, or is cut short (its end is missing); fetch it again"
            )
        return Problem(f"cannot read {self.name}: {reason}")


def _batch_rows(meta: Any) -> int:
    size: int = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
    rows: int = meta.num_rows
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


def _row_or_why(one: Any) -> Row | BadRow:
    """Return the only row of a batch, or an error that names the column whose value Python cannot hold."""
    row: Row = {}
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            row[name] = in_python(column)[0]
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this value
            return BadRow(f"the value of {name!r} cannot be read: {(str(error).splitlines() or ['?'])[0]}")
    return row
