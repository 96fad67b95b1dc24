"""Drawn worlds that are small enough for real HTTP on a machine with other work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench.admission.family import draw
from bench.admission.virtual import ideal

if TYPE_CHECKING:
    from bench.admission.family import World

RUN_S: Final = 12.0  # of the oracle, about
PACES: Final = (3.0, 80.0)  # requests a second: slower is over in a few rows, faster needs a core of its own
LONGEST_S: Final = 2.5  # of an answer
LARGEST: Final = 1_000  # tokens of a prompt


def small(seed: int, luck: int = 0) -> World:
    """The world of this seed, with rows for about twelve seconds."""
    world = draw(seed)
    return replace(world, rows=max(40, round(RUN_S * world.pace)), luck=luck)


def fits(seed: int) -> bool:
    """Whether it is light enough, says nothing that OpenAI's headers cannot, and is over in a while."""
    world = draw(seed)
    units = {limit.unit for limit in world.limits}
    return (
        PACES[0] <= world.pace <= PACES[1]
        and world.mean_latency_s <= LONGEST_S
        and world.tokens_in <= LARGEST
        and units <= {"requests", "tokens"}
        and RUN_S / 2 <= ideal(small(seed)).wall_s <= 1.5 * RUN_S  # shorter ones time the client's start
    )
