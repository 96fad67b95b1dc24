"""Where the workers of a run come from, by the settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cottonpalm.engine.executors.workers.links import WorkerPool
    from cottonpalm.settings import Settings


def pool_of(settings: Settings) -> WorkerPool:
    """Return the pool that the settings name.

    Raises:
        ConfigError: a package is missing for it, or its cluster cannot be reached.
    """
    if settings.executor == "ray":
        from cottonpalm.engine.executors.workers.ray.pool import RayPool  # noqa: PLC0415 - an extra

        return RayPool(settings.workers, settings.ray_address)
    from cottonpalm.engine.executors.workers.processes import ProcessPool  # noqa: PLC0415 - few runs have one

    return ProcessPool(settings.workers or os.cpu_count() or 1)
