"""The flex tier of OpenAI: the same request answered later, at a lower price, as long as there is room for it.

Only runs that look for the cheapest lane ask for it, of models for which the price list has a lower price there. What
finds no room is asked at the standard tier, so it is for the run to say whether there is anything cheaper than that.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.providers.openai import FLEX, flex_refusal
from cottonpalm.request.money.rules.prices import BATCH

if TYPE_CHECKING:
    from collections.abc import Collection

    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.rules.prices import PriceBook
    from cottonpalm.request.money.rules.rates import Rates

TRIES: Final = 3  # refusals for want of room after which a request is asked elsewhere
GIVEN_UP: Final = 3  # requests that found no room, one after the other: then none is tried for a while...
REST_S: Final = 300.0  # ...which is so long
_HOSTS: Final = frozenset(("api.openai.com", "us.api.openai.com", "eu.api.openai.com"))


class Flex:
    """What one run knows of it. Thread-safe.

    Args:
        prices: what models cost there.
        hosts: other addresses that serve OpenAI's API: "proxy:8080".
    """

    def __init__(self, prices: PriceBook, hosts: Collection[str] = ()) -> None:
        self._prices, self._hosts = prices, _HOSTS | frozenset(hosts)
        self._never: set[str] = set()  # labels of models that are not served there
        self._given_up: Counter[str] = Counter()
        self._rests: dict[str, float] = {}  # until when a model is not asked for there
        self._lock = threading.Lock()

    def of(self, call: Call) -> Call | None:
        """Return the request as it asks for the flex tier; None: it is to be sent as it is.

        It has a key of its own: how much room there is at this tier says nothing of the others.
        """
        if not self.takes(call):
            return None
        label, _, account = call.key.rpartition("#")
        body = {**call.body, "service_tier": FLEX}
        return replace(call, key=f"{label} at flex#{account}", body=body, asked_as=call)

    def takes(self, call: Call) -> bool:
        """Whether the request may go there now, and costs less there than at the standard tier."""
        where = call.url.partition("://")[2].partition("/")[0]
        if call.family.name != "openai" or where not in self._hosts or call.streams or call.signed:
            return False
        if "service_tier" in call.body or call.label in self._never:  # the user's own choice stands
            return False
        if self._rests.get(call.label, 0.0) > clock.now():
            return False
        return _less(self._rates(call, FLEX), self._rates(call, None))

    def beats_a_batch(self, call: Call) -> bool:
        """Whether it costs no more there than in a batch, which comes back later."""
        return self.takes(call) and not _less(self._rates(call, BATCH), self._rates(call, FLEX))

    def refused(self, call: Call, status: int, content: bytes) -> bool:
        """Whether this answer to a request says that there is no room at the flex tier, or no such tier."""
        why = flex_refusal(status, content)
        if why == "unknown":
            with self._lock:
                self._never.add(call.label)
        return why is not None

    def serves(self, call: Call) -> bool:
        """Whether the model may be served there at all."""
        return call.label not in self._never

    def served(self, call: Call, tier: str | None) -> bool:
        """Whether it was answered there, as far as the answer names its tier; take note of that.

        One that was answered at another tier, at its price, found no room: else a provider that does so with all of
        them would be asked on and on at a price that a batch halves.
        """
        if tier not in (None, FLEX):
            self.gave_up(call)
            return False
        self._given_up.pop(call.label, None)
        return True

    def gave_up(self, call: Call) -> None:
        """It found no room there."""
        with self._lock:
            self._given_up[call.label] += 1
            if self._given_up[call.label] >= GIVEN_UP:
                self._given_up[call.label] = 0
                self._rests[call.label] = clock.now() + REST_S

    def _rates(self, call: Call, tier: str | None) -> Rates | None:
        return self._prices.rates(call.model, call.url, tier)


def _less(one: Rates | None, other: Rates | None) -> bool:
    """Whether one price is lower in some part, and higher in none."""
    if one is None or other is None:
        return False
    pairs = [(one.dearest_input, other.dearest_input), (one.dearest_output, other.dearest_output)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
