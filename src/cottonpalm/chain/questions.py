"""Finds which part of a row a chain asks about. To the cache, rows that are equal in this part are the same question.

It leaves out other parts only if it is certain. If a chain's first step is one of LangChain's own prompt templates, the
chain reads only the variables of that template, since later steps see only its messages. If another step comes before
the template, or in parallel, it may read more; then the whole row is the question.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable, RunnableSequence

from cottonpalm.chain.installed import is_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

READS: Final = "cottonpalm_reads"  # a Runnable with this attribute reads only these names of its row
_PROMPTS: Final = "langchain_core.prompts"
_MESSAGES: Final = frozenset(
    (
        "AIMessagePromptTemplate",
        "ChatMessagePromptTemplate",
        "HumanMessagePromptTemplate",
        "SystemMessagePromptTemplate",
    )
)


def question_of(chains: Iterable[Runnable[Any, Any]]) -> Callable[[Any], Any] | None:
    """Return a function from a row to its question, for the cache; None: the question is always the whole row.

    Args:
        chains: the chain and its fallbacks; the question holds what any of them reads.
    """
    return question_by(names_read(chains))


def names_read(chains: Iterable[Runnable[Any, Any]]) -> frozenset[str] | None:
    """Return the names of a row that any of the chains reads; None: they may read the whole row."""
    names: set[str] = set()
    for chain in chains:
        if (read := _read_by(chain)) is None:
            return None
        names |= read
    return frozenset(names)


def question_by(names: AbstractSet[str] | None) -> Callable[[Any], Any] | None:
    """Return a function that takes from a row what has these names; None: all of it."""
    if names is None:
        return None

    def question(row: Any) -> Any:
        if type(row) is not dict or names >= row.keys():
            return row
        return {name: value for name, value in row.items() if name in names}

    return question


def _read_by(chain: Runnable[Any, Any]) -> set[str] | None:
    """Return the names of a row that a chain reads; None if it may read the whole row."""
    first = chain.first if type(chain) is RunnableSequence else chain
    if not is_library(first) and (told := getattr(first, READS, None)) is not None:
        return set(told)  # LangChain's wrappers would answer with an attribute of only one of their parts
    if _is(first, "PromptTemplate"):
        return _read_by_text(first)
    if not _is(first, "ChatPromptTemplate"):
        return None
    read = {*first.input_variables, *first.optional_variables, *first.partial_variables}  # type: ignore[attr-defined]
    for message in first.messages:  # type: ignore[attr-defined]
        if (inner := _read_by_message(message)) is None:
            return None
        read |= inner
    return read


def _read_by_message(message: Any) -> set[str] | None:
    """Return the names that a part of a chat prompt reads; None if it may read all, as a choice of examples does."""
    if _is(message, "MessagesPlaceholder"):
        return {message.variable_name}
    if type(message).__module__.startswith("langchain_core.messages"):
        return set()
    own = type(message).__name__ in _MESSAGES and _is(message, type(message).__name__)
    return _read_by_text(message.prompt) if own and _is(message.prompt, "PromptTemplate") else None


def _read_by_text(prompt: Any) -> set[str] | None:
    if prompt.template_format != "f-string":
        return None
    return {*prompt.input_variables, *prompt.partial_variables}  # a row may also set a partial variable


def _is(thing: object, name: str) -> bool:
    """Whether it is of exactly this class of LangChain's prompts, since a subclass may do anything."""
    prompts = sys.modules.get(_PROMPTS)  # if the module is not imported, no chain holds an object of it
    return prompts is not None and type(thing) is getattr(prompts, name)
