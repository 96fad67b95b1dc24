"""A report as it is kept with its run, so that any process can draw it again: plain JSON, small, read leniently."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cottonpalm.observers.measures.reported import (
    BatchUse,
    Counts,
    ModelUse,
    Moment,
    Money,
    Repeats,
    SizeClass,
    Spread,
    StepUse,
    TopRow,
)
from cottonpalm.observers.report import Report
from cottonpalm.stats import PromptUse
from cottonpalm.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

META: Final = "report"  # where it stands in a run's meta
VERSION: Final = 1
SAMPLE: Final = "sample"  # why a run stopped of which a plan has run some rows
LIVES: Final = 20  # earlier lives that are remembered
DIGITS: Final = 6  # of a number that count
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one life of a run: from its start to its end, or until its process was killed.

    Attributes:
        began: Unix seconds; `ended` likewise.
        reason: why it stopped, in a word; None for a normal end.
        over: it came to its end; False: the process was killed, or it goes on.
        lives: (Unix seconds, seconds, rows) of the lives before that did anything.
    """

    report: Report
    began: float
    ended: float
    reason: str | None = None
    over: bool = True
    lives: tuple[tuple[float, float, int], ...] = ()

    @property
    def rows(self) -> int:
        """Rows that this life ended."""
        return self.report.counts.ok + self.report.counts.failed


def packed(kept: Kept) -> dict[str, Any]:
    """As JSON can hold it; some ten kilobytes."""
    report = kept.report.to_dict()
    report["over_time"] = _columns(report["over_time"])
    return {
        "version": VERSION,
        "began": kept.began,
        "ended": kept.ended,
        "reason": kept.reason,
        "over": kept.over,
        "lives": kept.lives,
        "report": _short(report),
    }


def after(before: Any, kept: Kept) -> Kept:
    """With the lives that are over already. `before` is what the run's meta held when this life began."""
    earlier = read(before)
    if earlier is None:
        return kept
    lives = earlier.lives
    if earlier.rows:
        lives = (*lives, (earlier.began, earlier.report.wall_s, earlier.rows))
    return replace(kept, lives=lives[-LIVES:])


def done(earlier: Kept, now: Kept) -> Kept | None:
    """The earlier life, over: one that did nothing has found its rows done. None: it was stopped, or had fewer rows."""
    if not now.over or now.reason is not None or (now.report.total or 0) < (earlier.report.total or 0):
        return None
    report = replace(earlier.report, over=True, stopped=None)
    return replace(earlier, report=report, reason=None, over=True)


def read(data: Any) -> Kept | None:
    """What `packed` gave, also of another version; None where it is not that.

    What is missing is as if nothing had been counted, what is unknown is left out.
    """
    try:
        report = _report(data["report"])
        lives = tuple((float(at), float(took), int(rows)) for at, took, rows in data.get("lives", ()))
        over, reason = bool(data.get("over", True)), data.get("reason")
        return Kept(report, float(data["began"]), float(data["ended"]), reason, over, lives)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def total_in(meta: Mapping[str, Any]) -> int | None:
    """Rows that a run was told of, by the report that is kept in its meta; without reading all of that."""
    found = meta.get(META)
    report = found.get("report") if isinstance(found, dict) else None
    total = report.get("total") if isinstance(report, dict) else None
    return total if isinstance(total, int) else None


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list a field, which is half as long as an object a row."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _short(value: Any) -> Any:
    """Numbers with as many digits as say something."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return value


def _of(cls: type[T], data: Mapping[str, Any], **parts: Any) -> T:
    """An object of what is known of it; a value that is no number where one belongs counts as missing."""
    known = {each.name: each.default for each in fields(cls)}  # type: ignore[arg-type]  # all are dataclasses
    fitting = {name: value for name, value in data.items() if name in known and _fits(value, known[name])}
    return cls(**fitting | parts)


def _fits(value: Any, default: Any) -> bool:
    return isinstance(value, int | float) or not isinstance(default, int | float)


def _spread(data: Mapping[str, Any]) -> Spread:
    bars = tuple((float(upper), int(count)) for upper, count in data.get("bars", ()))
    return _of(Spread, data, bars=bars)


def _report(data: Mapping[str, Any]) -> Report:
    return Report(
        counts=_of(Counts, data["counts"]),
        wall_s=float(data["wall_s"]),
        active_s=float(data.get("active_s", data["wall_s"])),
        rows_per_s=float(data.get("rows_per_s", 0.0)),
        row_latency_s=_spread(data.get("row_latency_s", {})),
        request_latency_s=_spread(data.get("request_latency_s", {})),
        waits_s={name: _spread(each) for name, each in data.get("waits_s", {}).items()},
        over_time=tuple(_of(Moment, row) for row in _rows(data.get("over_time", {}))),
        errors={kind: dict(types) for kind, types in data.get("errors", {}).items()},
        usage=_of(Usage, data.get("usage", {})),
        cost_usd=data.get("cost_usd"),
        cost_per_row_usd=data.get("cost_per_row_usd"),
        by_model={name: _of(ModelUse, used) for name, used in data.get("by_model", {}).items()},
        slowest=tuple(_of(TopRow, row) for row in data.get("slowest", ())),
        dearest=tuple(_of(TopRow, row) for row in data.get("dearest", ())),
        bound_by=tuple(map(str, data.get("bound_by", ()))),
        bound_s=dict(data.get("bound_s", {})),
        sizes=tuple(_of(SizeClass, row) for row in data.get("sizes", ())),
        repeats=_of(Repeats, data.get("repeats", {})),
        money=_of(Money, data.get("money", {})),
        prompts={name: _of(PromptUse, use) for name, use in data.get("prompts", {}).items()},
        steps=tuple(_of(StepUse, step) for step in data.get("steps", ())),
        batch=_of(BatchUse, data.get("batch", {})),
        transports={str(way): int(calls) for way, calls in data.get("transports", {}).items()},
        total=data.get("total"),
        over=bool(data.get("over", True)),
        stopped=data.get("stopped"),
    )


def nothing() -> Report:
    """Of a run whose report was not kept."""
    return _report({"counts": {}, "wall_s": 0.0})
