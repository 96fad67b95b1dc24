"""The registry of turnstiles: one for each key, made when it is first asked for."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from cottonpalm.pure.limits import Concurrency
from cottonpalm.request.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.config import AdaptiveConcurrency, RateLimit
    from cottonpalm.pure.quotas import Unit


class Turnstiles:
    """The turnstiles of one set of settings, made when first asked for.

    Attributes:
        initial: the limit each key starts with.
        maximum: the limit no key exceeds.
    """

    def __init__(self, settings: AdaptiveConcurrency, rate_limit: RateLimit | None = None) -> None:
        self._ceilings = () if rate_limit is None else _ceilings(rate_limit)
        self.initial = settings.initial
        self.maximum = settings.maximum
        self._settings = settings
        self._by_key: dict[str, Turnstile] = {}
        self._lock = threading.Lock()
        self._greet: Callable[[Turnstile], None] | None = None
        _registries.add(self)

    def of(self, key: str) -> Turnstile:
        """Return the one turnstile of this key."""
        turnstile = self._by_key.get(key)
        if turnstile is None:
            with self._lock:
                if (turnstile := self._by_key.get(key)) is None:
                    turnstile = self._new(key)
                    if self._greet is not None:
                        self._greet(turnstile)
                    self._by_key[key] = turnstile
        return turnstile

    def greet(self, welcome: Callable[[Turnstile], None] | None) -> None:
        """Call `welcome` with each turnstile: those that exist, and new ones before anybody gets a permit there."""
        with self._lock:
            self._greet = welcome
            if welcome is not None:
                for turnstile in self:
                    welcome(turnstile)

    def _new(self, key: str) -> Turnstile:
        settings = self._settings
        limit = Concurrency(settings.initial, settings.minimum, settings.maximum)
        return Turnstile(key, limit, self._ceilings)

    def forget(self, key: str) -> None:
        """Nobody will ask for this key again."""
        self._by_key.pop(key, None)

    def after_fork(self) -> None:
        """In a forked child: permits and places in line are the parent's, and nobody here would ever give them back."""
        shared, self._greet, self._lock = self._greet is not None, None, threading.Lock()
        self._by_key = {key: one for key, one in self._by_key.items() if one.idle and not shared}

    def __iter__(self) -> Iterator[Turnstile]:
        return iter(list(self._by_key.values()))

    def __repr__(self) -> str:
        return f"<Turnstiles {list(self._by_key.values())}>"


def _ceilings(rate_limit: RateLimit) -> tuple[tuple[Unit, float], ...]:
    named: tuple[tuple[Unit, float | None], ...] = (
        ("requests", rate_limit.requests_per_minute),
        ("tokens", rate_limit.tokens_per_minute),
    )
    return tuple((unit, float(most)) for unit, most in named if most is not None)


_registries: Final[WeakSet[Turnstiles]] = WeakSet()


def _after_fork() -> None:
    for registry in tuple(_registries):
        registry.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
