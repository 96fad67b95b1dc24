"""What the requests of a run share, made for each run: the limits and prices of its processor, its money, the hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from langchain_core.globals import get_llm_cache

from cottonpalm import clock
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.engine.shared import ledger_of, lock
from cottonpalm.errors import ConfigError
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.request.limiter import sharing
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport import google_client, hook, left_behind, own_fallbacks
from cottonpalm.request.transport.fast import door
from cottonpalm.setting_checks import capped
from cottonpalm.store_extras import SharesLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.chain_facts import ChainFacts
    from cottonpalm.protocols import RunStore
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.settings import Settings
    from cottonpalm.stores.sql.database import Database

LOOK_S: Final = 1.0  # seconds for which single calls trust the last check that requests reach the hook


class Accounts:
    """Makes the account of each run of one processor.

    Attributes:
        refuses_unbounded: under a budget: False sends requests without a bound, and counts them later.
        purse: of a worker: money that another process grants it.
        place: of a worker: where its limits are shared.
        in_worker: a worker's row began this run, which has a place of its own: the worker's maximum is divided there.
    """

    def __init__(self, facts: ChainFacts, settings: Settings) -> None:
        self._facts, self._settings = facts, settings
        self._prices = PriceBook(settings.prices)
        self._limiters: dict[tuple[int | None, int], Limiters] = {}  # by cap, and the clock they go by
        self._looked: tuple[float, bool] | None = None
        self.refuses_unbounded = True
        self.purse: tuple[Ledger, Spending] | None = None
        self.place: tuple[Database, int] | None = None
        self.in_worker = False

    def made(self, max_concurrency: int | None, run_store: RunStore | None, *, many: bool) -> RunAccount:
        """Make the account of a run; one of `many` rows looks again whether its requests can be seen.

        Raises:
            ConfigError: there is a budget, and requests cannot be seen.
        """
        settings, budget = self._settings, self._settings.budget
        hooked = self._hooked(many=many)
        if not (hooked or self.refuses_unbounded):
            budget = None
        if budget is not None and not hooked:
            raise ConfigError(
                "a budget needs the request hook, to see each model request before it is sent; it is switched off "
                f"(request_hook=False or {hook.OPT_OUT}=1) or another library has put the clients' old `send` back"
            )
        ledger = ledger_of(budget) if self.purse is None else self.purse[0]
        timed = budget is not None and budget.per_hour is not None
        spending = (
            Spending(run_store, timed=timed, out=_set_aside(run_store))
            if self.purse is None
            else self.purse[1]
        )
        if ledger is not None:
            ledger.attach(spending)
        return RunAccount(
            limiters=self.limiters_for(max_concurrency),
            ledger=ledger,
            spending=spending,
            prices=self._prices,
            retry=settings.retry,
            timeout_s=settings.timeout_s,
            hedge=settings.hedge,
            prompt_cache=settings.prompt_cache,
            accept_truncated=settings.accept_truncated or self._facts.answer_is_a_message,
            max_output_tokens=None if budget is None else budget.max_output_tokens,
            tighten=budget is None or budget.tighten,
            refuses_unbounded=self.refuses_unbounded,
            has_fallbacks=bool(settings.fallbacks),
            classify=settings.classify,
            hooked=hooked,
            remembers=get_llm_cache() is not None or self._facts.models_remember,
            fast=settings.transport == "fast",
            functions_send_by=self._facts.functions_send_by,
        )

    def for_planning(self) -> RunAccount:
        """Make the account for rows whose requests are only looked at: without money, with limits of its own."""
        settings = self._settings
        return RunAccount(
            limiters=Limiters(settings.concurrency),
            ledger=None,
            prices=self._prices,
            retry=settings.retry,
            timeout_s=settings.timeout_s,
            prompt_cache=settings.prompt_cache,
            max_output_tokens=None if settings.budget is None else settings.budget.max_output_tokens,
            hooked=self._hooked(many=True),
        )

    def _hooked(self, *, many: bool) -> bool:
        """Whether requests reach the hook. It is checked for each run, and at most every LOOK_S for single calls."""
        if not self._settings.request_hook:
            return False
        if many or self._looked is None or clock.now() - self._looked[0] > LOOK_S:
            hook.install()
            google_client.install()
            door.install()
            own_fallbacks.install()
            left_behind.install()
            self._looked = (clock.now(), hook.reaches())
        return self._looked[1]

    def limiters_for(self, most: int | None) -> Limiters:
        """Return the limits, shared with other runs and processors; with a cap, limits that nobody else shares."""
        cap = most if most is not None else self._settings.cap
        with lock:
            if (found := self._limiters.get((cap, clock.era()))) is None:
                limits, rate = self._settings.concurrency, self._settings.rate_limit
                found = (
                    self._settings.limits.limiters(limits, rate)
                    if cap is None
                    else Limiters(
                        limits if most is None else capped(limits, most),
                        rate,
                        self._settings.cap,
                        circle=self._settings.limits,
                    )
                )
                self._limiters[cap, clock.era()] = found
            return found

    def forget_limits(self, settings: Settings) -> None:
        """Replace the learnt limits: the next run begins with those of these settings."""
        with lock:
            self._settings = settings
            self._limiters.clear()

    def share(self, limiters: Limiters, run_store: RunStore | None = None) -> Callable[[], None]:
        """Share limits with other processes, if there is a place for that; call what is returned at the end."""
        place = run_store.place() if isinstance(run_store, SharesLimits) else self.place
        if place is None:
            return _nothing
        must = self.place is not None
        return sharing.begin(limiters, *place, most=self._most(worker=must or self.in_worker), must=must)

    def _most(self, *, worker: bool) -> int | None:
        """The number in flight that the user named. A maximum is the run's: its workers divide it as well."""
        cap, maximum = self._settings.cap, self._settings.concurrency.maximum
        return maximum if cap is None and worker and maximum != AdaptiveConcurrency().maximum else cap


def _set_aside(run: RunStore | None) -> int:
    """Pico-dollars of batches that are out since an earlier process."""
    if not isinstance(run, KeepsBatches):
        return 0
    return sum(batch.reserved for batch in run.book().batches() if not batch.over)


def _nothing() -> None:
    """Nothing is shared."""
