"""A provider that gives each row its own trouble, and what must become of the row."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from cottonpalm.types import Kind
from tests.support.replies import (
    Reply,
    Request,
    context_too_long,
    cut_body,
    cut_by_length,
    fails,
    filtered,
    hangs,
    malformed,
    refused,
    resets,
    too_many,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALWAYS = 5_000  # more often than anybody asks


@dataclass(frozen=True)
class Trouble:
    """What a row meets: `replies` in order of its requests, then ordinary answers.

    Args:
        kind: of the failure it must end in; None: it must be answered.
        sends: requests it must take; None where that depends on what the other rows do.
        partial: the text that must be kept of a refused answer.
    """

    name: str
    replies: Sequence[Reply] = ()
    kind: Kind | None = None
    sends: int | None = None
    partial: str | None = None


TRIES = 3  # what the tests' policy allows for transient faults
SURVIVED = [
    Trouble("429 with a wait", [too_many(retry_after_ms=4)], sends=2),
    Trouble("429 without", [too_many()], sends=2),
    Trouble("two of them", [too_many(), too_many(retry_after_ms=2)], sends=3),
    Trouble("500", [fails(500)], sends=2),
    Trouble("500 twice", [fails(500), fails(500)], sends=3),
    Trouble("503", [fails(503)], sends=2),
    Trouble("reset", [resets()], sends=2),
    Trouble("cut body", [cut_body()], sends=2),
    Trouble("malformed body", [malformed()], sends=2),
    Trouble("all sorts", [too_many(), fails(500), fails(503), resets()], sends=5),
]
FATAL = [
    Trouble("always 500", [fails(500)] * ALWAYS, Kind.TRANSIENT, TRIES),
    Trouble("always reset", [resets()] * ALWAYS, Kind.TRANSIENT, TRIES),
    Trouble("always malformed", [malformed()] * ALWAYS, Kind.TRANSIENT, TRIES),
    Trouble("always cut off", [cut_body()] * ALWAYS, Kind.TRANSIENT, TRIES),
    Trouble("always 429", [too_many()] * ALWAYS, Kind.THROTTLE),
    Trouble("cut by length", [cut_by_length("half an ans")] * ALWAYS, Kind.DEGRADE, 1, "half an ans"),
    Trouble("context too long", [context_too_long()] * ALWAYS, Kind.DEGRADE, 1),
    Trouble("filtered", [filtered()] * ALWAYS, Kind.FAIL_ROW, 1),
    Trouble("refused", [refused("I will not.")] * ALWAYS, Kind.FAIL_ROW, 1, "I will not."),
    Trouble("bad request", [fails(400)] * ALWAYS, Kind.FAIL_ROW, 1),
]
REJECTED = next(trouble for trouble in FATAL if trouble.kind is Kind.THROTTLE)
HANG = Trouble("hang", [hangs()], sends=2)
NONE = Trouble("none", sends=1)


def troubles(
    texts: Sequence[str], seed: int, *, healthy: float = 0.6, hanging: int = 2
) -> dict[str, Trouble]:
    """Who meets what: a share of healthy rows, a few that hang, the rest in equal parts.

    Rows that are rejected for ever come in the first half: they end only while others are accepted.
    """
    rng, half = Random(seed), len(texts) // 2
    found = {text: NONE if rng.random() < healthy else rng.choice(SURVIVED + FATAL) for text in texts}
    found |= {text: NONE for text in texts[half:] if found[text] is REJECTED}
    return found | dict.fromkeys(rng.sample(texts[half:], hanging), HANG)


def script_of(met: dict[str, Trouble]) -> Callable[[Request], Reply | None]:
    """The server's side of it."""

    def script(request: Request) -> Reply | None:
        replies = met[request.text].replies
        return replies[request.nth - 1] if request.nth <= len(replies) else None

    return script
