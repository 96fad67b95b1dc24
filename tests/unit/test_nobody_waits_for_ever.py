"""Whatever came back, in whatever order: where nobody is in flight any more, the next one goes after a while."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from cottonpalm.types import Quota
from tests.unit.test_silence_and_number import Line

STEPS: Final = 150  # at most
LOOKS: Final = 2_000  # of which each waits as long as it is told to...
TICK_S: Final = 1e-4  # ...and at least so long, as a limiter does
SEEDS: Final = 400


class Chaos(Line):
    """Requests that are answered, rejected, lost and given up as chance will have it."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Random(seed)
        own: dict[str, Any] = {"ceilings": [("requests", 600.0)]} if chance.random() < 0.2 else {}
        super().__init__(chance.choice([1.0, 4.0, 10.0, 40.0]), chance.choice([40.0, 500.0]), **own)
        self.usual_s = chance.choice([0.2, 2.0, 20.0])
        self.patience_s = self.usual_s * chance.choice([2.0, 5.0, 1_000.0])
        self.kinds = [chance.random() ** 2 for _ in range(7)]  # how often each of what may happen does

    def step(self) -> None:
        """Some go, some time passes, something comes back, and who waited for too long is given up."""
        chance = self.chance
        self.fill(self.usual_s * chance.choice([0.01, 0.1, 1.0]), 100)
        for _ in range(chance.choice([0, 1, 1, 8])):
            if self.out:
                self.back(chance.choice(self.out[:8]) if chance.random() < 0.8 else self.out[-1])
        self.lose([each for each in self.out if self.now - each.at_s > self.patience_s])
        if self.out and chance.random() < 0.05:
            self.stand_still()

    def stand_still(self) -> None:
        """The server does, at some moment of a silence, and those that waited for it are given up."""
        chance = self.chance
        if chance.random() < 0.5:
            self.reject(self.out[-1], named_s=1.0)
        self.now += self.usual_s * chance.choice([1.0, 4.0, 16.0])
        if self.wait_s(100.0) == 0.0:
            self.send(100.0)
        self.lose(self.out[: chance.choice([-1, len(self.out)])])

    def lose(self, those: list[Any]) -> None:
        """They come to nothing."""
        for sent in those:
            self.out.remove(sent)
            self.gates.failed(self.now, sent, len(self.out))

    def back(self, sent: Any) -> None:
        """It ends in one of the ways there are."""
        chance, gates = self.chance, self.gates
        how = chance.choices(range(7), self.kinds)[0]
        if how in (0, 1):
            self.answer(sent)
            if chance.random() < 0.3:
                gates.heard(sent, [Quota("requests", 50.0, float(chance.randrange(50)), 5.0)])
            return
        if how in (2, 3):
            named_s = chance.choice([0.0, 0.0, 1.0, 5.0])
            self.reject(sent, named_s=named_s, overload=chance.random() < 0.2)
            return
        self.out.remove(sent)
        if how in (4, 5):
            gates.failed(self.now, sent, len(self.out))
        else:
            gates.ignored(self.now, sent)
        if chance.random() < 0.2:
            gates.paused(self.now, self.now + 5.0, dead=chance.random() < 0.5)


def goes(line: Line) -> bool:
    """Whether the next one goes in the end; each time it is looked as late as it was said that it may."""
    for _ in range(LOOKS):
        wait_s = line.wait_s(100.0)
        if not wait_s:
            return wait_s is not None  # nobody is in flight, so none that comes back could help
        line.now += max(TICK_S, wait_s)
    return False


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_after_all_that_may_come_back_the_next_one_goes(first: int) -> None:
    for seed in range(first, first + 20):
        line = Chaos(seed)
        for _ in range(line.chance.randrange(STEPS)):
            line.step()
        for sent in list(line.out):
            line.answer(sent)
        assert goes(line), f"seed {seed}: {line.gates.binding}, {line.gates.recovery.state.value}"
