"""Programs killed at random moments while the provider has random faults, until all rows are answered."""

from __future__ import annotations

import contextlib
import threading
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import orjson

from cottonpalm.stores import open_store
from tests.batchlane import worker
from tests.batchlane.chains import two_steps
from tests.support.batch_provider import Faults, by_chance
from tests.support.programs import at_end, programs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

MOST = 14  # programs: those of the second half are not killed
_LONG_S = 120.0


class Answered(NamedTuple):
    """What came of it all.

    Attributes:
        answers: of all rows.
        kills: how many programs were killed.
        in_flight: answers to live requests that went down with a killed program, by number of the bill.
    """

    answers: list[str]
    kills: int
    in_flight: set[int]


def until_answered(
    server: BatchProvider, folder: Path, seed: int, count: int, provider: str = "openai"
) -> Answered:
    """Programs one after the other, until one has all answers. Some leave once all is submitted."""
    rng, killed, fork = Random(seed), 0, programs()
    in_flight: set[int] = set()
    server.script = lambda _, rows: by_chance(rng, rows, Faults(turnaround_s=rng.choice((0.0, 0.05, 0.3))))
    addresses = {name: getattr(server, f"{name}_url") for name in worker.MODELS} | {"hosts": server.hosts}
    output = folder / "answers.json"
    for number in range(MOST):
        mortal = number < MOST // 2
        detach = mortal and rng.random() < 0.2
        told = (folder / "s.db", output, count, provider, addresses, detach)
        process = fork.Process(target=worker.main, args=told)
        after, more_s = server.asked + rng.randint(1, 25), rng.uniform(0.0, 0.03)
        billed = len(server.bills)
        process.start()
        moment = threading.Event()
        at_end(process, moment.set)
        if mortal:
            server.watch(after, moment.set)
        if moment.wait(_LONG_S):
            process.join(more_s)
        if process.is_alive():
            assert mortal, "a program that was left alone did not end"
            process.kill()
            killed += 1
            process.join()
            bills = enumerate(server.bills[billed:], billed)
            in_flight |= {n for n, bill in bills if bill.lane == "live"}
        process.join()
        if output.exists():
            break
    return Answered(orjson.loads(output.read_bytes()), killed, in_flight)


def check(server: BatchProvider, found: Answered, count: int, folder: Path, provider: str = "openai") -> int:
    """Every row has its own answer, no question was paid for twice, and the store knows of every batch.

    Returns:
        how many live answers went down with a killed program, so that they were asked again.
    """
    assert len(found.answers) == count
    by_text: dict[str, list[int]] = {}
    for number, bill in enumerate(server.bills):
        by_text.setdefault(bill.text, []).append(number)
    twice = {text: numbers for text, numbers in by_text.items() if len(numbers) > 1}
    assert all(set(numbers[:-1]) <= found.in_flight for numbers in twice.values()), f"paid twice: {twice}"
    wanted = two_steps(worker.MODELS[provider](server)).batch(
        [{"text": f"row {number}"} for number in range(count)]
    )
    for number, answer in enumerate(found.answers):
        assert "400" in answer or answer == wanted[number].content, (number, answer)
    with contextlib.closing(open_store(folder / "s.db")) as store:
        batches = store.batches("r")
    assert all(batch.over for batch in batches), "a batch is still out"
    known = {name for batch in batches for name in (batch.batch_id, *batch.twins, *batch.strangers)}
    assert set(server.jobs) <= known, f"batches that the store does not know: {set(server.jobs) - known}"
    return sum(len(numbers) - 1 for numbers in twice.values())
