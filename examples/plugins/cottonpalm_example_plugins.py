"""A provider, a file format and an observer. Install this folder, and the command line knows them by their names.

cottonpalm run in.ltsv -o out.ltsv --model echo:loud --prompt "{text}" --observer lengths
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from cottonpalm import Event, RowFinished, RunEnded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Echo(BaseChatModel):
    """A model that says what it is told, or shouts it."""

    name: str
    mark: str = "!"

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        text = str(messages[-1].content)
        said = text.upper() + self.mark if self.name == "loud" else text
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said))])


def echo(name: str, base_url: str | None = None, **options: Any) -> BaseChatModel:
    """Make the model for `--model echo:NAME`; the options are those of `--model-option`."""
    if base_url is not None:
        raise ValueError("an echo has no server")
    return Echo(name=name, **options)


def read_ltsv(path: str) -> Iterator[dict[str, Any]]:
    """Read labelled tab-separated values: the rows of `in.ltsv`, one after the other."""
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield dict(cell.split(":", 1) for cell in line.rstrip("\n").split("\t"))


def write_ltsv(file: BinaryIO, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the results: the input's columns, the answer's, and how each row ended."""
    for row in rows:
        cells = [f"{name}:{row[name]}" for name in columns if row[name] is not None]
        file.write(("\t".join(cells) + "\n").encode())


class Lengths:
    """Tells at the end how long the answers were."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def see(self, event: Event) -> None:
        """Look at one event; it changes nothing."""
        if isinstance(event, RowFinished) and event.outcome.status == "ok":
            self.lengths.append(len(str(event.outcome.output)))
        elif isinstance(event, RunEnded) and self.lengths:
            print(f"longest answer: {max(self.lengths)} characters", file=sys.stderr)
