"""The answer of a row that was streamed: from its chunks, what `invoke` would have given.

LangChain adds chunks where they can be added, and takes the last one where not. That is wrong for parsers of JSON,
since each of their chunks holds the whole so far: `[1]` and `[1, 2]` would be `[1, 1, 2]`. And in a parallel, a part
that cannot be added would take the chunks of all others away. So the chain is asked which parts give the whole so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from langchain_core.messages import AIMessageChunk, BaseMessageChunk
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.output_parsers.transform import BaseCumulativeTransformOutputParser
from langchain_core.runnables import (
    RunnableBranch,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.passthrough import RunnableAssign
from langchain_core.runnables.utils import AddableDict

Whole: TypeAlias = "bool | Mapping[str, Whole]"


def whole_so_far(chain: Any) -> Whole:
    """Whether each chunk of a chain's stream holds the whole so far; for an output with keys, of which keys.

    Args:
        chain: any Runnable; only its form is looked at.

    Returns:
        True: the last chunk is the answer. False: chunks are added. A mapping says it of each key.
    """
    return next((says(chain) for cls, says in _FORMS if isinstance(chain, cls)), False)


def _of_steps(steps: Sequence[Any]) -> Whole:
    """Of steps in a row, the last decides, unless it passes on what it gets."""
    last, before = steps[-1], steps[:-1]
    if before and isinstance(last, RunnablePassthrough):
        return _of_steps(before)
    if before and isinstance(last, RunnableAssign):
        return _joined(_of_steps(before), whole_so_far(last))
    if before and isinstance(last, RunnablePick):
        return _picked(_of_steps(before), last.keys)
    return whole_so_far(last)


def _picked(found: Whole, keys: str | list[str]) -> Whole:
    of = found if isinstance(found, Mapping) else {}
    return of.get(keys, False) if isinstance(keys, str) else {name: of.get(name, False) for name in keys}


def _joined(passed_on: Whole, assigned: Whole) -> Whole:
    """Of a dict that is passed on with more keys."""
    return {
        **(passed_on if isinstance(passed_on, Mapping) else {}),
        **(assigned if isinstance(assigned, Mapping) else {}),
    }


def _agreed(branches: Sequence[Any]) -> Whole:
    """Of branches: what they agree upon. Where they differ, the chunks themselves decide."""
    found = [whole_so_far(branch) for branch in branches]
    return found[0] if all(one == found[0] for one in found) else False


_FORMS: Final[list[tuple[type, Callable[[Any], Whole]]]] = [
    (BaseCumulativeTransformOutputParser, lambda parser: not parser.diff),
    (RunnableSequence, lambda chain: _of_steps(chain.steps)),
    (RunnableBindingBase, lambda binding: whole_so_far(binding.bound)),
    (RunnableWithFallbacks, lambda chain: whole_so_far(chain.runnable)),
    (RunnableBranch, lambda chain: _agreed([*(step for _, step in chain.branches), chain.default])),
    (RunnableAssign, lambda chain: whole_so_far(chain.mapper)),
    (RunnableParallel, lambda chain: {name: whole_so_far(step) for name, step in chain.steps__.items()}),
]


def answer_of(chunks: Sequence[Any], whole: Whole = False) -> Any:
    """Return a row's answer; None if there was no chunk.

    Args:
        chunks: in the order in which they came.
        whole: as `whole_so_far` gives it.
    """
    if not chunks:
        return None
    if whole is True:
        return _plain(chunks[-1])
    if all(type(chunk) is AddableDict for chunk in chunks):
        return _by_key(chunks, whole)
    return _plain(_sum(chunks))


def _by_key(chunks: Sequence[Mapping[str, Any]], whole: Whole) -> dict[str, Any]:
    """Each key's own answer, in the chain's order; None gives way to whatever comes."""
    found: dict[str, list[Any]] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            found.setdefault(name, []).extend([] if value is None else [value])
    of = whole if isinstance(whole, Mapping) else {}
    order = [name for name in found if name not in of] + [name for name in of if name in found]
    return {name: answer_of(found[name], of.get(name, False)) for name in order}


def _sum(chunks: Sequence[Any]) -> Any:
    """Return the sum of the chunks, or the last one if they cannot be added.

    It does not add them one by one, since each step would copy and parse the whole.
    """
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return chunks[0] + [*chunks[1:]]
    sums = [*chunks]
    try:
        while len(sums) > 1:
            pairs = [first + second for first, second in zip(sums[::2], sums[1::2], strict=False)]
            sums = pairs + sums[2 * len(pairs) :]
    except TypeError:
        return chunks[-1]
    return sums[0]


def _plain(value: Any) -> Any:
    """What `invoke` gives in place of a form that LangChain has for streams alone."""
    if isinstance(value, BaseMessageChunk):
        return message_chunk_to_message(value)
    if type(value) is AddableDict:
        return {name: _plain(one) for name, one in value.items()}
    return value
