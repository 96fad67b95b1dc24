"""The workers of one run together: the rows that they want, what they have in flight, and what holds them back."""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.engine.monitor import is_fact
from cottonpalm.events import Binding, LimitChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.engine.executors.workers.mate import Mate
    from cottonpalm.types import Item

OWN: Final = frozenset({"source", "reader", "tail", ""})  # what binds a worker, and not the run


class Mates:
    """The workers that are there. Only the run's loop adds and removes; any thread may look.

    Args:
        most: how many requests may be in flight at one host and model.
        cap: how many rows may run at once, of all workers; None: not said.
        over: whether no more rows go to them: at the end they leave one by one, and their limits say nothing.

    Attributes:
        answered: rows that they have answered.
        limit: how many requests may be in flight at all of them, as long as rows went to them; None: none has begun.
    """

    def __init__(self, most: Callable[[], int], cap: int | None, over: Callable[[], bool]) -> None:
        self._most, self._cap, self._over = most, cap, over
        self._mates: set[Mate] = set()
        self.answered = 0
        self.limit: float | None = None

    def __iter__(self) -> Iterator[Mate]:
        return iter(tuple(self._mates))

    def __len__(self) -> int:
        return len(self._mates)

    def __contains__(self, mate: Mate) -> bool:
        return mate in self._mates

    def join(self, mate: Mate) -> None:
        """One more is there."""
        self._mates.add(mate)

    def leave(self, mate: Mate) -> None:
        """It is there no more."""
        self._mates.discard(mate)

    @property
    def wants(self) -> int:
        """How many rows they want together."""
        return sum(mate.wants for mate in self if not mate.stopped)

    @property
    def requests(self) -> int:
        """How many requests are in flight at all of them."""
        return sum(mate.requests for mate in self)

    @property
    def pause_s(self) -> float:
        """Seconds until all providers may be asked again, as they know."""
        now = clock.now()
        return max([0.0, *(mate.paused_until - now for mate in self)])

    def hand_out(self, take: Callable[[], Item | None], *, but: Mate | None) -> None:
        """Give all but one of them as many rows as they want and there are, evenly."""
        able = [mate for mate in self if mate is not but and mate.room > 0]
        emptiest = [(mate.filled, number, mate) for number, mate in enumerate(able)]
        heapify(emptiest)
        while emptiest and (item := take()) is not None:
            _, number, mate = emptiest[0]
            mate.give(item)
            if mate.room > 0:
                heapreplace(emptiest, (mate.filled, number, mate))
            else:
                heappop(emptiest)

    def add_limits(self) -> None:
        """One of them has said its limits. Before it has its share, each one says the whole cap."""
        if not self._over():
            said = [mate.limit for mate in self if mate.limit is not None]
            self.limit = min(sum(said), self._cap or inf) if said else None

    def limits(self) -> list[LimitChanged]:
        """See `monitor.WorkersStanding`.

        No more may be in flight than at one process, though one worker's news is older than another's, which has a part
        of its share meanwhile.
        """
        found: dict[str, LimitChanged] = {}
        for mate in () if self._over() else self:
            for one in mate.limits:
                before = found.get(one.key, LimitChanged(one.key, 0, 0))
                limit = min(self._most(), before.limit + one.limit)
                found[one.key] = LimitChanged(one.key, limit, before.in_flight + one.in_flight)
        return list(found.values())

    def binding(self, here: Binding) -> Binding:
        """See `monitor.WorkersStanding`: what most of them say, where rows wait for them."""
        if here.what not in ("concurrency", "cap", "tail", ""):
            return here
        said = Counter(mate.binding for mate in self if mate.binding.what not in OWN)
        most = said.most_common(1)[0][0] if said else None
        if here.what == "tail":  # but where these wait for a provider
            return most if most is not None and is_fact(most) else here
        if most is not None:
            return most
        return Binding("", "") if self.limit is None else here
