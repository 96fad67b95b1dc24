"""`status`, and what `retry` has to know of a run."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cottonpalm.cli import screen
from cottonpalm.cli.held_store import existing_store
from cottonpalm.cli.problems import shown
from cottonpalm.cli.spec import META, RunSpec
from cottonpalm.observers.formatting import clean, money, rate, told
from cottonpalm.observers.kind_words import in_words
from cottonpalm.protocols import OK
from cottonpalm.stores.codec.as_json import dumped
from cottonpalm.stores.codec.records import unpack
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.protocols import RunInfo, StoredRows
    from cottonpalm.providers.batches.stages import Batch

PAGE: Final = 4096
WATCH_S: Final = 2.0
TROUBLE: Final = "trouble"  # key in a run's own facts: why its latest request reached no server


@dataclass(slots=True)
class Reason:
    """One kind of failure: its first row, what was said there, how many rows failed so, and the user's own line."""

    first: int
    said: str
    rows: int = 0
    where: str | None = None


def job_of(url: str, name: str) -> RunSpec:
    """What a run of the store does.

    Raises:
        Problem: there is no such store or run, or it was made from Python.
    """
    with existing_store(url) as store:
        return RunSpec.of(store.known(name).meta, name)


def show_status(url: str, name: str | None, *, verbose: bool = False) -> None:
    """All runs as a table, or one in detail, on stdout."""
    with existing_store(url) as store:
        if name is not None:
            info = store.known(name)
            screen.show_details(
                _details(info, _reasons(store.look(name)) if info.failed else {}, verbose=verbose)
            )
            screen.show_details(_out(batch) for batch in store.batches(name) if not batch.over)
        else:
            screen.show_runs(store.runs())


def show_json(url: str, name: str | None) -> None:
    """Show all runs, or one, as lines of JSON."""
    with existing_store(url) as store:
        for info in store.runs() if name is None else [store.known(name)]:
            screen.show(Text(dumped(_as_json(info)).decode()))


def _as_json(info: RunInfo) -> dict[str, Any]:
    facts, job = info.meta.get("facts", {}), info.meta.get(META, {})
    total = facts.get("total")
    return {
        "run": info.name,
        "begun": dt.datetime.fromtimestamp(info.created, dt.UTC).isoformat(timespec="seconds"),
        "ok": info.ok,
        "failed": info.failed,
        "retryable": info.retryable,
        "total": total,
        "total_exact": bool(facts.get("exact")),
        "left": None if total is None else max(0, total - info.ok - info.failed),
        "cost_usd": info.cost_pico / PICO,
        "rows_per_s": facts.get("rate"),
        "held_by": info.holder,
        "exit_code": None if info.holder else facts.get("code"),
        "trouble": info.meta.get(TROUBLE),
        **{key: job.get(key) for key in ("input", "output", "chain", "model", "prompt")},
    }


def watched(url: str, name: str | None) -> Iterator[None]:
    """Give a turn every two seconds, as long as a process works on the run, or on any; the last turn is after that."""
    held = True
    while held:
        with existing_store(url) as store:
            held = any(info.holder for info in store.runs() if name in (None, info.name))
        screen.clear()
        yield
        if held:
            threading.Event().wait(WATCH_S)


def _out(batch: Batch) -> tuple[str, str]:
    """A batch that is not over: whose it is, its id there, how far it is, and since when."""
    state = batch.state
    since = dt.datetime.fromtimestamp(batch.sent_at or batch.planned_at, dt.UTC).astimezone()
    done = f", {state.done:,} done" if state is not None and state.done else ""
    phase = state.phase.value if state is not None else batch.stage.value
    said = f"{batch.lane.label}, {batch.rows:,} rows{done}, {phase} since {since:%Y-%m-%d %H:%M:%S}"
    return f"batch {batch.batch_id or batch.tag}", f"{said}{', being cancelled' if batch.cancelling else ''}"


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
                reason = found.setdefault(error.kind, Reason(slot, told(error), where=error.where))
                reason.rows += 1
    return found


def _details(info: RunInfo, reasons: dict[str, Reason], *, verbose: bool) -> Iterator[tuple[str, Any]]:
    facts, job = info.meta.get("facts", {}), info.meta.get(META, {})
    yield "run", info.name
    yield "begun", f"{dt.datetime.fromtimestamp(info.created, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    yield "ok", f"{info.ok:,}"
    yield (
        "failed",
        f"{info.failed:,}" + (f" ({info.retryable:,} may work when asked again)" if info.failed else ""),
    )
    yield from _failures(reasons, verbose=verbose)
    yield from _trouble(info)
    yield "left", screen.left_of(info)
    yield "cost", screen.cost_of(info)
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
        yield "held by", screen.holder_of(info)


def _failures(reasons: dict[str, Reason], *, verbose: bool) -> Iterator[tuple[str, str]]:
    for kind, reason in sorted(reasons.items(), key=lambda found: -found[1].rows):
        first = f"the first, row {reason.first + 1} (index {reason.first}): {clean(reason.said)}"
        yield f"  {kind}", f"{reason.rows:,} ({in_words(kind)}); {first}"
        if verbose and reason.where is not None:
            yield "    at", clean(reason.where)


def _trouble(info: RunInfo) -> Iterator[tuple[str, str]]:
    if reason := info.meta.get(TROUBLE):
        yield "trouble", clean(str(reason))
