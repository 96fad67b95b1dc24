"""`cottonpalm plan`: what a run would cost and how long it would take."""

from __future__ import annotations

from contextlib import closing
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from cottonpalm import BatchProcessor
from cottonpalm.cli.chains.build import build
from cottonpalm.cli.options.keywords import keywords_of, lane_of
from cottonpalm.cli.readers.open_rows import rows_of
from cottonpalm.cli.readers.rows import RowFields
from cottonpalm.cli.screen import wording
from cottonpalm.cli.screen.screen import show_details
from cottonpalm.cli.store.held_store import existing_store
from cottonpalm.cli.writers.open_output import check_name
from cottonpalm.observers.words.formatting import count, duration, money
from cottonpalm.observers.words.prompts import planned
from cottonpalm.shell import Code
from cottonpalm.stores import database_of
from cottonpalm.types import PICO
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.planning.estimate import Range
    from cottonpalm.planning.plan import Plan


class At(NamedTuple):
    """The run that is planned; without a name, nothing is looked up or kept."""

    store: str
    run: str | None
    named: bool = True  # by the user; else by the output


def show_plan(job: RunSpec, at: At, sample: int, screen: Screen) -> Code:
    """Show the plan of a job, on stdout.

    Raises:
        Problem, ConfigError, StoreError: as for the run itself; nothing was called.
        RunStopped: the sample was stopped.
    """
    if at.run is not None and not at.named:
        _check_name(job, at.store, at.run)
    with closing(rows_of(job)) as rows:
        built = build(job, rows, quiet=screen.quiet, unasked=not sample)
        processor = BatchProcessor(
            built.chain,
            **keywords_of(job, built, at.store),
            mode=job.mode,  # type: ignore[arg-type]  # the processor checks it, as the next
            detach=job.detach,
            deadline=job.deadline_s,
            lane=lane_of(job),
            store=at.store if at.run else None if job.mode == "live" else "memory:",  # batches need one
            run=at.run or (None if job.mode == "live" else "plan"),
        )
        plan = processor.plan(rows, ids=RowFields(job.id_field).ids, sample=sample)
    show_details(lines(shown(job.input), plan, cached=job.cache))
    for note in plan.notes:
        screen.say(f"note: {wording.here(note)}")
    if plan.basis == "sample" and at.run is None and not job.cache:
        screen.say("note: the sample's answers are not kept: name the run with --run, or its output with -o")
    return Code.OK


def _check_name(job: RunSpec, url: str, run: str) -> None:
    """As `run` does: a sample must not be stored among the rows of another file's run."""
    database = database_of(url)
    if database is not None and database.exists():
        with existing_store(url) as store:
            if (info := store.info(run)) is not None:
                check_name(info, job.input, job.output)


def lines(name: str, plan: Plan, *, cached: bool) -> Iterator[tuple[str, str]]:
    """Label and text of each line."""
    yield "input", f"{name}: {count(plan.rows, 'row')}"
    yield "to ask", ", ".join(_asked(plan))
    if plan.duplicates and not cached:
        about = "" if plan.duplicates_exact else "about "
        yield "repeats", f"{about}{count(plan.duplicates, 'row')} asked before: --cache asks them once"
    if plan.models:
        yield "model", ", ".join(plan.models)
    yield from _tokens(plan)
    for use in plan.prompts.values():
        if saving := planned(use, plan.asked):
            yield "prompt", saving
    yield "cost", _cost(plan.cost_usd, plan)
    if plan.flex_usd is not None:
        yield "flex tier", _cost(plan.flex_usd, plan)
    if plan.batch_usd is not None:
        yield "batch", _cost(plan.batch_usd, plan)
    yield "time", _time(plan)
    yield "from", _basis(plan)


def _asked(plan: Plan) -> Iterator[str]:
    yield count(plan.asked, "row")
    for number, what in (
        (plan.stored, "stored"),
        (plan.cached, "in the cache"),
        (plan.unreadable, "unreadable"),
    ):
        if number:
            yield f"{number:,} {what}"


def _tokens(plan: Plan) -> Iterator[tuple[str, str]]:
    if (into := plan.input_tokens) is not None:
        yield "tokens in", _between(into, _about)
    if (out := plan.output_tokens) is not None and plan.basis == "bound" and out.high < inf:
        yield "tokens out", f"at most {_about(out.high)}"
    elif out is not None:
        yield "tokens out", _between(out, _about)


def _about(number: float) -> str:
    """A number with as many digits as it deserves."""
    if number < 100:
        return f"{number:.0f}"
    digits = len(f"{number:.0f}") - 3
    return f"{round(number, -digits):,.0f}"


def _cost(cost: Range | None, plan: Plan) -> str:
    if cost is None:
        return "not known"
    if cost.high == 0:
        return "nothing"
    if plan.basis == "bound" and cost.high < inf:
        return f"at most {_enough(cost.high)}; the input alone {_dollars(cost.low)} or more"
    return _between(cost, _dollars)


def _dollars(amount: float) -> str:
    return money(round(amount * PICO))


def _enough(amount: float) -> str:
    """Dollars, rounded up: a budget of what is said here must do."""
    unit = PICO // (100 if amount >= 1 else 10_000 if amount >= 0.001 else 1_000_000)
    return money(-(-round(amount * PICO) // unit) * unit)


def _between(found: Range, shown_as: Callable[[float], str]) -> str:
    if found.high == inf:
        return f"about {shown_as(found.likely)}, from one row: it may be far more"
    return f"{shown_as(found.likely)} ({shown_as(found.low)} to {shown_as(found.high)})"


def _time(plan: Plan) -> str:
    if plan.duration_s is not None:
        return f"about {duration(plan.duration_s)}"
    if plan.basis == "bound":
        return "not known: --sample N tells"
    return "not known: --concurrency N tells"


def _basis(plan: Plan) -> str:
    if plan.basis == "bound":
        return "the requests as they would be made; none was"
    if plan.basis == "history":
        return f"{count(plan.sampled, 'row')} that the run has done"
    spent = money(round(plan.spent_usd * PICO))
    return f"{count(plan.sampled, 'row')} drawn at random and run, for {spent} of this cost"
