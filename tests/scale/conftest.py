"""One suite for all ways to carry workers: processes of this machine, actors of a Ray cluster."""

from __future__ import annotations

import os
from compileall import compile_dir
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, once a session; nothing of it stays behind."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for package in (
        "ray",
        "grpc",
        "aiohttp",
    ):  # Ray's agent has fifteen seconds, less than compiling them takes it
        if found := find_spec(package):
            compile_dir(Path(found.origin or "").parent, quiet=2, workers=2)
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        log_to_driver=False,
        namespace="cottonpalm",
    )
    yield
    ray.shutdown()


@pytest.fixture(params=["processes", "ray"])
def spread(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a processor with two workers, by each way to carry them."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return _making(request.param)


@pytest.fixture
def processes() -> Callable[..., Any]:
    """Make a processor with two worker processes, for what does not depend on who carries them."""
    return _making("processes")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store where workers share limits: Postgres for processes; a file, so that Ray has its actor for them."""
    if request.node.callspec.params["spread"] == "processes":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "there.db")


def _making(executor: Any) -> Callable[..., Any]:
    def made(chain: Any, workers: int = 2, **settings: Any) -> Any:
        return BatchProcessor(chain, executor=executor, workers=workers, **settings)

    return made
