"""Whether a round's requests go through a batch: by their price, and by the time that is left. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.observers.words.formatting import duration
from cottonpalm.request.money.rules.prices import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.engine.executors.batch.rescue import Rescue
    from cottonpalm.providers.call import Call
    from cottonpalm.request.recording import Asked, Recording
    from cottonpalm.request.run_account import RunAccount


class Worth:
    """Judges for one run, and says once why rows run live.

    Args:
        run: whose prices hold.
        cheapest: batches only where their price is known to be lower, or not known.
        rescue: what keeps the deadline, if there is one.
    """

    def __init__(self, run: RunAccount, *, cheapest: bool, rescue: Rescue | None) -> None:
        self._run, self._cheapest, self._rescue = run, cheapest, rescue

    def of(self, recording: Recording, *, out: bool) -> bool:
        """Whether its requests are cheaper in a batch, and may come back in time. `out`: some batch was made."""
        asked = recording.asked.values()
        if self._cheapest and not all(self._is_cheaper(one.wanted.call) for one in asked):
            return False
        if self._rescue is None or not asked or self._rescue.worth(asked):
            return True
        if not out:
            self._run.alerts.warn("no time", self._why_late(asked, self._rescue))
        return False

    @staticmethod
    def _why_late(asked: Iterable[Asked], rescue: Rescue) -> str:
        if (lane := rescue.unproven(asked)) is not None:
            return (
                f"{lane.provider} may keep nothing of a batch that is cancelled, and this store knows none of"
                f' {lane.model} that has ended (mode="batch" makes one): rows run live, at the full price'
            )
        return (
            f"the deadline leaves no time for batches, which are cancelled {duration(rescue.reserve_s)} before it:"
            " rows run live, at the full price"
        )

    def of_flex(self, recording: Recording) -> bool:
        """Whether no request of it costs more at the flex tier: that answers sooner."""
        if (tier := self._run.flex) is None or not recording.asked or recording.unused:
            return False
        return all(tier.beats_a_batch(one.wanted.call) for one in recording.asked.values())

    def _is_cheaper(self, call: Call) -> bool:
        prices = self._run.pricing.prices
        live, batch = prices.rates(call.model, call.url), prices.rates(call.model, call.url, BATCH)
        if live is None or live != batch:
            return True
        self._run.alerts.warn(
            f"no cheaper {call.model}",
            f'no lower price of a batch is known for {call.model}: its rows run live (`mode="batch"` sends them all the'
            " same)",
        )
        return False
