"""Keeps which prefixes of prompts a provider has cached, and decides whether a request goes now or after another.

The digest of a prompt up to a place names a prefix. Places are where the request asks to be cached, or where the
provider caches by itself: at the minimum and every few hundred tokens from there. Whoever is first with a prefix leads:
it is sent at once, and those that share enough with it wait until the provider can have stored it. So nobody needs to
know beforehand what rows share, and prefixes within prefixes (the run's instructions, then a document) come by
themselves. No clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.types import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.providers.prompt_cache.terms import Terms

WORTH: Final = 512  # tokens: for fewer, nobody waits
WORTH_SHARE: Final = 0.1  # of its prompt: for less, nobody waits
PIECE: Final = 512  # tokens
PIECES: Final = 256  # of one prompt; what is longer is not told apart
KEPT: Final = 4_096  # prefixes that are remembered
ALIKE: Final = 256  # so many prompts in a row that share the same, or nothing: the next are not looked at...
EVERY: Final = 32  # ...but for one in so many


class Prefix:
    """One prefix.

    Attributes:
        size: bytes.
        left: answers that are needed before others can read it.
        leader: the try whose answer is one of them; None: nobody asks.
        used_s: when it was last used; None: it was never written.
        seen: how many prompts have it.
    """

    __slots__ = ("leader", "left", "seen", "size", "used_s")

    def __init__(self, size: int, left: int) -> None:
        self.size, self.left = size, left
        self.leader: object | None = None
        self.used_s: float | None = None
        self.seen = 0


class Turn(NamedTuple):
    """What a request does.

    Attributes:
        after: the leader it waits for; None: it goes now.
        leads: the prefixes that it writes if it goes now.
        reads: those that it reads.
    """

    after: object | None
    leads: tuple[Prefix, ...] = ()
    reads: tuple[Prefix, ...] = ()


class Prefixes:
    """The prefixes of one key.

    Args:
        terms: the provider's.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.least = BYTES_PER_TOKEN * max(terms.minimum, WORTH)
        self._known: OrderedDict[int, Prefix] = OrderedDict()
        self._quiet = self._skipped = 0
        self._last_s = 0.0
        self._usual: Prefix | None = None

    @property
    def usual(self) -> int:
        """Bytes of the longest prefix that the latest prompt shared with an earlier one."""
        return 0 if self._usual is None else self._usual.size

    def skips(self, now: float) -> bool:
        """Whether this request need not be looked at: it is one of many that are alike, and the cache still lives."""
        if self._quiet < ALIKE or now - self._last_s > self._terms.life_s:
            return False
        if self._usual is not None and not self._usable(self._usual, now):
            return False  # it is being written
        self._skipped += 1
        if self._skipped % EVERY == 0:
            return False
        self._last_s = now
        return True

    def places(self, size: int) -> Iterable[int]:
        """Where a provider that caches by itself may cut a prompt of so many bytes."""
        piece = BYTES_PER_TOKEN * PIECE
        return range(self.least, min(size, self.least + PIECES * piece) + 1, piece)

    def chain(
        self, prompt: bytes, places: Iterable[int], now: float, seed: bytes = b""
    ) -> tuple[Prefix, ...]:
        """Return the prefixes of a prompt that end at these places, the shortest first, and remember them.

        `seed` names the cache, where a provider keeps several.
        """
        found: list[Prefix] = []
        digest, begin, known = hash(seed), 0, self._known
        for end in places:
            digest, begin = hash((digest, prompt[begin:end])), end
            if end < self.least:
                continue
            prefix = known.get(digest)
            if prefix is None:
                prefix = known[digest] = Prefix(end, self._terms.first)
                if len(known) > KEPT:
                    known.popitem(last=False)
            else:
                known.move_to_end(digest)
            found.append(prefix)
        self._note(found, now)
        return tuple(found)

    def _note(self, chain: list[Prefix], now: float) -> None:
        usual = next((prefix for prefix in reversed(chain) if prefix.seen), None)
        self._quiet = self._quiet + 1 if usual is self._usual else 0
        self._usual, self._last_s = usual, now
        for prefix in chain:
            prefix.seen += 1

    def turn(self, chain: tuple[Prefix, ...], size: int, now: float) -> Turn:
        """Decide for a request whose prompt of `size` bytes has these prefixes; `now` in seconds of a steady clock."""
        warm = led = 0
        leader = None
        for prefix in chain:
            if prefix.leader is not None:
                led, leader = prefix.size, prefix.leader
            elif self._usable(prefix, now):
                warm = prefix.size
        if leader is not None and led - warm >= max(BYTES_PER_TOKEN * WORTH, WORTH_SHARE * size):
            return Turn(leader)
        usable = [self._usable(prefix, now) for prefix in chain]
        return Turn(
            None,
            tuple(each for each, good in zip(chain, usable, strict=True) if not good and each.leader is None),
            tuple(each for each, good in zip(chain, usable, strict=True) if good),
        )

    def _usable(self, prefix: Prefix, now: float) -> bool:
        if prefix.left > 0 or prefix.used_s is None:
            return False
        used_s = max(prefix.used_s, self._last_s) if self._quiet >= ALIKE else prefix.used_s
        return now - used_s <= self._terms.life_s

    def goes(self, turn: Turn, leader: object, now: float) -> None:
        """The request goes now."""
        for prefix in turn.leads:
            if prefix.left <= 0:  # its life has passed
                prefix.left = self._terms.first
            prefix.leader = leader
        for prefix in turn.reads:
            prefix.used_s = now

    def over(self, turn: Turn, sent_s: float, *, written: bool) -> None:
        """What the request led can be read now, if it was answered; else somebody else leads."""
        for prefix in turn.leads:
            prefix.leader = None
            if written:
                prefix.left -= 1
                prefix.used_s = sent_s
