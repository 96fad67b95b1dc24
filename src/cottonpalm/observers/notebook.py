"""Shows a run in a notebook: one display in its cell, updated in place, without widgets or scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from cottonpalm.observers.page.markup import Markup, tag
from cottonpalm.observers.terminal.panel import panel
from cottonpalm.observers.terminal.progress import Progress

if TYPE_CHECKING:
    from cottonpalm.observers.terminal.panel import Numbers

WIDTH: Final = 80
EVERY_S: Final = 0.5  # each update is a message to the browser
HEIGHT: Final = 720  # pixels of a report in its frame


def in_notebook() -> bool:
    """Whether this code runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookProgress(Progress):
    """An observer that shows a run in the cell that started it; see `Progress`."""

    every_s = EVERY_S

    def __init__(self) -> None:
        super().__init__(console=Console(file=sys.stdout, width=WIDTH), live=False, lines=True)
        self._handle: Any = None
        self._said: list[str] = []

    def start(self) -> None:
        """Show it at once: the cell has its display before the first row is asked."""
        if self._handle is None and self._stats is not None:
            from IPython.display import display  # noqa: PLC0415 - only there in a notebook

            self._handle = display(self._shown(), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        super().start()

    def close(self) -> None:
        """Leave the last numbers there."""
        super().close()
        self._update()

    def _run(self) -> None:
        """A thread shows for the cell that runs now; a task for its own, which who executes a notebook drops then."""
        super()._run()
        self._update()

    def _tick(self) -> None:
        self._tell()
        self._update()

    def _print(self, text: str) -> None:
        self._said = [*self._said, text][-3:]

    def _update(self) -> None:
        if self._handle is not None:
            self._handle.update(self._shown(), raw=True)

    def _shown(self) -> dict[str, str]:
        assert self._stats is not None
        numbers = self.numbers(self._stats())
        lines = [text.plain.rstrip() for text in panel(numbers, WIDTH)] + self._said
        plain = "\n".join(lines)
        return {"text/plain": plain, "text/html": tag("div", _bar(numbers), tag("pre", plain))}


def _bar(numbers: Numbers) -> Markup | None:
    """The browser's own; nothing where the end is not known."""
    if not numbers.total:
        return None
    return tag("progress", value=str(numbers.done), max=str(numbers.total), aria_label="rows done")


def framed(page: str) -> Markup:
    """A whole page inside a cell: in a frame of its own, so that neither changes the other."""
    return tag(
        "iframe",
        srcdoc=page,
        sandbox="allow-scripts allow-popups",
        width="100%",
        height=HEIGHT,
        frameborder="0",
        title="Report of a run",
    )
