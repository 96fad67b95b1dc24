"""The exceptions we raise inside a provider's SDK. They are made so that the SDK lets them through."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final, TypeVar

from cottonpalm.errors import CottonpalmError
from cottonpalm.types import Kind

_ROOTS: Final = (("openai", "OpenAIError"), ("anthropic", "AnthropicError"))
E = TypeVar("E", bound=CottonpalmError)


class CutAnswer(CottonpalmError):
    """The answer was cut at a length limit. `partial` is the text up to there."""

    partial: str = ""


class FilteredAnswer(CottonpalmError):
    """The answer was refused by the model or emptied by a filter. `partial` is what was left of it."""

    partial: str = ""


class BudgetReached(CottonpalmError):
    """No money is left for this request; it was not sent."""


class TooDear(BudgetReached):
    """What is left of the budget does not cover this request; it may cover one that costs less.

    Attributes:
        least: the most that it can cost with the smallest useful maximum of tokens, in pico-dollars.
    """

    least: int = 0


class BudgetBusy(BudgetReached):
    """Money may come back, but a sync call on a running loop cannot wait for it; ask again later."""


class ProviderDown(CottonpalmError):
    """The provider counts as down; the request was not sent, since its row has another chain to go to."""


class SignatureExpired(CottonpalmError):
    """A signed request waited until its signature expired, so it was not sent. If it is made again, it may succeed."""


class BrokenAnswer(CottonpalmError):
    """The answer broke off, or is not what this kind of answer looks like.

    Attributes:
        kind: another one where an error came under a good status, and says what it means.
    """

    kind: Kind = Kind.TRANSIENT


def dressed(plain: type[E], message: str, **attributes: Any) -> E:
    """Make an exception of class `plain` that is also an instance of each imported SDK's own exception class.

    An SDK wraps and retries exceptions that are not its own. It passes this one on, without a wrap or a retry.
    """
    roots = tuple(root for module, name in _ROOTS if (root := getattr(sys.modules.get(module), name, None)))
    error = _class(plain, roots)(message)  # type: ignore[arg-type]  # a class is hashable
    for name, value in attributes.items():
        setattr(error, name, value)
    return error  # type: ignore[return-value]


def lets_through() -> bool:
    """Whether the SDK that called us lets exceptions of ours through, and does not take them for broken connections.

    The SDKs that do name their root class in the module that sends. Those that know none of it (groq, fireworks,
    perplexity, old ones of openai and anthropic) catch whatever comes, and ask again.
    """
    sends = _caller("._base_client")
    return sends is None or any(name in sends for _, name in _ROOTS)


def asks_on() -> bool:
    """Whether the SDK that called us asks again, for minutes, whatever its answer says: Speakeasy's (OpenRouter)."""
    return _caller(".utils.retries") is not None


def _caller(ending: str) -> dict[str, Any] | None:
    """The nearest module above us whose name ends so; an SDK is not known by its client: that may be the user's own."""
    frame = sys._getframe(1)  # noqa: SLF001 - there is no other way to see who called
    while frame is not None:
        if frame.f_globals.get("__name__", "").endswith(ending):
            return frame.f_globals
        frame = frame.f_back  # type: ignore[assignment]
    return None


@cache
def _class(plain: type[CottonpalmError], roots: tuple[type, ...]) -> type[CottonpalmError]:
    fresh = tuple(root for root in roots if not issubclass(plain, root))
    namespace = {"__module__": plain.__module__, "__doc__": plain.__doc__}
    return type(plain.__name__, (plain, *fresh), namespace) if fresh else plain
