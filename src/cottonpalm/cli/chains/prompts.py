"""The row prompt: it replaces `{column}` if the column is known; every other brace is literal."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import PrivateAttr

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.rows import listed
from cottonpalm.stores.codec.as_json import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


LIKE_A_COLUMN: Final = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
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
    cottonpalm_form: ClassVar[int] = 1  # raised by hand when the same fields make other messages
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
        return self._places.sub(lambda place: _shown(row[place[1]]), text)


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
    if not used:
        braced = ", ".join(f"{{{name}}}" for name in columns[:12]) or "its columns (the first row has none)"
        raise Problem(
            f"the prompt names no column of {source}, so every row would ask the same; name one of {braced}"
        )
    if not literal:
        template, system = _meant(template, columns), None if system is None else _meant(system, columns)
    return RowPrompt(template=template, system=system, columns=tuple(used))


def named(text: str, columns: Iterable[str]) -> list[str]:
    """Return the columns that a text names."""
    return [name for name in columns if f"{{{name}}}" in text]


def _check_names(text: str, columns: list[str], source: str) -> None:
    """Refuse a brace that looks like a column and is none: it is a typo more often than it is meant."""
    for match in LIKE_A_COLUMN.finditer(text):
        word = match[1]
        if word not in columns and not word.isdecimal():
            near = difflib.get_close_matches(word, columns, n=1, cutoff=0.6)
            nearest = f"did you mean {{{near[0]}}}?" if near else f"its columns are {listed(columns)}."
            raise Problem(
                f"the prompt names {{{word}}}, which is no column of {source}; {nearest} "
                f"If it is meant as it stands, write {{{{{word}}}}}, or say --literal-braces"
            )


def _meant(text: str, columns: list[str]) -> str:
    """Make `{word}` of each `{{word}}` that is no column."""
    return DOUBLED.sub(lambda match: match[0] if match[1] in columns else f"{{{match[1]}}}", text)


def _shown(value: Any) -> str:
    return "null" if value is None else text_of(value)
