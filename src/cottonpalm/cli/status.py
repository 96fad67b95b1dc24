"""`status`, and what `retry` has to know of a run."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli import render
from cottonpalm.cli.held import HeldStore
from cottonpalm.cli.job import META, Job
from cottonpalm.cli.problems import Problem, shown
from cottonpalm.observers.words import clean, money, rate, told
from cottonpalm.stores import open_store
from cottonpalm.stores.codec import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.protocols import RunInfo, StoredRows


PAGE: Final = 4096
OK: Final = 1  # a store status


@dataclass(slots=True)
class Reason:
    """One kind of failure: its first row, what was said there, and how many rows failed so."""

    first: int
    said: str
    rows: int = 0


@contextmanager
def existing_store(url: str) -> Iterator[HeldStore]:
    """A store that is there already: looking must not make one.

    Raises:
        Problem: there is none.
    """
    path = url.removeprefix("sqlite:///")
    if not path.startswith("memory:") and not Path(path).exists():
        raise Problem(f"there is no store {path} here; say --store FILE, or begin with `cottonpalm run`")
    store = HeldStore(open_store(url), url)
    try:
        yield store
    finally:
        store.release()


def job_of(url: str, name: str) -> Job:
    """What a run of the store does.

    Raises:
        Problem: there is no such store or run, or it was made from Python.
    """
    with existing_store(url) as store:
        return Job.of(store.known(name).meta, name)


def show_status(url: str, name: str | None) -> None:
    """All runs as a table, or one in detail, on stdout."""
    with existing_store(url) as store:
        if name is not None:
            info = store.known(name)
            render.show_details(_details(info, _reasons(store.look(name)) if info.failed else {}))
        else:
            render.show_runs(store.runs())


def _reasons(rows: StoredRows | None) -> dict[str, Reason]:
    """The failed rows of a run by kind, with the first of each."""
    found: dict[str, Reason] = {}
    after = -1
    while rows is not None and (page := rows.scan(after, PAGE)):
        after = page[-1].slot
        failed = [row.slot for row in page if row.status != OK]
        for slot, record in sorted(rows.read(failed).items()):
            error = unpack(record, slot, {}).error
            if error is not None:
                reason = found.setdefault(error.kind, Reason(slot, told(error)))
                reason.rows += 1
    return found


def _details(info: RunInfo, reasons: dict[str, Reason]) -> Iterator[tuple[str, Any]]:
    facts, job = info.meta.get("facts", {}), info.meta.get(META, {})
    yield "run", info.name
    yield "begun", f"{dt.datetime.fromtimestamp(info.created, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    yield "ok", f"{info.ok:,}"
    yield (
        "failed",
        f"{info.failed:,}" + (f" ({info.retryable:,} may work when asked again)" if info.failed else ""),
    )
    for kind, reason in sorted(reasons.items(), key=lambda found: -found[1].rows):
        yield f"  {kind}", f"{reason.rows:,}; the first, row {reason.first}: {clean(reason.said)}"
    yield "left", render.left_of(info)
    yield "cost", money(info.cost_pico)
    if info.uncertain_pico:
        yield "uncertain", f"up to {money(info.uncertain_pico)} besides"
    if facts.get("rate"):
        yield "rate", rate(facts["rate"])
    for key in ("input", "output", "chain", "model", "system", "prompt"):
        if job.get(key):
            yield key, shown(job[key]) if key in {"input", "output"} else job[key]
    if facts.get("code") is not None and info.holder is None:
        yield "exit code", facts["code"]
    if info.holder:
        yield "held by", render.holder_of(info)
