"""A program that runs rows through batches and writes what it got; to be killed and started again.

It is forked from a server that has imported everything, so that a life of it takes as long as its work.
"""

from __future__ import annotations

import gc
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson

from cottonpalm import BatchLane, BatchProcessor, RunStopped
from tests.batchlane.chains import two_steps
from tests.batchlane.kit import PRICES, anthropic, gemini, openai, rows

if TYPE_CHECKING:
    from pathlib import Path

MODELS: dict[str, Any] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}


def warm() -> None:
    """Import what the first row would, once for all programs that are forked."""
    url = "http://127.0.0.1:9"
    nowhere: Any = SimpleNamespace(openai_url=f"{url}/v1", anthropic_url=url, gemini_url=url)
    for model in MODELS.values():
        two_steps(model(nowhere))
    for name in ("engine.build", "engine.executors.batch.executor", "stores.sql.store", "stores.sql.batches"):
        import_module(f"cottonpalm.{name}")
    for name in ("openai.resources.chat", "anthropic.resources.messages"):
        import_module(name)
    gc.collect()


def main(
    store: Path, output: Path, count: int, provider: str, addresses: dict[str, Any], detach: bool
) -> None:
    server: Any = SimpleNamespace(**{f"{name}_url": addresses[name] for name in MODELS})
    lane = BatchLane(hosts=addresses["hosts"], rows=7, poll_s=0.01, listing_wait_s=0.3, quiet_s=0.1)
    processor = BatchProcessor(
        two_steps(MODELS[provider](server)),
        mode="batch",
        store=store,
        run="r",
        prices=PRICES,
        lane=lane,
        detach=detach,
    )
    answers = processor.batch(rows(count), return_exceptions=True)
    if any(isinstance(answer, RunStopped) for answer in answers):
        return  # it left while batches were out
    said_by_row = [getattr(answer, "content", f"failed: {answer!r}") for answer in answers]
    whole = output.with_suffix(".part")
    whole.write_bytes(orjson.dumps(said_by_row))
    whole.replace(output)
