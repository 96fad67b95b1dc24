"""A store with runs, and its live page."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.live.server import Dashboard
from tests.report.stories import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def until(holds: Callable[[], Any]) -> Any:
    """Wait for something that comes within seconds in another process; what it gave."""
    for _ in range(3000):
        if found := holds():
            return found
        threading.Event().wait(0.02)
    raise AssertionError("it never came")


async def answer(row: dict[str, Any]) -> str:
    if row["n"] % 10 == 3:
        raise ValueError(f"row {row['n']} is bad")
    return f"Answer No. {row['n']}: {row['text']}"


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 200 rows whose every tenth fails, one with hostile rows, and one with a name that is all tricks."""
    path = tmp_path_factory.mktemp("live") / "reviews.db"
    texts = {
        "plain": [f"question {n}" for n in range(200)],
        "hostile": list(HOSTILE),
        "../../x?run=a&b#<b>": ["x"],
    }
    for name, questions in texts.items():
        processor = BatchProcessor(RunnableLambda(answer), store=path, run=name, retry=0)
        rows = [{"n": n, "text": text} for n, text in enumerate(questions)]
        processor.batch(rows, return_exceptions=True)
    return path


@pytest.fixture(scope="package")
def page(store: Path) -> Iterator[Dashboard]:
    with Dashboard(store, 0) as found:
        yield found


@pytest.fixture
def client(page: Dashboard) -> Iterator[httpx.Client]:
    """Somebody who opened the printed address."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{page.port}", follow_redirects=True, trust_env=False
    ) as client:
        assert client.get(page.url).status_code == 200
        yield client


@pytest.fixture
def stranger(page: Dashboard) -> Iterator[httpx.Client]:
    """Somebody who does not know the token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{page.port}", trust_env=False) as client:
        yield client
