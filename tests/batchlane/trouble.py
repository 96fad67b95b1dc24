"""Programs killed at random moments while the provider has random faults, until all rows are answered."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from cottonpalm.stores import open_store
from tests.batchlane import worker
from tests.batchlane.chains import two_steps
from tests.support.batch_provider import Faults, by_chance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

MOST = 14  # programs: those of the second half are not killed
_LONG_S = 120.0


def programs() -> Any:
    """What makes programs: a server, itself single-threaded, that has imported everything and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.batchlane.warm"])
    return context


def until_answered(
    server: BatchProvider, folder: Path, seed: int, count: int, provider: str = "openai"
) -> tuple[list[str], int]:
    """The answers, and how many programs were killed on the way. Some lives leave once all is submitted."""
    rng, killed, fork = Random(seed), 0, programs()
    server.script = lambda _, rows: by_chance(rng, rows, Faults(turnaround_s=rng.choice((0.0, 0.05, 0.3))))
    addresses = {
        "openai": server.openai_url,
        "anthropic": server.anthropic_url,
        "hosts": server.hosts,
    }
    output = folder / "answers.json"
    for number in range(MOST):
        mortal = number < MOST // 2
        detach = mortal and rng.random() < 0.2
        told = (folder / "s.db", output, count, provider, addresses, detach)
        process = fork.Process(target=worker.main, args=told)
        after, more_s = server.asked + rng.randint(1, 25), rng.uniform(0.0, 0.03)
        process.start()
        until = time.monotonic() + _LONG_S
        while process.is_alive() and time.monotonic() < until:
            process.join(0.005)
            if mortal and server.asked >= after:
                process.join(more_s)
                break
        if process.is_alive():
            assert mortal, "a program that was left alone did not end"
            process.kill()
            killed += 1
        process.join()
        if output.exists():
            break
    return orjson.loads(output.read_bytes()), killed


def check(
    server: BatchProvider, answers: list[str], count: int, folder: Path, provider: str = "openai"
) -> None:
    """Every row has its own answer, no question was paid for twice, and the store knows of every batch."""
    assert len(answers) == count
    bills = [(bill.lane, bill.text) for bill in server.bills]
    assert len(bills) == len({text for _, text in bills}), "paid twice"
    wanted = two_steps(worker.MODELS[provider](server)).batch(
        [{"text": f"row {number}"} for number in range(count)]
    )
    for number, answer in enumerate(answers):
        assert (
            answer.startswith(("failed: OpenAI", "failed: Anthropic")) or answer == wanted[number].content
        ), (number, answer)
    with contextlib.closing(open_store(folder / "s.db")) as store:
        batches = store.batches("r")
    assert all(batch.over for batch in batches), "a batch is still out"
    known = {name for batch in batches for name in (batch.batch_id, *batch.twins, *batch.strangers)}
    assert set(server.jobs) <= known, f"batches that the store does not know: {set(server.jobs) - known}"
