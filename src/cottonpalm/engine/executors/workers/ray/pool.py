"""Workers as actors of a Ray cluster. They start where the cluster has room, also on machines that join later."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.executors.workers.links import WorkerLost, cannot_begin, cannot_travel
from cottonpalm.errors import ConfigError

try:
    import ray
    from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, RayError
except ImportError as missing:
    raise ConfigError('executor="ray" needs one more package: pip install "cottonpalm[ray]"') from missing

if TYPE_CHECKING:
    from cottonpalm.engine.executors.workers.links import Begin, Heard, Order

WORKER: Final = "cottonpalm.engine.worker"  # above this room: an actor imports it when it begins
ROOM_S: Final = 60.0  # a worker that waits for a core longer is told of; some begin slowly
# One whom Ray's memory monitor ended, or whose last words were lost with its machine, is no RayActorError.
GONE: Final = (RayActorError, OutOfMemoryError, NodeDiedError, ObjectLostError)


class WorkerActor:
    """A worker in an actor's process."""

    def __init__(self, path: list[str], begin: Begin) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._begin = begin
        self._worker: Any = None

    async def begin(self) -> str | None:
        """Begin; return why it cannot, if it cannot."""
        try:
            self._worker = import_module(WORKER).Worker(self._begin)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the modules of a chain do when they are imported
            return cannot_begin(exc)
        return None

    async def pid(self) -> int:
        """Return its process."""
        return os.getpid()

    async def tell(self, order: Order) -> None:
        """See `links.Link`."""
        await self._worker.tell(order)

    async def hear(self) -> Heard:
        """See `links.Link`."""
        return await self._worker.hear()  # type: ignore[no-any-return]


class RayLink:
    """The way to one actor. See `links.Link`."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def tell(self, order: Order) -> None:
        """See `links.Link`."""
        try:
            told = self.actor.tell.remote(order)
        except Exception as exc:
            raise cannot_travel(order, exc) from exc
        await self._asked(told)

    async def hear(self) -> Heard:
        """See `links.Link`."""
        return await self._asked(self.actor.hear.remote())  # type: ignore[no-any-return]

    async def begin(self) -> None:
        """Wait until it has begun.

        Raises:
            ConfigError: it can't; the error says why.
        """
        if (why := await self._asked(self.actor.begin.remote())) is not None:
            raise ConfigError(why)

    def kill(self) -> None:
        """See `links.Link`."""
        with suppress(RayError, ValueError):
            ray.kill(self.actor)

    @staticmethod
    async def _asked(ref: Any) -> Any:
        try:
            return await ref
        except GONE as exc:
            raise WorkerLost(f"a worker's actor is gone: {str(exc).splitlines()[0]}") from exc


def join(address: str | None) -> None:
    """Connect to the cluster, or start one on this machine.

    Raises:
        ConfigError: there is no cluster at the address, or it does not let us in.
    """
    try:
        ray.init(
            address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,  # that it began is no news to the user
            namespace="cottonpalm",
        )
    except (ConnectionError, RayError, RuntimeError, ValueError) as exc:
        raise ConfigError(_not_joined(address, exc)) from exc


def _not_joined(address: str | None, exc: BaseException) -> str:
    """Say why this process is in no cluster. That a cluster wants its token stands in a cause of Ray's error alone."""
    causes: list[str] = []
    cause: BaseException | None = exc
    while cause is not None:
        causes.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    if any("AuthenticationError" in text for text in causes):
        return (
            f"the Ray cluster at {address} lets nobody in without its token: set RAY_AUTH_MODE=token here, and give the"
            " cluster's token in RAY_AUTH_TOKEN or in ~/.ray/auth_token"
        )
    return f"there is no Ray cluster at {address}: {exc}"


def check_joined(address: str | None) -> None:
    """Check that this process, which is in a cluster already, is in the one at this address.

    Raises:
        ConfigError: it is in another one.
    """
    here = str(ray.get_runtime_context().gcs_address)
    if address not in (None, "auto") and not _same_place(str(address), here):
        raise ConfigError(
            f"ray_address={address!r}: this process is in the Ray cluster at {here} already, and can be in one only; "
            "call ray.shutdown() first, or leave ray_address out"
        )


def _cores(found: dict[str, float]) -> float:
    return found.get("CPU", 0.0)


def _same_place(address: str, here: str) -> bool:
    (host, _, port), (mine, _, at) = address.rpartition(":"), here.rpartition(":")
    return port == at and (host == mine or host in ("localhost", "127.0.0.1"))


class RayPool:
    """So many actors. See `links.WorkerPool`."""

    def __init__(self, count: int | None, address: str | None) -> None:
        """Connect to the cluster, or start one on this machine.

        Raises:
            ConfigError: there is no cluster at the address.
        """
        if ray.is_initialized():
            check_joined(address)
        else:
            join(address)
        self._follows = count is None
        self.count = count or 1
        self._links: list[RayLink] = []
        self._beginning: dict[RayLink, float] = {}  # since when
        self.look()

    def look(self) -> str | None:
        """See `links.WorkerPool`: one for each core of the cluster, unless the user said how many."""
        if self._follows:
            self.count = max(1, int(_cores(ray.cluster_resources())))  # type: ignore[no-untyped-call]
        asked_s = tuple(self._beginning.values())
        if not asked_s or clock.now() - min(asked_s) < ROOM_S:
            return None
        if _cores(ray.available_resources()) >= 1:  # type: ignore[no-untyped-call]
            return None
        cores = _cores(ray.cluster_resources())  # type: ignore[no-untyped-call]
        return (
            f"{len(asked_s)} of {self.count} workers have not begun for {ROOM_S:.0f} s: none of the {cores:g} cores"
            " of the Ray cluster is free. They wait until something else there ends, or a machine joins"
        )

    def place(self, given: tuple[str, int] | None) -> tuple[str, int] | None:
        """See `links.WorkerPool`: Postgres if the run's store is there, else one actor for the whole cluster."""
        if given is not None and given[0].startswith(("postgres://", "postgresql://")):
            return given
        from cottonpalm.engine.executors.workers.ray.limits import LIMITS, limits_actor  # noqa: PLC0415 - not with Postgres

        limits_actor()
        return LIMITS, 0 if given is None else given[1]

    async def open(self, begin: Begin) -> RayLink:
        """See `links.WorkerPool`: it waits until the cluster has a core for the worker."""
        made = ray.remote(num_cpus=1, max_restarts=0)(WorkerActor)
        link = RayLink(made.remote(sys.path, begin))
        self._links.append(link)
        self._beginning[link] = clock.now()
        try:
            await link.begin()
        except asyncio.CancelledError:
            link.kill()
            raise
        finally:
            del self._beginning[link]
        return link

    def close(self) -> None:
        """See `links.WorkerPool`."""
        for link in self._links:
            link.kill()
