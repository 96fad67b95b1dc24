"""Writes results as comma-separated values. It writes cells unchanged, unless the user wants formulas guarded."""

from __future__ import annotations

import codecs
import csv
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm.engine.output.table import beside, row_of
from cottonpalm.stores.codec.as_json import text_of

if TYPE_CHECKING:
    from cottonpalm.cli.writers.tables import Table

BREAKS: Final = ("\t", "\r", "\n")  # OWASP names these and the signs, also those of full width
SIGN: Final = re.compile(
    r"[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*+[=+\-@\uff1d\uff0b\uff0d\uff20]"
)
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_csv(
    file: BinaryIO, table: Table, *, guard: bool = False, bom: bool = False, delimiter: str = ","
) -> list[str]:
    """Write a header and all rows.

    Args:
        file: to write to.
        table: the content.
        guard: put an apostrophe before each text that a spreadsheet would take for a formula.
        bom: begin with the mark by which Excel knows UTF-8.
        delimiter: what stands between two cells.

    Returns:
        A note, if answers look like formulas and `guard` is False.
    """
    if bom:
        file.write(codecs.BOM_UTF8)
    lines, change = Lines(file, delimiter), guarded if guard else str
    lines.write([change(name) for name in table.names()])
    risky = 0
    for outcome in table.outcomes():
        row, (status, error, cost) = row_of(outcome), beside(outcome)
        answers = [text_of(answer) for answer in table.answers_of(outcome)]
        risky += any(map(is_formula, answers))
        cells = [*(text_of(row.get(column)) for column in table.columns), *answers, status, error or ""]
        lines.write([*map(change, cells), dollars(cost)])
    if not risky or guard:
        return []
    some = "1 answer begins" if risky == 1 else f"{risky:,} answers begin"
    return [f"{some} like a formula; a file for a spreadsheet is better written with --guard-formulas"]


class Lines:
    """Writes rows of text so that a reader gets each cell back unchanged.

    UTF-8 has no lone surrogates, so they are written as their numbers.
    """

    def __init__(self, file: BinaryIO, delimiter: str = ",") -> None:
        self._file = file
        self._usual = csv.writer(self, lineterminator="\n", delimiter=delimiter)
        self._quoted = csv.writer(self, lineterminator="\n", delimiter=delimiter, quoting=csv.QUOTE_ALL)

    def write(self, row: Any) -> None:
        """Write one row; or write the row's text, when the csv writers call it."""
        if isinstance(row, str):
            self._file.write(row.encode(errors="backslashreplace"))
        elif any("\r" in cell for cell in row):  # the usual writer would not put quotes round it
            self._quoted.writerow(row)
        else:
            self._usual.writerow(row)


def dollars(cost: float | None) -> str:
    """Return a cost without an exponent, exact to the last digit."""
    return "" if cost is None else f"{cost:.12f}".rstrip("0").rstrip(".")


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would take this text for a formula, after what it drops; a plain number is not one."""
    return text.startswith(BREAKS) or (
        SIGN.match(text) is not None and NUMBER.fullmatch(text.strip()) is None
    )


def guarded(text: str) -> str:
    """Return the text, with an apostrophe in front if it looks like a formula."""
    return f"'{text}" if is_formula(text) else text
