"""The library's own few exceptions. Each message says what happened and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.types import ErrorRecord, Outcome


def words_of(exc: BaseException) -> str:
    """What an exception says. One whose `__str__` is broken must not end more than its row."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - it is the user's code, which may raise anything
        return f"<{type(exc).__name__} without a readable text>"


class CottonpalmError(Exception):
    """The base class of all exceptions that cottonpalm defines."""


class ConfigError(CottonpalmError, ValueError):
    """A setting cannot work. It is raised before any call is made."""


class StoreError(CottonpalmError):
    """The store cannot be read or written: locked, foreign, full, read-only.

    Attributes:
        kept_in: the file in which the rows are that it did not take; "": they are in none.
    """

    kept_in = ""


class RunBusy(StoreError):
    """Another live process works on this run."""


class ChainChanged(StoreError):
    """The chain differs from the chain with which this run began; `changes` lists the differences."""

    def __init__(self, message: str, changes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.changes = changes


class CannotStore(CottonpalmError, ValueError):
    """The store could not return this output unchanged; `text` is what can be shown of the output."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class LocalModelError(CottonpalmError):
    """The embedded model or the demo's sentences cannot be fetched, or the engine cannot start."""


class RowFailed(CottonpalmError):
    """Takes the place of the exception of a row that failed in an earlier process; `record` is what was kept of it."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(f"{record.type}: {record.message}")
        self.record = record


class StoredError(CottonpalmError):
    """Takes the place of an exception that stood in an answer of an earlier process, such as a `parsing_error`.

    Attributes:
        type: the name of its class. `str()` is what it said.
    """

    def __init__(self, type_: str, text: str) -> None:
        super().__init__(text)
        self.type = type_

    @classmethod
    def of(cls, exc: BaseException) -> StoredError:
        """What is kept of an exception: its class's name, and its words without credentials."""
        if isinstance(exc, cls):
            return exc
        return cls(type(exc).__name__, redact(words_of(exc)))

    def __reduce__(self) -> tuple[type[StoredError], tuple[str, str]]:
        return StoredError, (self.type, str(self))


class RowTimeout(CottonpalmError, TimeoutError):
    """A row took longer than `item_timeout`."""


class RunStopped(CottonpalmError):
    """The run stopped before all rows were tried.

    Attributes:
        reason: one of "fatal", "budget", "max_failures", "stalled", "store", "interrupted",
            "detached" (everything is submitted, as was asked for), "cancelled" (so are all batches).
        outcomes: the outcome of each row so far; in input order if the input was a list.
    """

    def __init__(
        self, message: str, *, reason: str, outcomes: Sequence[Outcome] = (), cause: Any = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.outcomes = outcomes
        self.__cause__ = cause if isinstance(cause, BaseException) else None


class InvalidAnswer(CottonpalmError, ValueError):
    """The answer came, but it does not have the form that was asked for."""
