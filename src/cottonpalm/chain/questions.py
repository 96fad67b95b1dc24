"""What of a row a chain asks about: rows that differ in nothing else are the same question to the cache.

Only where it is certain. A chain whose first step is one of LangChain's own prompt templates reads the variables of
that template and nothing else of the row: what comes after the template sees its messages alone. Anything that stands
before it, or beside it, may read more; then the whole row is the question.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable, RunnableSequence

from cottonpalm.chain.installed import is_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

READS: Final = "cottonpalm_reads"  # names, on a Runnable that reads only these of its row
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
    """What the cache goes by in place of the row, the row itself where nothing is left out; None: always the row.

    Args:
        chains: the chain and its fallbacks: what any of them reads counts.
    """
    names: set[str] = set()
    for chain in chains:
        if (read := _read_by(chain)) is None:
            return None
        names |= read

    def question(row: Any) -> Any:
        if type(row) is not dict or names.issuperset(row):
            return row
        return {name: value for name, value in row.items() if name in names}

    return question


def _read_by(chain: Runnable[Any, Any]) -> set[str] | None:
    """The names of a row that a chain reads; None where it may read all of it."""
    first = chain.first if type(chain) is RunnableSequence else chain
    if not is_library(first) and (told := getattr(first, READS, None)) is not None:
        return set(told)  # LangChain's own wrappers answer with an attribute of only one of those they hold
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
    """What a part of a chat prompt reads; None for one that may look at all, as a choice of examples does."""
    if _is(message, "MessagesPlaceholder"):
        return {message.variable_name}
    if type(message).__module__.startswith("langchain_core.messages"):
        return set()
    own = type(message).__name__ in _MESSAGES and _is(message, type(message).__name__)
    return _read_by_text(message.prompt) if own and _is(message.prompt, "PromptTemplate") else None


def _read_by_text(prompt: Any) -> set[str] | None:
    if prompt.template_format != "f-string":
        return None
    return {*prompt.input_variables, *prompt.partial_variables}  # a row may also set what was set before


def _is(thing: object, name: str) -> bool:
    """Whether it is of exactly this class of LangChain's prompts; a subclass may do anything."""
    prompts = sys.modules.get(_PROMPTS)  # not imported: then nothing of it is in a chain either
    return prompts is not None and type(thing) is getattr(prompts, name)
