"""The steps that `attempts` yields to its driver, and the results that the driver sends back. No HTTP types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from cottonpalm.request.attempt.settlement import Settlement
    from cottonpalm.request.hedges import Ticket
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.money.rules.grants import Ask
    from cottonpalm.request.prompt_cache.asking import Asking


FOREVER_S: Final = 1e9  # a sleep this long ends only when the row is closed


class AskMoney(NamedTuple):
    """Reserve money near a limit. The result is the amount; 0: the money is spent."""

    ask: Ask


class AskPermit(NamedTuple):
    """Wait for a permit. The result is the permit.

    Attributes:
        key: of the limiter.
        behind: so many of those who wait now go first, and of the others none; 0: in turn, by priority.
        again: True: the request has failed before.
        above: True: it goes above the number in flight that was found to fit.
    """

    key: str
    behind: float = 0
    again: bool = False
    above: bool = False


class Send(NamedTuple):
    """Send once. The result is a `Reply`.

    Attributes:
        timeout_s: seconds it may take.
        body: the body to send in place of the request's own; None: its own.
        copy: makes the steps of one more try if the request is late; None if it must not be sent twice.
    """

    timeout_s: float
    body: bytes | None = None
    copy: Copier | None = None


class Hold(NamedTuple):
    """Wait until others can read the prefix that `leader` writes. The result is False after `seconds`, else True."""

    leader: Asking
    seconds: float


class Sleep(NamedTuple):
    """Back off; the request holds neither permit nor money meanwhile."""

    seconds: float


@dataclass(slots=True)
class Reply:
    """What came back from one send.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        content: the whole body; None while a stream is open.
        raw: the driver's own response.
        error: the exception that was raised instead of an answer.
        as_error: makes the HTTP library's exception for this status, to be given to the user's own `classify`.
        copy: settles the copy, if this is the copy's answer.
        instead_of: the original's reply, if this is the copy's answer; None: the original was cut off.
        json: what the content says, where the driver has read it already.
    """

    status: int = 0
    headers: MutableMapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    raw: Any = None
    error: Exception | None = None
    as_error: Callable[[], Exception] | None = None
    copy: Settlement | None = None
    instead_of: Reply | None = None
    json: Any = None

    @property
    def open_stream(self) -> bool:
        """Whether this is a good answer whose body has not arrived completely."""
        return self.error is None and self.content is None

    @property
    def good(self) -> bool:
        """Whether an answer came whose status is not an error."""
        return self.error is None and self.status < 400


@dataclass(slots=True)
class KeptFailure:
    """A final failure that we give again without sending: an exception, or the parts of an error answer."""

    error: Exception | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(slots=True)
class Done:
    """How a request ended: with a response, a stream whose try is settled at its end, or a failure known before."""

    raw: Any = None
    ending: Settlement | None = None
    kept: KeptFailure | None = None


Step: TypeAlias = AskMoney | AskPermit | Hold | Send | Sleep
Copier: TypeAlias = "Callable[[Ticket], Generator[Step, Result, Reply | None]]"
Result: TypeAlias = "int | Permit | Reply | None"
