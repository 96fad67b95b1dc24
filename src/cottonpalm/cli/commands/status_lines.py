"""`status --json` and `status --watch`: for programs, and for whoever waits."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.screen import screen
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.shell import FACTS, JOB, TROUBLE
from cottonpalm.stores.codec.as_json import dumped
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.protocols import RunInfo

WATCH_S: Final = 2.0


def show_json(url: str, name: str | None) -> None:
    """Show all runs, or one, as lines of JSON."""
    with existing_store(url) as store:
        for info in store.runs() if name is None else [store.known(name)]:
            screen.put(dumped(_as_json(info)) + b"\n")


def _as_json(info: RunInfo) -> dict[str, Any]:
    facts, job = info.meta.get(FACTS, {}), info.meta.get(JOB, {})
    total = screen.total_in_all(info)
    return {
        "run": info.name,
        "begun": dt.datetime.fromtimestamp(info.created, dt.UTC).isoformat(timespec="seconds"),
        "ok": info.ok,
        "failed": info.failed,
        "retryable": info.retryable,
        "total": facts.get("total", total and total.rows),
        "total_exact": total is not None and total.exact,
        "left": None if total is None else max(0, total.rows - info.ok - info.failed),
        "cost_usd": info.cost_pico / PICO if screen.is_cost_known(info) else None,
        "uncertain_usd": info.uncertain_pico / PICO,
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
