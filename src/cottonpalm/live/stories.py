"""A run of the store as pages tell it: what its process kept of it, what was asked for, and its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.observers import kept
from cottonpalm.observers.measures.rows_seen import RowsSeen
from cottonpalm.observers.page.story import Story, stopped_state
from cottonpalm.observers.words.formatting import count
from cottonpalm.observers.words.kinds import why_stopped
from cottonpalm.observers.words.numbers import money_usd
from cottonpalm.shell import FACTS, JOB, Code, command_on, total_of
from cottonpalm.store_extras import ReadsOn
from cottonpalm.stores import shown as store_shown
from cottonpalm.stores.codec.glances import about, glances, tries
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cottonpalm.observers.kept import Kept
    from cottonpalm.observers.page.story import State
    from cottonpalm.protocols import RunInfo, StoredRows

PAGE: Final = 1024
_HIDDEN: Final = frozenset({"folder", "input_kept", "unkept"})


def glanced(info: RunInfo, life: Kept | None, url: str) -> Story:
    """A run as far as it is known without a look at its rows: their counts and cost, and the report of its life."""
    rows = RowsSeen()
    rows.ok, rows.failed, rows.cost_pico = info.ok, info.failed, info.cost_pico
    priced = info.meta.get(FACTS, {}).get("priced") or (life is not None and life.report.cost_usd is not None)
    rows.cost_known = bool(info.cost_pico or priced)
    return told(info, life, rows, url)


def told(info: RunInfo, life: Kept | None, rows: RowsSeen, url: str) -> Story:
    """Put together what is known of a run."""
    name = info.name
    # also of answers whose rows are not done, or were asked anew
    rows.cost_pico = max(rows.cost_pico, info.cost_pico)
    facts = info.meta.get(FACTS, {})
    report = life.report if life is not None else kept.nothing()
    asked = info.meta.get(JOB, {})
    guess = total_of(facts, report.total)
    return Story(
        report,
        name,
        _state(info, life, facts),
        why_stopped(None if life is None else life.reason),
        tuple(report.by_model) or tuple(filter(None, [asked.get("model")])),
        info.created if life is None else life.began,
        None if life is None or info.holder else life.ended,
        known_total(facts, report.total, rows.ok + rows.failed),
        rows,
        dict(_settings(info, life, url)),
        command_on("retry", name, url) if rows.failed else "",
        None if guess is None else max(guess.rows, rows.ok + rows.failed),
    )


def known_total(facts: Mapping[str, Any], told: int | None, done: int) -> int | None:
    """Rows of the input, where that is no guess; never fewer than are done."""
    total = total_of(facts, told)
    return max(total.rows, done) if total is not None and total.exact else None


def rows_of(stored: StoredRows | None) -> RowsSeen:
    """Read all rows once, even if another process works on the run."""
    seen = RowsSeen()
    if stored is not None:
        for page in _pages(stored):
            seen.add(glances(page))
        shown = stored.read(sorted(seen.shown))
        seen.texts = {at: about(record) for at, record in shown.items()}
        seen.tries = {at: tries(record) for at, record in shown.items()}
    return seen


def _pages(stored: StoredRows) -> Iterator[list[tuple[int, bytes]]]:
    """All records, in the order of the rows."""
    after = -1
    if isinstance(stored, ReadsOn):
        while page := stored.records(after, PAGE):
            yield page
            after = page[-1][0]
        return
    while slots := stored.scan(after, PAGE):
        yield sorted(stored.read([row.slot for row in slots]).items())
        after = slots[-1].slot


def _state(info: RunInfo, life: Kept | None, facts: Mapping[str, Any]) -> State:
    if info.holder:
        return "running"
    code = facts.get("code")
    stopped = code not in (None, Code.OK, Code.SOME_FAILED)
    if stopped or life is None or life.reason is not None or not life.over:
        return stopped_state(None if life is None else life.reason)
    return "some failed" if info.failed else "done"


def _settings(info: RunInfo, life: Kept | None, url: str) -> Iterator[tuple[str, str]]:
    yield "run", info.name
    for name, value in info.meta.get(JOB, {}).items():
        if name not in _HIDDEN and value not in (None, "", [], {}, False) and (name, value) != ("times", 1):
            yield _label(name), _said(name, value)
    yield "store", shown(store_shown(url))
    if life is not None and life.lives:
        earlier = sum(rows for _, _, rows in life.lives)
        yield "lives", f"{len(life.lives) + 1}; the earlier ones did {count(earlier, 'row')}"


def _label(name: str) -> str:
    return name.removesuffix("_usd").removesuffix("_s").replace("_", " ")


def _said(name: str, value: Any) -> str:
    if name in ("input", "output"):
        return "standard input" if value == "-" and name == "input" else shown(str(value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name.endswith("_usd"):
        return money_usd(value)
    return "on" if value is True else f"{value:g} s" if name.endswith("_s") else str(value)
