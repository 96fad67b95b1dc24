"""Says what an exception means: it asks the user's own function first, then `providers.classify`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.own_frame import own_frame
from cottonpalm.errors import ConfigError, InvalidAnswer, words_of
from cottonpalm.providers import classify
from cottonpalm.providers.raised import BudgetBusy, BudgetReached
from cottonpalm.redact import redact
from cottonpalm.types import ErrorRecord, Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE_CHARS: Final = 2_000
DEPTH: Final = 16  # the most causes that are followed from one exception
SHORT_CHARS: Final = 40  # a message this short says what failed, but hardly why
HALF_A_PAIR: Final = "surrogates not allowed"  # Python's reason; what another encoding lacks has others
RETRYABLE: Final = frozenset({Kind.THROTTLE, Kind.TRANSIENT, Kind.STOP_RUN})  # the next run does these again


class Classifier:
    """Turns exceptions into faults and records.

    Args:
        user: the user's `classify=`. It gets the exception and returns a kind or a Fault, or None to let us decide.
    """

    def __init__(self, user: Callable[[BaseException], Fault | Kind | str | None] | None = None) -> None:
        self._user = user

    def __call__(self, exc: BaseException) -> Fault:
        """Return the fault that this exception means."""
        if self._user is not None and (said := self._user(exc)) is not None:
            return said if isinstance(said, Fault) else replace(classify(exc), kind=_kind(said))
        if isinstance(exc, InvalidAnswer):
            return Fault(Kind.REASK, type(exc).__name__, str(exc), cause=exc)
        return classify(exc)

    def record(self, exc: BaseException) -> ErrorRecord:
        """Return what we keep of an exception: plain text of bounded length, without API keys."""
        fault = self(exc)
        message = redact(_with_cause(fault.message, exc) + _next_step(exc))
        if len(message) > MESSAGE_CHARS:
            message = message[:MESSAGE_CHARS] + f"... ({len(message) - MESSAGE_CHARS} more characters)"
        return ErrorRecord(fault.kind, fault.type, message, fault.kind in RETRYABLE, own_frame(exc))

    @staticmethod
    def out_of_money(exc: BaseException) -> bool:
        """Whether this exception, or one behind it, says that the budget refused a request of the row."""
        seen: BaseException | None = exc
        for _ in range(DEPTH):
            if seen is None:
                return False
            if isinstance(seen, BudgetReached):
                return not isinstance(seen, BudgetBusy)
            seen = seen.__cause__ or seen.__context__
        return False


def _with_cause(message: str, exc: BaseException) -> str:
    """Add the cause to a short message: an SDK says only "Connection error.", and the cause says what to mend."""
    if len(message) > SHORT_CHARS:
        return message
    first = exc
    for _ in range(DEPTH):
        first = first.__cause__ or first.__context__ or first
    text = "" if first is exc else words_of(first)
    if not text or text in message:
        return message
    return f"{message.rstrip('.')} ({type(first).__name__}: {text})"


def _next_step(exc: BaseException) -> str:
    """Say what to do about a text that cannot be sent: Python names no more than the code of the character."""
    if not (isinstance(exc, UnicodeEncodeError) and exc.reason == HALF_A_PAIR):
        return ""
    return (
        ". The row, or the prompt, holds half a character (a lone surrogate), as a text cut in the middle of an emoji"
        " does; no request can carry it. Read the file as UTF-8, or replace it:"
        " text.encode(errors='replace').decode()"
    )


def _kind(said: Kind | str) -> Kind:
    try:
        return Kind(said)
    except ValueError:
        kinds = ", ".join(kind.value for kind in Kind)
        raise ConfigError(f"classify= returned {said!r}; say one of {kinds}, a Fault, or None") from None
