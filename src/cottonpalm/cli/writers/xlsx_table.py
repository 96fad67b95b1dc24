"""Writes results as an Excel file. No text becomes a formula."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm.cli.problems import Problem, extra
from cottonpalm.engine.output.table import beside, row_of
from cottonpalm.shell import Code
from cottonpalm.stores.codec.as_json import text_of

if TYPE_CHECKING:
    from cottonpalm.cli.writers.tables import Table

ROWS: Final = 1_048_576  # an Excel sheet holds no more, its header included
CHARACTERS: Final = 32_767  # nor a cell
UNSHOWN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML cannot hold
DIGITS: Final = 10**15  # Excel's numbers are no larger


def write_xlsx(file: BinaryIO, table: Table) -> list[str]:
    """Write a header and all rows to one sheet.

    Returns:
        A note, if texts were cut that are longer than a cell may be.

    Raises:
        Problem: there are more rows than a sheet holds.
    """
    extra("openpyxl", "excel", "an Excel file")
    from openpyxl import Workbook  # type: ignore[import-untyped]

    book = Workbook(write_only=True)
    sheet = book.create_sheet("answers")
    sheet.append([_cell(sheet, name) for name in table.names()])
    cut, number = 0, 1
    for number, outcome in enumerate(table.outcomes(), 2):
        if number > ROWS:
            raise Problem(
                f"an Excel sheet holds {ROWS - 1:,} rows, and these are more; write .csv or .parquet",
                Code.STOPPED,
            )
        row = row_of(outcome)
        values = [
            *(row.get(column) for column in table.columns),
            *table.answers_of(outcome),
            *beside(outcome),
        ]
        cut += any(isinstance(value, str) and len(value) > CHARACTERS for value in values)
        sheet.append([_cell(sheet, value) for value in values])
    book.save(file)
    return (
        [] if not cut else [f"{cut:,} rows have a text that an Excel cell cannot hold whole: it is cut there"]
    )


def _cell(sheet: Any, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell  # type: ignore[import-untyped]

    if _is_native(value):
        return value
    cell = WriteOnlyCell(sheet, UNSHOWN.sub("\ufffd", text_of(value))[:CHARACTERS])
    cell.data_type = "s"  # also where it begins with =
    return cell


def _is_native(value: Any) -> bool:
    """Whether Excel has such a value: a number, a boolean, a date or time without a zone."""
    if isinstance(value, bool | None):
        return True
    if isinstance(value, int | float):
        return value - value == 0 and abs(value) < DIGITS
    return isinstance(value, dt.date | dt.time) and getattr(value, "tzinfo", None) is None
