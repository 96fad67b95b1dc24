"""`status`, and what `retry` has to know of a run."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cottonpalm.cli import render
from cottonpalm.cli.held import HeldStore
from cottonpalm.cli.job import META, Job
from cottonpalm.cli.problems import Problem, shown
from cottonpalm.observers.words import money, rate
from cottonpalm.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.protocols import RunInfo


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
            render.show_details(_details(store.known(name)))
        else:
            render.show(render.runs_table(store.runs()))


def _details(info: RunInfo) -> Iterator[tuple[str, Any]]:
    facts, job = info.meta.get("facts", {}), info.meta.get(META, {})
    yield "run", info.name
    yield "begun", f"{dt.datetime.fromtimestamp(info.created, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    yield "ok", f"{info.ok:,}"
    yield (
        "failed",
        f"{info.failed:,}" + (f" ({info.retryable:,} may work when asked again)" if info.failed else ""),
    )
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
