"""The row prompt: it replaces `{column}` if the column is known; every other brace is literal."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import PrivateAttr

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.rows import listed
from cottonpalm.engine.input.frames import cell
from cottonpalm.stores.codec.as_json import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


LIKE_A_COLUMN: Final = re.compile(r"(?<!\{)\{([^\S\n]*)(\w+)([^\S\n]*)\}(?!\})")
LIKE_A_LONGER_NAME: Final = re.compile(r"(?<!\{)\{([^{}\n\"':]+)\}(?!\})")
# As Python's `str.format` writes it.
PART_OF_A_COLUMN: Final = re.compile(r"(?<!\{)\{(\w+)(?:[.\[!]|:[.,<>^=+])[^{}\n]*\}(?!\})")
DOUBLED: Final = re.compile(r"\{\{(\w+)\}\}")


class RowPrompt(RunnableSerializable[dict[str, Any], list[BaseMessage]]):
    """Makes the messages of a row. No template language: no attribute access, no format specifications.

    Attributes:
        template: the user message; `{name}` stands for the row's value where `name` is one of `columns`.
        system: the system message, with the same replacements; None for none.
        columns: the columns that the two name.
    """

    template: str
    system: str | None = None
    columns: tuple[str, ...]
    cottonpalm_form: ClassVar[int] = 2  # raised by hand when the same fields make other messages
    _places: re.Pattern[str] = PrivateAttr()

    @property
    def cottonpalm_reads(self) -> tuple[str, ...]:
        """All that it reads of a row (see `questions.py`)."""
        return self.columns

    def model_post_init(self, context: Any, /) -> None:
        """Compile the places once."""
        super().model_post_init(context)
        names = "|".join(re.escape(name) for name in self.columns)
        self._places = re.compile(r"\{(" + names + r")\}")

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002 - Runnable's names
        config: RunnableConfig | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> list[BaseMessage]:
        """The messages of one row."""
        user = HumanMessage(self._filled(self.template, input))
        return [user] if self.system is None else [SystemMessage(self._filled(self.system, input)), user]

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002 - Runnable's names
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> list[BaseMessage]:
        """The same, on the loop: nothing here waits."""
        return self.invoke(input, config, **kwargs)

    def _filled(self, text: str, row: Mapping[str, Any]) -> str:
        return self._places.sub(lambda place: text_of(cell(row[place[1]])), text)


def row_prompt(
    template: str, system: str | None, known: Iterable[str], source: str, *, literal: bool = False
) -> RowPrompt:
    """Make the prompt for rows with these columns.

    Args:
        template: the user message.
        system: the system message.
        known: the columns.
        source: the input's name, for messages.
        literal: leave every other brace as it is.

    Raises:
        Problem: the prompt names no known column, so every row would ask the same; or it names one that is not there.
    """
    columns = list(known)
    used = named(template, columns) + [
        c for c in named(system or "", columns) if c not in named(template, columns)
    ]
    if columns and not literal:  # without columns, that is what to say
        for text in (template, system or ""):
            _check_names(text, columns, source)
            _check_longer_names(text, columns, source)
        _check_doubled([template, system or ""], columns)
    if not used:
        braced = ", ".join(f"{{{name}}}" for name in columns[:12]) or "its columns (the first row has none)"
        raise Problem(
            f"the prompt names no column of {source}, so every row would ask the same; name one of {braced}"
            f"{_a_file(template)}"
        )
    if not literal:
        template, system = _meant(template, columns), None if system is None else _meant(system, columns)
    return RowPrompt(template=template, system=system, columns=tuple(used))


def named(text: str, columns: Iterable[str]) -> list[str]:
    """Return the columns that a text names."""
    return [name for name in columns if f"{{{name}}}" in text]


def _a_file(template: str) -> str:
    """A hint, if the prompt is the name of a file."""
    name = template.strip().removeprefix("@")
    is_file = len(name) < 256 and "\n" not in name and Path(name).is_file()
    named_so = template.startswith("@") or re.fullmatch(r"\S+\.(txt|md|prompt)", name)
    return f". A prompt in a file: --prompt-file {name}" if is_file or named_so else ""


def _check_names(text: str, columns: list[str], source: str) -> None:
    """Refuse a brace that looks like a column and is none: it is a typo more often than it is meant."""
    for match in LIKE_A_COLUMN.finditer(text):
        word, spaced = match[2], match[1] + match[3]
        if match[0][1:-1] in columns or (word.isdecimal() and not spaced):  # blanks may belong to the name
            continue
        near = _near(word, columns)
        if spaced and not near:  # a set, or code
            continue
        nearest = f"did you mean {{{near[0]}}}?" if near else f"its columns are {listed(columns)}."
        raise Problem(
            f"the prompt names {match[0]}, which is no column of {source}; {nearest} "
            f"If it is meant as it stands, {'' if spaced else f'write {{{match[0]}}}, or '}say --literal-braces"
        )


def _check_longer_names(text: str, columns: list[str], source: str) -> None:
    """Refuse a name of several words that is nearly a column, and what would be a part of one: both would be sent."""
    for match in PART_OF_A_COLUMN.finditer(text):
        if match[1] in columns and match[0][1:-1] not in columns:
            raise Problem(
                f"the prompt says {match[0]}: it can name whole columns only. {{{match[1]}}} sends all of that one, an "
                "object as JSON; a --chain can take a part. If it is meant as it stands, say --literal-braces"
            )
    for match in LIKE_A_LONGER_NAME.finditer(text):
        if LIKE_A_COLUMN.match(match[0]) or match[1] in columns:
            continue
        if near := _near(match[1].strip(), columns, cutoff=0.8):
            raise Problem(
                f"the prompt names {match[0]}, which is no column of {source}; did you mean {{{near[0]}}}? "
                "If it is meant as it stands, say --literal-braces"
            )


def _check_doubled(texts: list[str], columns: list[str]) -> None:
    """Refuse columns that are only named in double braces, as other template languages have it."""
    singly = {match[0][1:-1] for text in texts for match in LIKE_A_COLUMN.finditer(text)}
    doubled = [match for text in texts for match in DOUBLED.finditer(text) if match[1] in columns]
    if doubled and not singly & set(columns):
        raise Problem(
            f"the prompt says {doubled[0][0]}: write {{{doubled[0][1]}}} for what stands in that column. Where the "
            "value is meant in braces, say --literal-braces"
        )


def _near(word: str, columns: list[str], *, cutoff: float = 0.6) -> list[str]:
    """The column that a misspelt word may mean, whatever its case; at most one."""
    lower = {name.strip().lower(): name for name in columns}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)]


def _meant(text: str, columns: list[str]) -> str:
    """Make `{word}` of each `{{word}}` that is no column."""
    return DOUBLED.sub(lambda match: match[0] if match[1] in columns else f"{{{match[1]}}}", text)
