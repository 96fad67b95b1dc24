"""Decides at which of several equal endpoints a row is best answered: where the start of its prompt was sent lately.

Servers of one's own (vLLM, SGLang, llama.cpp) and providers alike keep what they have read, each endpoint for itself. A
row goes where more of its prompt is kept only if it would begin there about as soon. So a start that many rows share is
soon kept everywhere, and a document with ten questions mostly at one place. No clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

from cottonpalm.types import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.request.endpoints.routing import EndpointState

Pieces: TypeAlias = tuple[int, ...]  # digests of a prompt up to one piece, two pieces, ...

PIECE: Final = 1_024  # bytes
PIECES: Final = 256  # of one prompt; what is longer is not told apart
KEPT: Final = 4_096  # pieces for each endpoint: a million tokens, as much as a large server's cache
WORTH: Final = 256 * BYTES_PER_TOKEN  # bytes: for less, no row goes elsewhere...
WORTH_SHARE: Final = 0.1  # ...nor for a smaller part of its prompt
SLACK: Final = 0.5  # of an endpoint's limit: so much busier it may be, or so much longer the line there


def pieces_of(prompt: bytes) -> Pieces:
    """Return the digests by which the prompt's start is known again."""
    found: list[int] = []
    digest = 0
    for end in range(PIECE, min(len(prompt), PIECE * PIECES) + 1, PIECE):
        digest = hash((digest, prompt[end - PIECE : end]))
        found.append(digest)
    return tuple(found)


class Affinity:
    """What each endpoint was sent lately.

    Args:
        endpoints: how many there are.

    Attributes:
        lately: where the latest prompt was known, if it was not everywhere: the next one may be like it.
    """

    def __init__(self, endpoints: int) -> None:
        self.lately: int | None = None
        self._kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(endpoints)]

    def place(self, pieces: Pieces, here: int, size: int, states: Sequence[EndpointState] | None) -> int:
        """Return the endpoint to which a prompt goes, and note that it goes there.

        Args:
            pieces: of the prompt.
            here: where its row is.
            size: of the prompt, in bytes.
            states: of all endpoints, where the row itself counts nowhere; None: the row stays.
        """
        warm, place = self._warm(pieces), here
        if states is not None:
            place = warmer(states, warm, here, size)
        self.lately = place if warm[place] > min(warm) else None
        self._sent(place, pieces)
        return place

    def loses(self, pieces: Pieces, source: int, target: int) -> int:
        """Return how many bytes less of this prompt the target was sent lately."""
        warm = self._warm(pieces)
        return warm[source] - warm[target]

    def _warm(self, pieces: Pieces) -> list[int]:
        return [PIECE * _first_missing(pieces, kept) for kept in self._kept]

    def _sent(self, endpoint: int, pieces: Pieces) -> None:
        kept = self._kept[endpoint]
        for digest in reversed(pieces):  # a server, too, forgets the ends of prompts before their starts
            kept[digest] = None
            kept.move_to_end(digest)
        while len(kept) > KEPT:
            kept.popitem(last=False)


def _first_missing(pieces: Pieces, kept: OrderedDict[int, None]) -> int:
    return next((n for n, digest in enumerate(pieces) if digest not in kept), len(pieces))


def warmer(states: Sequence[EndpointState], warm: Sequence[int], here: int, size: int) -> int:
    """Return the endpoint that a row is to ask: one that has much more of its prompt than where it is, or `here`.

    Args:
        states: see `Affinity.place`.
        warm: bytes of its prompt that each of them has.
        here: where it is.
        size: of its prompt, in bytes.
    """
    worth = warm[here] + max(WORTH, WORTH_SHARE * size)
    there = [n for n in range(len(states)) if warm[n] >= worth and about_as_soon(states[n], states[here])]
    return min(there, key=lambda n: (-warm[n], states[n].rank), default=here)


def about_as_soon(there: EndpointState, here: EndpointState) -> bool:
    """Whether a row would begin there about as soon as here: at once, or after as short a line."""
    if there.opens_in_s or there.ill:
        return False
    if there.has_room:
        return not here.has_room or there.busy <= here.busy + SLACK
    return not here.has_room and there.wait_s <= here.wait_s + SLACK * there.trip_s
