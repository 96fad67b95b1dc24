"""Technique 9: how long it took, and how fast it was."""

from __future__ import annotations

import textwrap
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm import clock
from cottonpalm.engine.input.frames import list_in
from cottonpalm.observers.advice.rules import why_nothing
from cottonpalm.presets.base import Preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langchain_core.runnables import Runnable

    from cottonpalm.observers.report import Report
    from cottonpalm.presets.options import Options
    from cottonpalm.run import BaseRun
    from cottonpalm.types import Outcome

LEAST_S: Final = 1e-9  # stands for a lap that is too short for the clock


class ProfilingBatchProcessor(Preset):
    """Measures as it runs: one lap for every `max_concurrency` finished rows, no row waits for its lap.

    Args:
        chain: any Runnable.
        **options: every keyword of `BatchProcessor`.

    Attributes:
        metrics: lists of the same length, one entry a lap, over all batches: `batch_size` (rows; they add up to all
            rows that finished), `batch_duration` (seconds; they add up to the time it took) and `throughput` (rows a
            second).
    """

    def __init__(self, chain: Runnable[Any, Any], **options: Unpack[Options]) -> None:
        super().__init__(chain, options)
        self.metrics: defaultdict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def batch(self, inputs: Iterable[Any], max_concurrency: int | None = 10) -> list[Any]:
        """Every row's output, in order; prints the report once all rows have run, also where some failed.

        Args:
            inputs: the rows.
            max_concurrency: rows at once, at most, and rows in a lap; None for as many at once as the provider takes
                and one lap for all.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        rows, began = [*list_in(inputs)], clock.now()
        laps = _Laps(max_concurrency or len(rows), began)
        collected = self.processor.collect(rows, max_concurrency=max_concurrency, seen=laps.count)
        laps.end()
        self._add(laps)
        self.print_report(len(rows), clock.now() - began)
        return collected.answers(return_exceptions=False)

    def _add(self, laps: _Laps) -> None:
        with self._lock:  # keeps the lists at the same length when several threads run batches
            for size, seconds in laps.done:
                self.metrics["batch_size"].append(size)
                self.metrics["batch_duration"].append(seconds)
                self.metrics["throughput"].append(size / seconds)

    def print_report(self, total_inputs: int, total_duration: float) -> None:
        """Print rows, seconds and rows a second, in all and per lap; what bound the last batch, and what to change.

        Args:
            total_inputs: rows.
            total_duration: seconds.
        """
        lines = [
            "",
            "=== performance ===",
            f"rows: {total_inputs}",
            f"total time: {total_duration:.2f} s",
            f"throughput: {total_inputs / max(total_duration, LEAST_S):.2f} rows/s",
            f"mean lap: {_mean(self.metrics['batch_duration']):.2f} s",
            f"mean lap throughput: {_mean(self.metrics['throughput']):.2f} rows/s",
        ]
        if (run := self.processor.last_run) is not None:
            lines += _told(run.report)
        print("\n".join(lines))  # noqa: T201 - that is what it is for


class _Laps:
    """Counts finished rows in laps of `size`."""

    def __init__(self, size: int, now: float) -> None:
        self.done: list[tuple[int, float]] = []
        self._size, self._rows, self._began = size, 0, now

    def count(self, outcome: Outcome, _run: BaseRun) -> None:
        self._rows += outcome.status != "skipped"
        if self._rows == self._size:
            self.end()

    def end(self) -> None:
        """Close the lap, if it has any rows."""
        now = clock.now()
        if self._rows:
            self.done.append((self._rows, max(now - self._began, LEAST_S)))
        self._rows, self._began = 0, now


def _told(report: Report) -> Iterator[str]:
    """What bound the run, and what to change, in lines of at most 80 columns."""
    advice = [each.text() for each in report.advice()] or [f"nothing. {why_nothing(report)}"]
    for label, said in (("bound by", " ".join(report.bound_by)), *(("advice", text) for text in advice)):
        yield from textwrap.wrap(f"{label}: {said}", 80, subsequent_indent="  ")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
