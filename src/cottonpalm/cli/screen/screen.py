"""Shows messages and the summary on stderr, and tables on stdout."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cottonpalm import clock
from cottonpalm.observers.terminal.progress import Progress
from cottonpalm.observers.words.formatting import as_it_can_be_shown, clean, money, rate
from cottonpalm.shell import JOB, total_of
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.cli.screen.summary import Summary
    from cottonpalm.protocols import RunInfo
    from cottonpalm.shell import Total


COPIED: Final = frozenset({"results", "retry", "resume"})  # not wrapped, so that they can be copied
LABEL: Final = 10  # the least width of a name before its value
UNBOUNDED: Final = 10_000  # a width that no line reaches


class Screen:
    """Shows everything that is not data. It shows texts literally: no markup, no control characters.

    Args:
        quiet: show only errors.
        verbose: show retries, pauses and failed rows too.
        progress: show how far the run is.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, progress: bool = True) -> None:
        self.quiet, self.verbose, self._progress = quiet, verbose and not quiet, progress and not quiet
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)

    def error(self, message: str) -> None:
        """Show one line, always."""
        self._prose(Text.assemble(("cottonpalm: ", "bold red"), clean(message, None)))

    def warn(self, message: str) -> None:
        """Show one line, also when quiet: nobody would know otherwise."""
        self._prose(Text(clean(message, None)))

    def say(self, message: str) -> None:
        """Show one line, unless quiet."""
        if not self.quiet:
            self._prose(Text(clean(message, None)))

    def command(self, command: str) -> None:
        """Show a command that the user may copy, unless quiet."""
        if not self.quiet:
            self._print(Text(f"  {clean(command, None)}"))

    def report(self, text: str) -> None:
        """Show lines that are laid out already, unless quiet."""
        if not self.quiet:
            self._print(Text(f"\n{as_it_can_be_shown(text, self._console.encoding)}"))

    def ask(self, question: str) -> None:
        """Ask a question; the answer is typed on the same line."""
        self._put(Text(clean(question, None)), end="", soft_wrap=True)

    def traceback(self, error: BaseException) -> None:
        """Show where an error came from, with -v."""
        if self.verbose:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._print(Text(clean(line, None)))

    def observer(
        self,
        total: Callable[[], tuple[int, bool] | None],
        *,
        live: bool,
        budget_usd: float | None,
    ) -> Progress | None:
        """Return the progress display, or None when quiet.

        Args:
            total: returns how many rows the input holds, as far as known.
            live: True: the display may redraw in place (standard output is not the same terminal).
            budget_usd: what may be spent.
        """
        if self.quiet:
            return None
        return Progress(
            console=self._console,
            verbose=self.verbose,
            total=total,
            live=None if live else False,
            lines=self._progress,
            budget_usd=budget_usd,
        )

    def summary(self, summary: Summary) -> None:
        """Show the last lines."""
        if self.quiet:
            return
        for number, (label, text) in enumerate(summary.lines()):
            lead = f"{clean(label, None)}: " if number == 0 else f"  {label:<8} "
            self._labelled(lead, clean(text, None), whole=label in COPIED)

    def _labelled(self, lead: str, text: str, *, whole: bool) -> None:
        """Show a line after a label. If the terminal is too narrow, wrap it and indent to the label's width."""
        line = Text.assemble((lead, "bold"), text)
        if whole or not self._console.is_terminal or line.cell_len <= self._console.width:
            self._print(line)
            return
        table = Table.grid()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(lead, style="bold"), Text(text))
        self._put(table)

    def _prose(self, text: Text) -> None:
        self._put(text, soft_wrap=not self._console.is_terminal)  # in a log, never wrap a line

    def _print(self, text: Text) -> None:
        self._put(text, soft_wrap=True)  # never wrap a command, so that it can be copied

    def _put(self, told: Text | Table, **how: Any) -> None:
        with suppress(OSError):  # a terminal that was closed, a log on a full disk: the run is worth more
            self._console.print(told, **how)


def clear() -> None:
    """Clear the terminal on stdout, if it is one."""
    _stdout().clear()


def show(text: Text) -> None:
    """Show a line on stdout that the user may copy: we do not wrap it."""
    _stdout().print(text, soft_wrap=True)


def put(data: bytes) -> None:
    """Put data for programs on stdout as it is: UTF-8, in any locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _stdout() -> Console:
    """Return a console for stdout; without a terminal, it has no limit of width."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNBOUNDED
    return console


TEXTS: Final = frozenset({"run", "output", "held by"})
FOLDED: Final = 14  # columns of the terminal: how narrow a text may become before a column is left out
LEAST: Final = 4  # so many columns of the table of runs are shown on every terminal
GAP: Final = 2


def show_runs(runs: Iterable[RunInfo]) -> None:
    """Show all runs of a store as a table on stdout. Long texts are folded; where too narrow, the last columns go."""
    console, names = _stdout(), ["run", "ok", "failed", "left", "cost", "rate", "output", "held by"]
    rows = [_cells(info) for info in runs]
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    least = [
        min(width, FOLDED) if name in TEXTS else width for name, width in zip(names, widths, strict=True)
    ]
    while len(names) > LEAST and sum(least[: len(names)]) + GAP * (len(names) - 1) > console.width:
        names.pop()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name, width in zip(names, least, strict=False):
        text = name in TEXTS
        table.add_column(
            name, justify="left" if text else "right", overflow="fold", no_wrap=not text, min_width=width
        )
    for cells in rows:
        table.add_row(*map(Text, cells[: len(names)]))
    console.print(table)


def _cells(info: RunInfo) -> list[str]:
    pace = info.meta.get("facts", {}).get("rate")
    return [
        clean(info.name),
        f"{info.ok:,}",
        f"{info.failed:,}",
        left_of(info),
        cost_of(info),
        rate(pace) if pace else "-",
        clean(shown(info.meta.get(JOB, {}).get("output", "-"))),
        clean(holder_of(info) or "-"),
    ]


def cost_of(info: RunInfo) -> str:
    """What a run cost; `?` where no price is known."""
    return money(info.cost_pico) if is_cost_known(info) else "?"


def is_cost_known(info: RunInfo) -> bool:
    """Whether what a run cost can be said: of a model without a price it adds up to nothing."""
    return bool(info.cost_pico or info.meta.get("facts", {}).get("priced"))


def total_in_all(info: RunInfo) -> Total | None:
    """Rows of a run's input; a run from Python says them in its kept report."""
    from cottonpalm.observers.kept import total_in  # most commands show no stored run

    return total_of(info.meta.get("facts", {}), total_in(info.meta))


def left_of(info: RunInfo) -> str:
    """Say how many rows are not done; `~` before a guess, `?` if unknown."""
    if (total := total_in_all(info)) is None:
        return "?"
    left = max(0, total.rows - info.ok - info.failed)
    return f"{left:,}" if total.exact else f"~{left:,}"


def holder_of(info: RunInfo) -> str | None:
    """Say who works on a run, and since when; None: nobody."""
    words = (info.holder or "").rsplit(" ", 2)
    if len(words) != 3 or not words[2].isdecimal():  # another kind of store describes it in its own way
        return info.holder
    return f"process {words[1]} on {words[0]}, since {clock.local(int(words[2]))}"


def show_block(title: str, parts: Iterable[tuple[str, str]]) -> None:
    """Show a title, then each text under its label, line by line, with control characters as escapes."""
    show(Text(clean(title, None), style="bold"))
    for label, text in parts:
        lead = f"  {label}: " if label else "  "
        for number, line in enumerate(text.split("\n")):
            show(Text.assemble((lead if number == 0 else " " * len(lead), "bold"), clean(line, None)))


def show_details(pairs: Iterable[tuple[str, Any]]) -> None:
    """Show names and values of one run, one per line, so that they can be copied."""
    named = list(pairs)
    wide = max([LABEL, *(len(name) for name, _ in named)])
    for name, value in named:
        show(Text.assemble((f"{name:<{wide}} ", "bold"), clean(str(value), None)))
