"""Finds by a file's name what it holds and how it is packed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from cottonpalm.cli.plugins import plugins
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.urls import file_name, is_url, shown

Kind: TypeAlias = Literal["jsonl", "csv", "parquet", "xlsx", "plugin"]  # plugin: another package's
Packing: TypeAlias = Literal["", "gz", "zst"]

KINDS: Final[dict[str, Kind]] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "csv",
    "tab": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "xlsx": "xlsx",
}
ONE_A_LINE: Final = "write one object a line: jq -c '.[]' rows.json > rows.jsonl"
INSTEAD: Final = {  # what is often given, and what to do with it
    "json": f"of a list, {ONE_A_LINE}",
    "xls": "from Excel, as .xlsx or CSV",
    "ods": "as .xlsx or CSV",
    "txt": "if it holds columns, name it .csv; if each line is a text, put a line 'text' above them and name it .tsv",
}
PACKINGS: Final[dict[str, Packing]] = {"gz": "gz", "zst": "zst"}


class Format(NamedTuple):
    """A kind of file, and its packing (the empty string: it is not packed)."""

    kind: Kind
    packing: Packing

    @property
    def appends(self) -> bool:
        """Whether rows can be appended one by one. A file of any other format is written in one go."""
        return self == ("jsonl", "")


def format_of(path: str, role: str) -> Format:
    """Return the format of a file or an address, by the suffixes of its name.

    Args:
        path: a file or an address.
        role: what messages call it: `input`, `output` or `-o`.

    Raises:
        Problem: an unknown suffix, or a packed Parquet file (Parquet packs its columns itself).
    """
    *rest, last = file_name(path).lower().split(".")
    packing = PACKINGS.get(last, "")
    if packing and rest:
        last = rest[-1]
    kind = KINDS.get(last)
    if kind is None and suffix_of(path) in plugins("readers" if role == "input" else "writers"):
        return Format("plugin", "")
    if kind is None:
        raise _unknown(path, role, last)
    if kind == "parquet" and packing:
        raise Problem(f"{role} {shown(path)}: Parquet packs its own columns; leave .{packing} out")
    if kind == "xlsx" and packing:
        raise Problem(f"{role} {shown(path)}: an Excel file is packed already; leave .{packing} out")
    return Format(kind, packing)


def _unknown(path: str, role: str, suffix: str) -> Problem:
    if role == "input" and not is_url(path) and not Path(path).exists():
        return os_problem("read", path, FileNotFoundError(errno.ENOENT, ""))
    said = (
        f"{role} {shown(path)}: cottonpalm knows .jsonl, .ndjson, .csv, .tsv (each also with .gz or .zst), .parquet "
        "and .xlsx"
    )
    do = "save it as" if role == "input" else "end its name in"
    how = f" ({INSTEAD[suffix]})" if role == "input" and suffix in INSTEAD else ""
    return Problem(f"{said}; {do} one of these, or use - for JSONL{how}")


def suffix_of(path: str) -> str:
    """Return the last suffix of a file's name, without its dot."""
    return file_name(path).lower().rpartition(".")[2]


def stem_of(path: str) -> str:
    """Return the name of a file or an address without folders and without the suffixes of its format."""
    name = file_name(path)
    parts = name.split(".")
    if len(parts) > 1 and parts[-1].lower() in PACKINGS:
        parts.pop()
    return ".".join(parts[:-1]) or name


def is_tabbed(path: str) -> bool:
    """Whether the name of a file says that its cells are separated by tabs."""
    return any(part in ("tsv", "tab") for part in file_name(path).lower().split(".")[-2:])
