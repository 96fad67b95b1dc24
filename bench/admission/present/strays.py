"""Whether a rejection is one of the few that some providers answer at random, whatever is sent."""

from __future__ import annotations

from typing import Final

FEW: Final = 3  # rejections, one after the other, that may be chance
FORGOTTEN: Final = 1 / 16  # of a rejection, by each accepted call: chance may reject so large a share at most
WARY: Final = 2  # rejections that count as seen after a limit was blamed: it may still be a little too high
PROBES: Final = 2  # refused one after the other; of a provider that rejects 3 %, one in a thousand


class SpuriousRejections:
    """Counts rejections, and forgets them as calls are accepted.

    A load balancer before many servers, a few of them full, rejects a small share of the calls at random. To send less
    changes nothing, so each costs its own retry alone. Beyond a true limit a far larger share is rejected, and where
    less is, to stay there does no harm.

    Attributes:
        count: rejections not made up for by accepted calls.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0.0

    def accepted(self) -> None:
        """A call was answered."""
        if self.count > 0:
            self.count = max(0.0, self.count - FORGOTTEN)

    def rejected(self) -> None:
        """A call was rejected, whatever for."""
        self.count += 1.0

    def blamed(self) -> None:
        """A limit was blamed for it: the next few are no strays."""
        self.count = max(self.count, WARY)

    def likely(self, refused_probes: int) -> bool:
        """Whether the last rejection may be chance, when so many probes in a row were refused since."""
        return self.count <= FEW and refused_probes < PROBES
