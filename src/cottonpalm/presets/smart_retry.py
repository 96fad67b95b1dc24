"""Technique 2: asks again only if another try may succeed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Unpack

from cottonpalm.config import RetryPolicy
from cottonpalm.presets.base import Preset, answers_or_none, counting, log
from cottonpalm.providers import classify
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.presets.options import Options

RATE_LIMIT_S: Final = 60  # the document's wait if the provider names none
API_ERROR_S: Final = 1
_SDKS: Final = frozenset({"openai", "anthropic", "groq", "google", "cerebras", "together"})


class SmartRetryBatch(Preset):
    """Asks again by what went wrong: a transient fault after a moment, a rejection after the wait of `classify_error`.

    A row has `max_retries` attempts in all, rejections included. What cannot work (a bad request) has one; what no row
    survives (a bad key) stops the run.

    Args:
        chain: any Runnable.
        max_retries: sends of one request, the first included. It goes before `retry=`, of which a `RetryPolicy` still
            says how long to wait.
        **options: every keyword of `BatchProcessor`.
    """

    def __init__(self, chain: Runnable[Any, Any], max_retries: int = 3, **options: Unpack[Options]) -> None:
        given = options.pop("retry", None)
        self._given = given if isinstance(given, RetryPolicy) else RetryPolicy()
        super().__init__(chain, {**options, "retry": self._policy(max_retries)})

    def _policy(self, attempts: int) -> RetryPolicy:
        self._attempts, given = counting(attempts, "max_retries"), self._given
        return replace(
            given,
            retries=attempts - 1,
            reasks=min(given.reasks, attempts - 1),
            count_all=True,
            throttle_wait_s=RATE_LIMIT_S if given.throttle_wait_s is None else given.throttle_wait_s,
        )

    @property
    def max_retries(self) -> int:
        """Sends of one request, the first included; may be set, and holds from the next call on."""
        return self._attempts

    @max_retries.setter
    def max_retries(self, attempts: int) -> None:
        self._make(self.chain, retry=self._policy(attempts))

    def classify_error(self, error: BaseException) -> tuple[str, float]:
        """Kind and wait of an error, in the document's words.

        Returns:
            ("rate_limit", the wait the provider named, or 60), ("api_error", 1), or ("unknown", 0) for what is not
            tried again.
        """
        fault = classify(error)
        if _named(error, "RateLimitError") or (fault.kind is Kind.THROTTLE and not _named(error, "APIError")):
            return "rate_limit", fault.retry_after_s or RATE_LIMIT_S
        if fault.kind is Kind.TRANSIENT or _named(error, "APIError"):
            return "api_error", API_ERROR_S
        return "unknown", 0

    def batch_with_smart_retry(self, inputs: Iterable[Any]) -> list[Any]:
        """Every row's output, in order; None for a row that failed, or used its attempts up.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
        """
        collected = self.processor.collect(inputs)
        again = sum(outcome.attempts > 1 for outcome in collected.outcomes)
        log.info("%d of %d rows were tried more than once", again, len(collected.outcomes))
        return answers_or_none(collected)


def _named(error: BaseException, name: str) -> bool:
    """Whether it is of an SDK's class of this name; we import no SDK for this."""
    return any(
        cls.__name__ == name and cls.__module__.partition(".")[0] in _SDKS for cls in type(error).__mro__
    )
