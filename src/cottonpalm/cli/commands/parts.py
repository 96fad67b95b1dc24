"""The runs of a folder's files, as the store has them beside the run of the folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cottonpalm.cli.screen.summary import Counts
from cottonpalm.shell import FACTS, JOB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.protocols import RunInfo


def run_of(whole: str, shard: str) -> str:
    """Return the name of a file's own run."""
    return f"{whole}/{Path(shard).name}"


def parts_of(whole: RunInfo, runs: Iterable[RunInfo]) -> list[RunInfo]:
    """Return the runs of the files of a folder, also of those that have left it; none where a run is of rows."""
    folder = _output_of(whole)
    if not folder:
        return []
    found = [
        info
        for info in runs
        if info.name == run_of(whole.name, out := _output_of(info)) and Path(out).parent == Path(folder)
    ]
    return sorted(found, key=lambda info: info.name)


def rows_of_input(part: RunInfo, *, done: bool) -> Counts:
    """Count the rows of a file; before it is done nobody knows which of those that are stored it still holds."""
    facts = part.meta.get(FACTS, {}) if done else {}
    failed = part.failed - int(facts.get("beside_failed", 0))
    return Counts(part.ok + part.failed - int(facts.get("beside", 0)) - failed, failed)


def _output_of(info: RunInfo) -> str:
    return str(info.meta.get(JOB, {}).get("output") or "")
