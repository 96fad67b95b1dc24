"""Asks again when an answer does not parse or does not validate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.errors import InvalidAnswer, words_of
from cottonpalm.types import Fault, Item, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import Inner


class Reask:
    """An answer that does not hold is a new question, up to `again` of them, in which the model is told why.

    Args:
        again: questions after the first.
        validate: the user's own check of an output; it refuses the output by raising ValueError.
        none_is_no_answer: the chain ends in a parser that returns None if the model's answer has not the right form.
        judge: exception -> Fault.
    """

    def __init__(
        self,
        again: int,
        validate: Callable[[Any], object] | None,
        judge: Callable[[BaseException], Fault],
        *,
        none_is_no_answer: bool,
    ) -> None:
        self._again, self._validate, self._judge = again, validate, judge
        self._none_is_no_answer = none_is_no_answer

    @property
    def checks(self) -> bool:
        """Whether an answer can be refused although the call raised nothing."""
        return self._none_is_no_answer or self._validate is not None

    async def __call__(self, item: Item, inner: Inner) -> Any:
        """Return the first valid answer."""
        item.refused = None  # a fallback is told nothing of another model's answer
        for left in range(self._again, -1, -1):
            try:
                output = await inner(item)
                self._check(output)
            except Exception as exc:
                if not left or item.shown or self._judge(exc).kind is not Kind.REASK:
                    raise
                item.refused = exc
                item.account.fresh()
            else:
                return output
        raise AssertionError("unreachable: the last try returns or raises")

    def _check(self, output: Any) -> None:
        if output is None and self._none_is_no_answer:
            raise InvalidAnswer(
                "the model did not answer in the form asked for (no tool call, or one that does not parse)"
            )
        if self._validate is not None:
            try:
                self._validate(output)
            except ValueError as exc:
                raise InvalidAnswer(f"validate= refused the answer: {words_of(exc)}") from exc
