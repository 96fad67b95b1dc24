"""Programs killed at random moments while the provider has random faults, until all rows are answered."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import orjson

from tests.batchlane.chains import two_steps
from tests.batchlane.kit import openai
from tests.support.batch_provider import Faults, by_chance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

MOST = 12  # programs: the last ones are not killed


def until_answered(server: BatchProvider, folder: Path, seed: int, count: int) -> tuple[list[str], int]:
    """The answers, and how many programs were killed on the way."""
    rng, killed = Random(seed), 0
    server.script = lambda _, rows: by_chance(rng, rows, Faults(turnaround_s=rng.choice((0.0, 0.05, 0.3))))
    addresses = orjson.dumps({"openai": server.openai_url, "hosts": server.hosts}) + b"\n"
    output = folder / "answers.json"
    for number in range(MOST):
        program = [sys.executable, "-m", "tests.batchlane.worker", folder / "s.db", output, str(count)]
        with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(addresses)
            process.stdin.close()
            try:
                process.wait(rng.uniform(1.0, 5.0) if number < MOST // 2 else 120)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
        if output.exists():
            break
    return orjson.loads(output.read_bytes()), killed


def check(server: BatchProvider, answers: list[str], count: int) -> None:
    """Every row has its own answer, and no question was paid for twice."""
    assert len(answers) == count
    wanted = two_steps(openai(server)).batch([{"text": f"row {number}"} for number in range(count)])
    for number, answer in enumerate(answers):
        assert answer.startswith("failed:") or answer == wanted[number].content, (number, answer)
    bills = [(bill.lane, bill.text) for bill in server.bills][: -2 * count]  # those of `wanted` come last
    assert len(bills) == len({text for _, text in bills}), "paid twice"
