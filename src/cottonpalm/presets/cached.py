"""Technique 5: what was answered before is not asked again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cottonpalm.config import Cache
from cottonpalm.engine.shared import memory_of
from cottonpalm.presets.base import Preset, counting, log
from cottonpalm.settings import made_as

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import Runnable

    from cottonpalm.engine.gates.cache import SharedCache


class CachedBatchProcessor(Preset):
    """Answers equal rows once, within a call and from one call to the next; equal rows in flight share one call.

    A row may be anything, not only JSON. Failures are not kept.

    Args:
        chain: any Runnable.
        cache_size: answers kept, the least used goes first. It goes before the size of `cache=`, which is used as it is
            (and so shared) where it has this size, and otherwise copied with this size.
        **options: every keyword of `BatchProcessor`.
    """

    def __init__(self, chain: Runnable[Any, Any], cache_size: int = 1000, **options: Any) -> None:
        counting(cache_size, "cache_size")
        given = made_as(options.pop("cache", None), "cache", Cache) or Cache(max_entries=cache_size)
        same = given.max_entries == cache_size
        self._cache = given if same else replace(given, max_entries=cache_size)
        super().__init__(chain, {**options, "cache": self._cache})

    @property
    def cache_size(self) -> int:
        """Answers kept, at most."""
        return self._cache.max_entries

    @property
    def cache(self) -> SharedCache:
        """What is kept; `len(cache)` is the number of answers."""
        memory = memory_of(self._cache)
        assert memory is not None
        return memory

    @property
    def cache_hits(self) -> int:
        """Rows that were answered without a call, duplicates within one call included."""
        return self.cache.hits

    @property
    def cache_misses(self) -> int:
        """Rows for which the chain was called."""
        return self.cache.misses

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
