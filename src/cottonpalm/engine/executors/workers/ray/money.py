"""One budget for actors that nobody hands rows to, such as those of Ray Data: a named actor grants it in lumps.

What was spent, and what is granted, is in a store before an actor may spend it; so the granting actor may die and begin
again, and a job that is run again goes on with what is left. What an actor held that fell silent counts as spent.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import ray
from ray.exceptions import RayActorError, RayError

from cottonpalm import clock
from cottonpalm.engine.executors.workers.ray.limits import IDLE_S, NAMESPACE, on_this_node
from cottonpalm.errors import StoreError
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.remote import Lumps, MoneyTold, purse_and_ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.spending import Spending
from cottonpalm.stores import database_of, open_store, shown
from cottonpalm.stores.sql.lease import EXPIRES_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import Store
    from cottonpalm.request.money.remote import MoneyAsked, Purse

log = logging.getLogger("cottonpalm")
BEAT_S: Final = 0.5  # an actor says something at least this often
SILENT_S: Final = 30.0  # one that says nothing for so long is dead
AGAIN_S: Final = 0.5  # until the next try where the granting actor does not answer
# One that cannot begin is tried again for so long: its store may be back, and one that died elsewhere be believed dead.
BEGINS_S: Final = EXPIRES_S + 15.0


class CannotBegin(StoreError):
    """The granting actor could not open its sums. In a moment another one may."""


class MoneyActor:
    """Grants a budget. What it spent is kept in a run of a store.

    Args:
        store: the store's address.
        run: the name under which the sums are kept there.
        limits: what may be spent.
    """

    def __init__(self, store: str, run: str, limits: Amounts) -> None:
        self._address, self._name = store, run
        self._last_s = clock.now()
        self._tidying: asyncio.Task[None] | None = None
        self._begin(open_store(store), limits)

    def _begin(self, store: Store, limits: Amounts) -> None:
        """Begin with the sums of a store; what was lent by whoever granted before us counts as spent."""
        self._store = store
        self._run = store.open_run(self._name, None)
        self._spending = Spending(self._run, timed=limits.per_hour is not None)
        self._ledger = Ledger(limits)
        self._ledger.attach(self._spending)
        self._lumps: dict[str, Lumps] = {}
        self._heard_s: dict[str, float] = {}
        self._told: dict[str, int] = {}  # how often each holder told something

    async def allow(self, limits: Amounts) -> None:
        """Change what may be spent.

        Raises:
            StoreError: the sums cannot be kept: the store cannot be reached, say.
        """
        self._last_s = clock.now()
        self._tidy_from_now_on()
        if (failure := self._spending.failure or await self._failure()) is not None:
            self._begin_again(limits, failure)
        self._ledger.limits = limits

    async def _failure(self) -> BaseException | None:
        """Why the store does not take what we write; None: it does, and is the one that we opened."""
        written: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()
        self._run.write([], written.set_result, self._ledger.record(self._spending))
        return await asyncio.wrap_future(written)

    def _begin_again(self, limits: Amounts, failure: BaseException) -> None:
        """Open the store anew: it was away for long, or was deleted, and nothing more would ever be granted."""
        self._spending.failure = failure
        self._ledger.limits = Amounts(0)  # whoever waits for money hears of it
        store = open_store(self._address)  # first: where it is still away, that is said at once
        with suppress(StoreError):
            self._run.close()
        with suppress(StoreError):
            self._store.close()
        self._begin(store, limits)

    async def tell(self, holder: str, nth: int, told: MoneyTold) -> None:
        """Book what an actor spent and gives back, once: it says so again where it heard no answer.

        Args:
            holder: its name.
            nth: counts what it tells, from 1.
            told: what it tells.
        """
        self._tidy_from_now_on()
        self._last_s = self._heard_s[holder] = clock.now()
        if nth <= self._told.get(holder, 0):
            return
        known = holder in self._told or nth == 1
        self._told[holder] = nth
        lumps = self._lumps_of(holder)
        if not known:  # whoever granted before us may have booked it; all that was lent then counts as spent
            return
        lumps.book(told)
        if told.back and not self._ledger.reserved:
            self._run.write([], lambda _: None, self._ledger.at_rest(self._spending))

    async def grant(self, holder: str, asked: MoneyAsked) -> int:
        """Return what an actor gets; 0: there will be no more.

        Raises:
            RuntimeError: it said nothing for long meanwhile, and counted as dead.
            StoreError: it gets nothing, because that could not be written down.
        """
        lumps, spending = self._lumps_of(holder), self._spending
        amount = await lumps.grant(asked)
        if not amount and spending.failure is not None:
            raise StoreError(str(spending.failure))
        if amount and self._lumps.get(holder) is not lumps:
            lumps.book(MoneyTold(back=amount))
            raise RuntimeError(f"{holder} said nothing for {SILENT_S:.0f} seconds")
        return amount

    def _lumps_of(self, holder: str) -> Lumps:
        if (lumps := self._lumps.get(holder)) is None:
            lumps = self._lumps[holder] = Lumps(self._ledger, self._spending, lambda: len(self._lumps))
            self._heard_s.setdefault(holder, clock.now())
        return lumps

    async def spent(self) -> tuple[int, int]:
        """Return what was reported, and what may have been spent besides, in pico-dollars, by all jobs of this name.

        What an actor holds may be spent: it may have died, and nobody knows yet.
        """
        earlier, now = self._spending.earlier, self._spending
        return earlier.reported + now.reported, earlier.uncertain + now.uncertain + now.reserved

    def _tidy_from_now_on(self) -> None:
        """A job that was begun and never ran must not keep the budget from other clusters for ever."""
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        while clock.now() - self._last_s < IDLE_S:
            await asyncio.sleep(SILENT_S / 6)
            for holder, heard_s in tuple(self._heard_s.items()):
                if clock.now() - heard_s > SILENT_S:
                    del self._heard_s[holder]
                    # of one that was lost before, and only said something again, there is none
                    if (lumps := self._lumps.pop(holder, None)) is not None:
                        lumps.lost()
        for lumps in self._lumps.values():
            lumps.lost()
        for close in (self._spending.close, self._run.close, self._store.close):
            with suppress(StoreError):  # it is away: what was leased there counts as spent
                close()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


def money_actor(store: str, name: str, limits: Amounts) -> Any:
    """Return the actor that grants the budget of this name in this store; begin it if there is none.

    Raises:
        CannotBegin: it cannot open its sums: another cluster grants this budget, say.
        StoreError: it cannot keep them.
    """
    made = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(MoneyActor)
    at_home = {} if store.startswith(("postgres://", "postgresql://")) else on_this_node()
    actor: Any = made.options(
        name=_named(store, name),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=10_000,
        resources=at_home,
    ).remote(store, kept_as(name), limits)
    try:
        ray.get(actor.allow.remote(limits))
    except StoreError as exc:  # as Ray raises it, with the tracebacks of two processes
        raise StoreError(_said(exc)) from None
    except RayActorError as exc:
        if not exc.actor_init_failed:
            raise
        raise CannotBegin(f"the budget of {name!r} cannot be granted: {_last_words(str(exc))}") from None
    return actor


def _last_words(text: str) -> str:
    """Return why an actor could not begin. Ray tells it as the text of a traceback, which ends with the error."""
    return re.sub(r"^cottonpalm\.errors\.\w+: ", "", text.strip().splitlines()[-1])


def _said(exc: StoreError) -> str:
    """Return what an error of the granting actor says, without Ray's tracebacks."""
    return str(getattr(exc, "cause", exc))


def _named(store: str, name: str) -> str:
    """Of the actor. Two stores have two budgets of a name: what one holds is no part of the other's sums."""
    return f"cottonpalm budget {name} in {shown(store)}"


def kept_as(name: str) -> str:
    """Return the name of the run that keeps what jobs of this name spent."""
    return f"{name} (budget)"


class Drawing:
    """One actor's part of a budget. Made, used and closed on one event loop.

    Attributes:
        ledger, purse: what its runs draw on.
    """

    def __init__(self, store: str, name: str, limits: Amounts, idle: Callable[[], bool]) -> None:
        """Draw on the budget of this name, as of `money_actor`; `idle` says that nothing is under way here."""
        self._store, self._name, self._limits = store, name, limits
        self._idle, self._holder = idle, uuid4().hex
        self._actor: Any = None
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ledger, purse = purse_and_ledger(self._ring)
        self.purse: Purse = purse
        self._telling = asyncio.Lock()
        self._nth = 0  # of what is told
        self._asking: asyncio.Task[None] | None = None
        self._cannot_s: float | None = None  # since when the granting actor cannot begin
        self._task = self._loop.create_task(self._converse())

    def _ring(self) -> None:
        self._loop.call_soon_threadsafe(self._wake.set)

    async def settle(self) -> None:
        """Tell what was spent until now, and give back what is not needed."""
        await self._tell()

    async def _converse(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._wake.wait()
            self._wake.clear()
            await self._tell()

    async def _tell(self) -> None:
        async with self._telling:  # what is told is told in order
            told = self.purse.told(idle=self._idle())
            self._nth += 1
            nth = self._nth
            try:
                await self._reach(lambda actor: actor.tell.remote(self._holder, nth, told))
            except StoreError as exc:
                self._refuse(exc)
                return
        if told.asked is not None:
            # An answer may have to wait for what we tell meanwhile.
            self._asking = self._loop.create_task(self._ask(told.asked))

    async def _ask(self, asked: MoneyAsked) -> None:
        try:
            amount = await self._reach(lambda actor: actor.grant.remote(self._holder, asked))
        except StoreError as exc:
            self._refuse(exc)
        else:
            self.purse.grant(amount)

    def _refuse(self, exc: StoreError) -> None:
        self.purse.refuse(f"what is spent cannot be made durable, and so no request is sent: {_said(exc)}")

    async def _reach(self, call: Callable[[Any], Any]) -> Any:
        """Call the granting actor until it answers.

        Raises:
            StoreError: it cannot keep its sums, or could not begin for long.
        """
        while True:
            try:
                if self._actor is None:
                    self._actor = await asyncio.to_thread(money_actor, self._store, self._name, self._limits)
                    self._cannot_s = None
                return await call(self._actor)
            except CannotBegin as exc:
                self._give_up_by_and_by(exc)
            except StoreError:  # is a RayError, too, as Ray raises it
                raise
            except (RayError, ValueError) as exc:
                log.info("the budget %r does not answer (%s)", self._name, type(exc).__name__)
                self._actor = None
            await asyncio.sleep(AGAIN_S)

    def _give_up_by_and_by(self, exc: CannotBegin) -> None:
        """Raise the error once it has lasted for long; who waits for money would wait for ever."""
        now = clock.now()
        if self._cannot_s is None:
            self._cannot_s = now
            log.warning("%s; it is tried again for %.0f seconds", exc, BEGINS_S)
        if now - self._cannot_s >= BEGINS_S:
            raise exc


def spent_by(store: str, name: str) -> tuple[int, int]:
    """Return what the jobs of this name have spent, as `MoneyActor.spent`; from the store, if the actor has ended.

    Raises:
        StoreError: there is no such store, or no budget of this name in it.
    """
    _look_up(store, name)
    with suppress(ValueError, RayError):
        actor: Any = ray.get_actor(_named(store, name), namespace=NAMESPACE)  # kept: older Rays lose it
        reported, uncertain = ray.get(actor.spent.remote())
        return reported, uncertain
    opened = open_store(store)
    try:
        run = opened.open_run(kept_as(name), None)
        sums = run.spent()
        run.close()
    finally:
        opened.close()
    return sums.reported, max(sums.uncertain, sums.leased - sums.reported)


def _look_up(store: str, name: str) -> None:
    """See that the store has this budget, and make neither: $0 for a name that is not there would be believed.

    Raises:
        StoreError: it has not.
    """
    database = database_of(store)
    if database is None or not database.exists():
        raise StoreError(
            f"there is no store {shown(store)} here: name the one that asking(store=...) was given"
        )
    opened = open_store(store)
    try:
        if opened.look(kept_as(name)) is None:
            raise StoreError(
                f"{shown(store)} knows no job {name!r} with a budget: name= is that of asking(...), and a job without"
                " budget= keeps no account of what it spends"
            )
    finally:
        opened.close()
