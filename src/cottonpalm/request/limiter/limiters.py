"""The registry of limiters: one for each key, made when it is first asked for; and who shares them."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakSet, WeakValueDictionary

from cottonpalm import clock
from cottonpalm.request.limiter.limiter import Limiter
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.together import Together
from cottonpalm.runtime.open_files import allow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from cottonpalm.config import AdaptiveConcurrency, RateLimit
    from cottonpalm.types import Unit


log = logging.getLogger("cottonpalm")

TOTAL: Final = "all models"


class Limiters:
    """The limiters of one set of settings, made when first asked for.

    Attributes:
        initial: the limit each key starts with.
        maximum: the limit no key exceeds.
        total: of the requests of all keys together; None where each has a limit of its own alone.
        circle: who keeps the waits that a provider names to any of them; None: nobody else.
    """

    def __init__(
        self,
        settings: AdaptiveConcurrency,
        rate_limit: RateLimit | None = None,
        total: int | None = None,
        circle: Limits | None = None,
    ) -> None:
        self.total = None if total is None else Together(TOTAL, total)
        self._ceilings = () if rate_limit is None else _ceilings(rate_limit)
        self.initial = settings.initial
        self.maximum = settings.maximum
        self._settings = settings
        self._by_key: dict[str, Limiter] = {}
        self._lock = threading.Lock()
        self._greet: Callable[[Limiter], None] | None = None
        self._told = False  # that the files which may be open are too few
        self.circle = None if circle is None else (circle, clock.era())
        with _lock:
            _registries.add(self)

    def of(self, key: str) -> Limiter:
        """Return the one limiter of this key."""
        limiter = self._by_key.get(key)
        if limiter is None:
            with self._lock:
                if (limiter := self._by_key.get(key)) is None:
                    limiter = self._new(key)
                    if self._greet is not None:
                        self._greet(limiter)
                    self._by_key[key] = limiter
        return limiter

    def greet(self, welcome: Callable[[Limiter], None] | None) -> None:
        """Call `welcome` with each limiter: those that exist, and new ones before anybody gets a permit there."""
        with self._lock:
            self._greet = welcome
            if welcome is not None:
                for limiter in self:
                    welcome(limiter)

    def _new(self, key: str) -> Limiter:
        settings = self._settings
        limit = Concurrency(settings.initial, settings.minimum, self._most())
        limiter = Limiter(key, limit, self._ceilings)
        if until_s := max((other.paused_until for other in self._others(key)), default=0.0):
            limiter.keep_pause(until_s)
        return limiter

    def _most(self) -> int:
        """The most that may be in flight of one more key; fewer where this process may not have so many files open."""
        settings, keys = self._settings, max(1, len(self._by_key))  # one of them are the rows, who then leave
        files = allow(settings.maximum * keys) / keys
        if files >= settings.maximum:
            return settings.maximum
        most = max(settings.initial, int(files))
        if not self._told:
            self._told = True
            log.warning(
                "this process may have so few files open that at most %d requests go at once, where %d may: "
                "`ulimit -n %d` in the shell that starts it lets them",
                most, settings.maximum, 2 * settings.maximum * keys,
            )  # fmt: skip
        return most

    def announced(self, key: str, seconds: float) -> None:
        """A provider named a wait: whoever asks the same of it keeps the wait, too."""
        for other in self._others(key):
            other.keep_pause(clock.now() + seconds)

    def _others(self, key: str) -> list[Limiter]:
        """The limiters of this key in the circle, without our own."""
        if self.circle is None:
            return []
        with _lock:
            circle = [other for other in _registries if other is not self and other.circle == self.circle]
        return [limiter for other in circle for limiter in other if limiter.key == key]

    def forget(self, key: str) -> None:
        """Nobody will ask for this key again."""
        self._by_key.pop(key, None)

    def after_fork(self) -> None:
        """In a forked child: permits and places in line are the parent's, and nobody here would ever give them back."""
        shared, self._greet, self._lock = self._greet is not None, None, threading.Lock()
        self._by_key = {key: one for key, one in self._by_key.items() if one.idle and not shared}

    def __iter__(self) -> Iterator[Limiter]:
        return iter(list(self._by_key.values()))

    def __repr__(self) -> str:
        return f"<Limiters {list(self._by_key.values())}>"


def _ceilings(rate_limit: RateLimit) -> tuple[tuple[Unit, float], ...]:
    named: tuple[tuple[Unit, float | None], ...] = (
        ("requests", rate_limit.requests_per_minute),
        ("tokens", rate_limit.tokens_per_minute),
    )
    return tuple((unit, float(most)) for unit, most in named if most is not None)


_registries: Final[WeakSet[Limiters]] = WeakSet()
_lock: Final = threading.Lock()  # for adding to them, and looking through them


def _after_fork() -> None:
    for registry in tuple(_registries):
        registry.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Limits:
    """The limits that some processors learn together, and keep: one for each host, model and account.

    Processors share what they learn with all others of the process that have the same `concurrency` and `rate_limit`,
    as long as one of them lives; a wait that a provider names holds for all of them, whatever their `concurrency`.
    Give some a `Limits` of their own to set them apart from the rest, or to keep what was learnt.
    """

    def __init__(self) -> None:
        self._made: MutableMapping[tuple[AdaptiveConcurrency, RateLimit | None, int], Limiters] = {}
        self._lock = threading.Lock()

    def limiters(self, settings: AdaptiveConcurrency, rate_limit: RateLimit | None = None) -> Limiters:
        """The limiters of all who move within these bounds and under this ceiling."""
        key = settings, rate_limit, clock.era()
        with self._lock:
            if (found := self._made.get(key)) is None:
                found = self._made[key] = Limiters(settings, rate_limit, circle=self)
            return found

    def clear(self) -> None:
        """Forget what was learnt. Processors that exist keep what they hold."""
        with self._lock:
            self._made.clear()

    def __repr__(self) -> str:
        return f"<Limits {[limiter for made in self._made.values() for limiter in made]}>"


class _Shared(Limits):
    """Forgets what no processor uses any more."""

    def __init__(self) -> None:
        super().__init__()
        self._made = WeakValueDictionary()


SHARED = _Shared()
