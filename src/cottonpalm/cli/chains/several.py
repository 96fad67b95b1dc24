"""Several answers to one row, and the one that most of them give."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from cottonpalm.stores.codec.as_json import dumped

if TYPE_CHECKING:
    from collections.abc import Sequence


class Several(RunnableSerializable[Any, Any]):
    """Asks `chain` several times at once.

    Attributes:
        chain: what is asked.
        times: how often.
        vote: return the answer that most give, of equally many the one that came first in order; else a list of all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    chain: Runnable[Any, Any]
    times: int
    vote: bool = False
    cottonpalm_form: ClassVar[int] = 1

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """One after the other, on this thread."""
        return self._of([self.chain.invoke(input, config, **kwargs) for _ in range(self.times)])

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """All at once; where one fails, its exception is raised and the others are cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(self.chain.ainvoke(input, config, **kwargs)) for _ in range(self.times)
                ]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return self._of([task.result() for task in asked])

    def _of(self, answers: list[Any]) -> Any:
        return most_common(answers) if self.vote else answers


def most_common(answers: Sequence[Any]) -> Any:
    """The answer that is given most often; texts are compared without spaces at their ends and without case."""
    keys = [each.strip().casefold() if isinstance(each, str) else dumped(each) for each in answers]
    [(winner, _)] = Counter(keys).most_common(1)
    return answers[keys.index(winner)]
