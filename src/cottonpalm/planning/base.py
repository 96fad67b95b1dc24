"""Opens what a plan starts from: the answers that the run's store and the cache hold. It creates no store or file."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.engine.input.known_by import part_of
from cottonpalm.engine.input.reader import Reader
from cottonpalm.engine.opened import Opened, let_go
from cottonpalm.engine.shared import memory_of
from cottonpalm.protocols import RETRYABLE
from cottonpalm.stores import database_of, open_store
from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.engine.build import Builder
    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.protocols import RunStore
    from cottonpalm.types import Item, Outcome

HISTORY: Final = 1_000  # the most stored rows that a plan reads


@dataclass(slots=True)
class Base:
    """The reader of the rows, which knows the stored ones; outcomes of earlier rows; and the cache."""

    reader: Reader
    held: int = 0  # rows that the run's store holds as done
    history: list[Outcome] = field(default_factory=list)
    memory: SharedCache | None = None
    digest: bytes = b""
    lasting: bytes | None = None

    async def known(self, items: list[Item]) -> set[int]:
        """Return the positions of the items that the cache can answer."""
        memory, digest, lasting = self.memory, self.digest, self.lasting
        if memory is None:
            return set()
        contents = [item.question for item in items]
        found = {place for place, content in enumerate(contents) if digest + content in memory}
        if memory.disk is not None and lasting is not None:
            present = await asyncio.to_thread(
                memory.disk.present, [lasting + content for content in contents]
            )
            found |= {place for place, content in enumerate(contents) if lasting + content in present}
        return found


@contextmanager
def base_of(builder: Builder, *, ids: Any, configs: Any) -> Iterator[Base]:
    """Yield the base for these rows. If the store holds the run, the run stays open until the block ends.

    Raises:
        ConfigError, StoreError: as for a run.
    """
    opened = _existing_run(builder)
    try:
        run = None if opened is None else opened.run
        base = Base(
            Reader(
                ids=ids,
                configs=configs,
                store=run,
                keyed=True,
                skip=True,
                question=builder.facts.question,
                read=None if run is None else part_of(run),
            )
        )
        if run is not None:
            base.history = _history(run, builder)
            base.held = sum(number for status, number in run.counts().items() if status != RETRYABLE)
        cache = builder.settings.cache
        if cache is not None and (
            cache.path is None or (database := database_of(cache.path)) is None or database.exists()
        ):
            base.memory, base.digest = memory_of(cache), builder.facts.digest
            if base.memory is not None and base.memory.disk is not None:
                base.lasting = builder.facts.lasting_digest
        yield base
    finally:
        let_go(opened)


def _existing_run(builder: Builder) -> Opened | None:
    """Return the stored run, or None if it was never begun."""
    settings = builder.settings
    if settings.store is None or settings.run is None:
        return builder.open_run()  # returns None, or raises the error that says what is missing
    if isinstance(settings.store, str | Path):
        database = database_of(settings.store)
        if database is None or not database.exists():
            return None
    store = open_store(settings.store)
    try:
        begun = any(info.name == settings.run for info in store.runs())
    finally:
        if store is not settings.store:
            store.close()
    return builder.open_run() if begun else None


def _history(run: RunStore, builder: Builder) -> list[Outcome]:
    """Draw at random some rows of the run that were asked and answered."""
    last = run.last_slot()
    slots = range(last + 1)
    drawn = sorted(Random(0).sample(slots, min(len(slots), HISTORY)))  # noqa: S311 - the same store, the same plan
    records = run.read(drawn)
    found = [unpack(record, slot, builder.facts.types) for slot, record in records.items()]
    return [
        outcome for outcome in found if outcome.status == "ok" and outcome.attempts and not outcome.cached
    ]
