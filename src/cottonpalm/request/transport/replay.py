"""Two ways to meet an SDK at its `send` without sending: look at its request, or give it an answer that came before."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Looked(BaseException):
    """The SDK's request was seen; it is not sent. No `Exception`, so that no SDK retries it."""


class Look:
    """Takes note of a request instead of sending it."""

    def __init__(self) -> None:
        self.http: Any = None
        self.client: Any = None
        self.request: Any = None
        self.send: Any = None  # sends a request as the SDK would have

    def seen(self, http: ModuleType, client: Any, request: Any, send: Callable[[Any], Any]) -> None:
        """Keep it, and go back.

        Raises:
            Looked: always.
        """
        self.http, self.client, self.request, self.send = http, client, request, send
        raise Looked


# What the next `send` under this context gives, in place of sending: (library, request) -> response, or it raises.
REPLAY: Final[ContextVar[Callable[[Any, Any], Any] | None]] = ContextVar("cottonpalm_replay", default=None)
LOOK: Final[ContextVar[Look | None]] = ContextVar("cottonpalm_look", default=None)
