"""What `attempts` asks its driver to wait for, and what the driver brings back. No HTTP types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.money.rules.grants import Ask
    from cottonpalm.request.settlement import Settlement


class AskMoney(NamedTuple):
    """Reserve, where the money is not plenty. Answered by the amount, 0 where it is spent."""

    ask: Ask


class AskPermit(NamedTuple):
    """Wait for one's turn, by priority or `behind` all that wait already. Answered by the permit."""

    key: str
    behind: bool = False


class Send(NamedTuple):
    """Send once. Answered by a `Reply`.

    Attributes:
        timeout_s: seconds it may take.
        body: what to send in place of the request's own body, if anything.
        copy: makes the steps of one more try, for a request that is late; None where it must not be sent twice.
    """

    timeout_s: float
    body: bytes | None = None
    copy: Copier | None = None


class Sleep(NamedTuple):
    """Back off, holding nothing."""

    seconds: float


@dataclass(slots=True)
class Reply:
    """What came back from one send.

    Attributes:
        status: 0 where no answer came.
        content: the whole body; None while a stream is open.
        raw: the driver's own response.
        error: what was raised instead of an answer.
        as_error: makes the HTTP library's exception for this status, for the user's own `classify`.
        copy: what settles it, where the answer is a copy's.
        instead_of: what came back from the original, where the answer is a copy's; None: it was cut off.
    """

    status: int = 0
    headers: MutableMapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    raw: Any = None
    error: Exception | None = None
    as_error: Callable[[], Exception] | None = None
    copy: Settlement | None = None
    instead_of: Reply | None = None

    @property
    def open_stream(self) -> bool:
        """A good answer whose body is still on its way."""
        return self.error is None and self.content is None

    @property
    def good(self) -> bool:
        """An answer came, and not with the status of an error."""
        return self.error is None and self.status < 400


@dataclass(slots=True)
class Kept:
    """A final failure, to be given again without asking: an exception, or all there was of an error answer."""

    error: Exception | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(slots=True)
class Done:
    """How a request ended: a response, a stream with what must be settled at its end, or a failure known before."""

    raw: Any = None
    ending: Settlement | None = None
    kept: Kept | None = None


Step: TypeAlias = AskMoney | AskPermit | Send | Sleep
Copier: TypeAlias = "Callable[[], Generator[Step, Result, Reply | None]]"
Result: TypeAlias = "int | Permit | Reply | None"
