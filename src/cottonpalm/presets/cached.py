"""Technique 5: a row that was answered before is not asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from cottonpalm.config import Cache
from cottonpalm.engine.gates.entries import own
from cottonpalm.engine.shared import memory_of
from cottonpalm.errors import ConfigError
from cottonpalm.presets.base import Preset, counting, log
from cottonpalm.setting_checks import made_as

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.engine.gates.entries import AnswerShelf
    from cottonpalm.presets.options import Options


class Kept(MutableMapping[bytes, Any]):
    """The answers of a memory by their keys, the least used first; a key is a hash of chain and row.

    Reading changes nothing: not what is used, nor the answer that is kept.
    """

    def __init__(self, shelf: AnswerShelf) -> None:
        self._shelf = shelf

    def __getitem__(self, key: bytes) -> Any:
        """A copy of the answer."""
        return own(self._shelf.answers[key].output)

    def __setitem__(self, key: bytes, value: Any) -> None:
        """Refused.

        Raises:
            TypeError: always; answers come from the chain alone.
        """
        raise TypeError("answers come from the chain alone; they can be looked at and deleted")

    def __delitem__(self, key: bytes) -> None:
        """Forget one answer."""
        with self._shelf.lock:
            del self._shelf.answers[key]

    def __iter__(self) -> Iterator[bytes]:
        """The keys there are now."""
        with self._shelf.lock:
            return iter(list(self._shelf.answers))

    def __len__(self) -> int:
        """Answers."""
        return len(self._shelf)


class CachedBatchProcessor(Preset):
    """Answers equal rows once, within a call and from one call to the next; equal rows in flight share one call.

    A row may be anything, not only JSON. Failures are not kept.

    Args:
        chain: any Runnable.
        cache_size: answers kept, the least used goes first. It goes before the size of `cache=`, which is used as it is
            (and so shared) where it has this size, and otherwise copied with this size.
        **options: every keyword of `BatchProcessor`.
    """

    def __init__(self, chain: Runnable[Any, Any], cache_size: int = 1000, **options: Unpack[Options]) -> None:
        counting(cache_size, "cache_size")
        given = made_as(options.pop("cache", None), "cache", Cache) or Cache(max_entries=cache_size)
        same = given.max_entries == cache_size
        self._cache = given if same else replace(given, max_entries=cache_size)
        self._moved = [0, 0]  # what hits and misses were set apart by
        super().__init__(chain, {**options, "cache": self._cache})

    @property
    def _memory(self) -> SharedCache:
        memory = memory_of(self._cache)
        assert memory is not None
        return memory

    @property
    def cache_size(self) -> int:
        """Answers kept, at most; may be set, and holds for all who share this memory."""
        return self._memory.shelf.max_entries

    @cache_size.setter
    def cache_size(self, answers: int) -> None:
        self._memory.shelf.resize(counting(answers, "cache_size"))

    @property
    def cache(self) -> Kept:
        """What is kept in memory, as a mapping. Setting it to an empty one forgets all, as `cache.clear()` does."""
        return Kept(self._memory.shelf)

    @cache.setter
    def cache(self, value: Mapping[Any, Any]) -> None:
        if value:
            raise ConfigError("cache can only be set to an empty mapping: answers come from the chain alone")
        self.cache.clear()

    @property
    def cache_hits(self) -> int:
        """Rows that were answered without a call, duplicates within one call included; may be set, as to 0."""
        return self._memory.hits + self._moved[0]

    @cache_hits.setter
    def cache_hits(self, rows: int) -> None:
        self._moved[0] = rows - self._memory.hits

    @property
    def cache_misses(self) -> int:
        """Rows for which the chain was called; may be set."""
        return self._memory.misses + self._moved[1]

    @cache_misses.setter
    def cache_misses(self, rows: int) -> None:
        self._moved[1] = rows - self._memory.misses

    def batch(self, inputs: Iterable[Any]) -> list[Any]:
        """Every row's output, in order.

        Raises:
            RunStopped: a fault that no row survives, or a bound of yours, ended the run.
            Exception: the lowest failed row's own, once all rows have run.
        """
        collected = self.processor.collect(inputs)
        hits, asked = self.cache_hits, self.cache_hits + self.cache_misses
        log.info("cache: %d of %d rows were hits (%.1f %%)", hits, asked, 100 * hits / (asked or 1))
        return collected.answers(return_exceptions=False)
