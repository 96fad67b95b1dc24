"""`status`, and what `retry` has to know of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.cli.commands.shards import is_sharded
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.screen import screen
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.observers.words.formatting import clean, duration, money, rate
from cottonpalm.observers.words.kinds import in_words
from cottonpalm.protocols import FAILED, OK, RETRYABLE
from cottonpalm.shell import FACTS, JOB, TROUBLE
from cottonpalm.store_extras import FindsRows
from cottonpalm.stores.codec.glances import glances
from cottonpalm.stores.codec.records import unpack
from cottonpalm.types import numbered
from cottonpalm.urls import is_url, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.protocols import RunInfo, StoredRows
    from cottonpalm.providers.batches.stages import Batch
    from cottonpalm.types import Known

PAGE: Final = 4096
# failed rows whose reasons are counted: `status` answers at once, whatever the run has met
MOST: Final = 20_000
NO_SLOT: Final = 1 << 40  # above any row's


@dataclass(slots=True)
class Reason:
    """One kind of failure: its first row, what was said there, and how many rows failed so."""

    first: int
    said: str
    rows: int = 0
    where: str | None = None  # the last line of the user's own code, where that is asked for


def job_of(url: str, name: str) -> RunSpec:
    """What a run of the store does.

    Raises:
        Problem: there is no such store or run, it was made from Python, or its input is not where it was.
    """
    with existing_store(url) as store:
        job = RunSpec.of(store.known(name).meta, name)
    if not (job.read_once or is_url(job.input) or is_sharded(job.input)):
        _check_input(job.input, name)
    return job


def sent_batches(url: str, name: str) -> bool:
    """Whether this run has sent any batch.

    Raises:
        Problem: there is no such store.
    """
    with existing_store(url) as store:
        return bool(store.batches(name))


def _check_input(path: str, name: str) -> None:
    try:
        Path(path).stat()
    except FileNotFoundError as error:
        raise Problem(
            f"{os_problem('read', path, error)}; put it back, or give the run's command with its new place and "
            f"--run {name}, and then this one again"
        ) from error
    except OSError:
        return  # whoever opens it says what is wrong


def show_status(url: str, name: str | None, *, verbose: bool) -> None:
    """All runs as a table, or one in detail, on stdout."""
    with existing_store(url) as store:
        if name is not None:
            info = store.known(name)
            rows = store.look(name) if info.failed else None
            reasons = {} if rows is None else _reasons(rows)
            if rows is not None and verbose:
                for reason in reasons.values():
                    reason.where = _where(rows, reason.first)
            screen.show_details(_details(info, reasons))
            if out := [batch for batch in store.batches(name) if not batch.over]:
                past = [batch for run in store.runs() for batch in store.batches(run.name) if batch.over]
                screen.show_details(_out(batch, past) for batch in out)
        else:
            screen.show_runs(store.runs())


def show_limits(url: str) -> None:
    """What runs have found of the providers' limits, in words, one line each on stdout."""
    with existing_store(url) as store:
        known, now = store.known_limits(), clock.wall()
    screen.show_details((one.label, limit_in_words(one, now)) for one in known)
    if not known:
        screen.show_details([("limits", "no run of this store has found any yet")])


def limit_in_words(known: Known, now: float) -> str:
    """What was found, and when."""
    learnt, number = known.learnt, int(known.learnt.in_flight)
    said = (
        f"{number:,} in flight fit, no more"
        if learnt.firm
        else f"{number:,} in flight fitted, perhaps more do"
    )
    said += f"; about {rate(learnt.pace)} are taken" if learnt.pace else ""
    return f"{said}; found {duration(max(0.0, now - known.at))} ago"


def _out(batch: Batch, past: list[Batch]) -> tuple[str, str]:
    """A batch that is not over: whose it is, its id there, how far it is, since when, and when it is expected.

    Args:
        batch: one that is not over.
        past: batches that are over, of all runs.
    """
    state = batch.state
    since = clock.local(batch.sent_at or batch.planned_at)
    done = f", {state.done:,} done" if state is not None and state.done else ""
    phase = state.phase.value if state is not None else batch.stage.value
    said = f"{batch.lane.label}, {batch.rows:,} rows{done}, {phase} since {since}"
    said += ", being cancelled" if batch.cancelling else _expected(batch, past)
    said += f", up to {money(batch.reserved)}" if batch.reserved else ""
    return f"batch {batch.batch_id or batch.tag}", said


def _expected(batch: Batch, past: list[Batch]) -> str:
    from cottonpalm.engine.executors.batch.deadline import expected_s, turnarounds

    if batch.sent_at is None:
        return ""
    now, done = clock.wall(), batch.state.done if batch.state is not None else 0
    others = turnarounds(past, batch.lane.provider, batch.lane.model)
    left_s = expected_s(max(0.0, now - batch.sent_at), batch.rows, done, others)
    if left_s is None:
        return ""
    return f", expected {clock.local(now + left_s, '%Y-%m-%d %H:%M %Z')}"


def _reasons(rows: StoredRows) -> dict[str, Reason]:
    """The failed rows of a run by kind, with the first of each; of very many, the first `MOST` say enough."""
    found: dict[str, Reason] = {}
    for slots in _failed(rows, MOST):
        for glance in glances(sorted(rows.read(slots).items())):
            if glance.error is not None:
                kind, type_, message = glance.error
                reason = found.setdefault(
                    kind, Reason(glance.at, f"{type_}: {message}" if message else type_)
                )
                reason.rows += 1
    return found


def _failed(rows: StoredRows, most: int) -> Iterator[list[int]]:
    """Yield the slots of failed rows, page by page, `most` in all."""
    after = -1
    while most > 0:
        if isinstance(rows, FindsRows):
            failed = rows.page(after, NO_SLOT, (RETRYABLE, FAILED), min(PAGE, most), back=False)
            last = failed[-1] if failed else None
        else:
            page = rows.scan(after, PAGE)
            failed = [row.slot for row in page if row.status != OK][:most]
            last = page[-1].slot if page else None
        if last is None:
            return
        yield failed
        after, most = last, most - len(failed)


def _details(info: RunInfo, reasons: dict[str, Reason]) -> Iterator[tuple[str, Any]]:
    facts, job = info.meta.get(FACTS, {}), info.meta.get(JOB, {})
    yield "run", info.name
    yield "begun", clock.local(info.created)
    yield "ok", f"{info.ok:,}"
    yield (
        "failed",
        f"{info.failed:,}" + (f" ({info.retryable:,} may work when asked again)" if info.failed else ""),
    )
    yield from _failures(info, reasons)
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


def _failures(info: RunInfo, reasons: dict[str, Reason]) -> Iterator[tuple[str, str]]:
    among = f" of the first {MOST:,} failed" if info.failed > MOST else ""
    for kind, reason in sorted(reasons.items(), key=lambda found: -found[1].rows):
        first = f"the first, {numbered(reason.first)}: {clean(reason.said)}"
        yield f"  {kind}", f"{reason.rows:,}{among} ({in_words(kind)}); {first}"
        if reason.where is not None:
            yield "    at", clean(reason.where)


def _where(rows: StoredRows, slot: int) -> str | None:
    error = next((unpack(record, slot, {}).error for record in rows.read([slot]).values()), None)
    return None if error is None else error.where


def _trouble(info: RunInfo) -> Iterator[tuple[str, str]]:
    if reason := info.meta.get(TROUBLE):
        yield "trouble", clean(str(reason))
