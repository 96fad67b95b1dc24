"""A chain in Ray Data's `map_batches`: under one set of limits, one budget and one store of answers for all its actors.

dataset = ray.data.read_parquet("in/").map_batches(**asking(chain, name="night-1", workers=4, budget=20))
dataset.write_parquet("out/")
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.config import Cache
from cottonpalm.engine.executors.workers.travel import packed, unpacked
from cottonpalm.engine.shared import limits_of, memory_of
from cottonpalm.errors import ConfigError, RunStopped
from cottonpalm.processor import BatchProcessor
from cottonpalm.setting_checks import workers_of
from cottonpalm.settings import Settings, travelling
from cottonpalm.stores import database_of
from cottonpalm.urls import in_memory, whole_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm.request.money.rules.amounts import Amounts
    from cottonpalm.stores.sql.answers import Answers
    from cottonpalm.types import Item, Outcome, Parked

__all__ = ["Ask", "asking", "spent"]

BATCH: Final = 256  # rows of a block that travel and are answered together
AT_ONCE: Final = 4  # batches of an actor that overlap, so that none waits for another's last row
KEPT: Final = 100_000  # answers that each actor keeps in memory too
_NOT_HERE: Final = (
    "store",
    "run",
    "executor",
    "workers",
    "ray_address",
    "observers",
    "progress",
    "cache",
    "mode",
)


def asking(
    chain: Runnable[Any, Any],
    *,
    name: str,
    workers: int = 1,
    store: str | Path | None = None,
    output: str | None = "answer",
    batch_size: int = BATCH,
    **settings: Any,
) -> dict[str, Any]:
    """Return the keywords of `Dataset.map_batches` by which each row gets an answer. Call it in the driver.

    A row is a dict of its columns. Its answer is in the column `output`, and why it has none in `<output>_error`.

    Args:
        chain: any chain; it travels by value, as with `executor="ray"`.
        name: of the job. All jobs of this name and store draw on one budget.
        workers: how many actors answer rows.
        store: where answers are kept before they are handed on, so that the same job again asks and pays only for the
            rest: a Postgres address, or a file if the cluster is one machine.
        output: as for `BatchProcessor.map_table`.
        batch_size: rows that are answered together.
        settings: of `BatchProcessor`, such as `budget`, `concurrency`, `rate_limit`, `retry` and `fallbacks`.

    Raises:
        ConfigError: a setting that cannot work here, or a chain that cannot travel.
    """
    ray, data = _ray()
    if wrong := [key for key in _NOT_HERE if key in settings]:
        raise ConfigError(
            f"{wrong[0]}=... is not for map_batches: Ray Data has the rows and the actors itself"
        )
    workers_of(workers, "workers")
    kept = None if store is None else _everywhere(store)
    checked = Settings.of(chain, settings)
    if checked.budget is not None and kept is None:
        raise ConfigError("a budget needs store=..., where it is kept what was spent")
    if not ray.is_initialized():
        ray.init(namespace="cottonpalm", log_to_driver=False)
    terms = {
        "chain": packed((chain, travelling(checked))),
        "name": name,
        "store": kept,
        "output": output,
        "limits": None if checked.budget is None else limits_of(checked.budget),
    }
    _begin(name, kept, checked)
    return {
        "fn": Ask,
        "fn_constructor_kwargs": terms,
        "batch_size": batch_size,
        "batch_format": "pyarrow",
        "compute": data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=AT_ONCE),
        "max_concurrency": AT_ONCE,
    }


def _ray() -> tuple[Any, Any]:
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError as missing:
        raise ConfigError('Ray Data needs more packages: pip install "cottonpalm[ray]" pandas') from missing
    return ray, ray.data


def _everywhere(store: str | Path) -> str:
    """Return the address as it is understood in any folder.

    Raises:
        ConfigError: no other process can reach it.
    """
    if in_memory(store):
        raise ConfigError(
            f"store={str(store)!r}: a store in memory is one process's own; name a Postgres address, or a file if the"
            " cluster is one machine"
        )
    return str(whole_path(store))


def _begin(name: str, store: str | None, settings: Settings) -> None:
    """Begin what all actors share, and make the store, on this node."""
    from cottonpalm.engine.executors.workers.ray.limits import limits_actor  # noqa: PLC0415 - an extra
    from cottonpalm.engine.executors.workers.ray.money import money_actor  # noqa: PLC0415

    if store is not None and (database := database_of(store)) is not None:
        database.prepare()
    if not _is_postgres(store):
        limits_actor()
    if settings.budget is not None:
        assert store is not None
        money_actor(store, name, limits_of(settings.budget))


def _is_postgres(store: str | None) -> bool:
    return store is not None and store.startswith(("postgres://", "postgresql://"))


class Ask:
    """What answers batches in an actor of Ray Data; made by `asking`."""

    def __init__(
        self, chain: bytes, name: str, store: str | None, output: str | None, *, limits: Amounts | None
    ) -> None:
        self._chain, self._name, self._store, self._output, self._limits = chain, name, store, output, limits
        self._processor: BatchProcessor | None = None
        self._cache: Cache | None = None
        self._drawing: Any = None
        self._busy = 0

    async def __call__(self, batch: Any) -> AsyncIterator[Any]:
        """Yield the batch with its answers.

        Raises:
            RunStopped: no row can be answered, or the budget is spent.
            StoreError: the answers cannot be kept.
        """
        processor = self._processor or self._joined()
        self._check_kept()  # what cannot be kept would be paid for, and not be handed on
        self._busy += 1
        try:
            answered = await processor.amap_table(batch, self._output)
        except RunStopped:
            self._check_kept()  # then that is the reason
            raise
        finally:
            self._busy -= 1
            if self._drawing is not None:
                await self._drawing.settle()
        if (disk := self._disk()) is not None:
            await asyncio.to_thread(disk.settle)  # what is handed on is kept
            self._check_kept()
        yield answered

    def _disk(self) -> Answers | None:
        """Where the answers are kept. It is opened with the first row."""
        memory = memory_of(self._cache)
        return None if memory is None else memory.disk

    def _check_kept(self) -> None:
        """Check that answers are kept.

        Raises:
            StoreError: the store takes no more.
        """
        if (disk := self._disk()) is not None and disk.failure is not None:
            raise disk.failure

    def _keeping(self) -> _Keeping:
        return _Keeping(self._check_kept)

    def _joined(self) -> BatchProcessor:
        """Make the processor, on the actor's loop, and take part in limits and budget."""
        chain, given = unpacked(self._chain)
        if self._store is not None:
            self._cache = Cache(max_entries=KEPT, path=self._store)
        made = self._processor = BatchProcessor(chain, **{**given, "cache": self._cache})
        builder = made._builder  # noqa: SLF001 - no user has shared limits or a purse
        builder.gates.append(self._keeping)
        if self._limits is not None:
            assert self._store is not None
            from cottonpalm.engine.executors.workers.ray.money import Drawing  # noqa: PLC0415 - an extra

            self._drawing = Drawing(self._store, self._name, self._limits, lambda: not self._busy)
            builder.accounts.purse = (self._drawing.ledger, self._drawing.purse)
        builder.accounts.place = (_limits_at(self._store), 0)
        builder.accounts.share(builder.accounts.limiters_for(None))
        return made


class _Keeping:
    """A gate that lets no row be asked whose answer could not be kept: its batch is not handed on, so it would be lost.

    Args:
        check: raises if the store takes no more.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def admit(self, item: Item) -> None:  # noqa: ARG002 - see `protocols.Gate`
        self._check()

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """Nothing is held."""


def _limits_at(store: str | None) -> Any:
    if store is not None and _is_postgres(store):
        return database_of(store)
    from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase  # noqa: PLC0415 - an extra

    return ActorDatabase()


def spent(name: str, store: str | Path) -> tuple[float, float]:
    """Return what all jobs of this name have cost: dollars that were reported, and that may have been spent besides.

    Raises:
        StoreError: nothing is known of it: there is no such store, or no job of this name with a budget in it.
    """
    _ray()
    from cottonpalm.engine.executors.workers.ray.money import spent_by  # noqa: PLC0415 - an extra

    reported, uncertain = spent_by(_everywhere(store), name)
    return reported / 1e12, uncertain / 1e12
