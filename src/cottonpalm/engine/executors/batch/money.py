"""What is set aside for the batches of a run, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.providers.batches.stages import Stage
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.request.pricing import call_in

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.stages import Batch, Book, Member
    from cottonpalm.request.run_account import RunAccount


class BatchMoney:
    """The money of one run's batches.

    Args:
        book: where they are written down.
        run: whose money it is.
        given_up: tags of batches that are not waited for.

    Attributes:
        paid_twice: pico-dollars of answers that came although their rows had been given to another lane, by tag.
    """

    def __init__(self, book: Book, run: RunAccount, given_up: Container[str]) -> None:
        self._book, self._run, self._given_up = book, run, given_up
        self._amounts: dict[Lane, list[int]] = {}  # pico-dollars set aside for each request in an open spool
        self._held: dict[str, int] = {}  # the same of each batch, by tag
        self.paid_twice: dict[str, int] = {}

    def spooled(self, lane: Lane, amount: int) -> None:
        """A request is in the open spool, with what is set aside for it."""
        self._amounts.setdefault(lane, []).append(amount)

    def packed(self, lane: Lane, tag: str) -> None:
        """What is in the spool becomes a batch: one sum is set aside for it, in place of those of its requests."""
        amounts = self._amounts.pop(lane, [])
        self.hold(tag, sum(amounts))
        self._free(amounts)

    def hold(self, tag: str, amount: int) -> None:
        """Set so much aside for a batch."""
        self._held[tag] = amount
        if self._run.ledger is not None:
            self._run.ledger.hold(amount, self._run.spending)

    def lease_held(self) -> None:
        """Make durable that what is held may be spent: a batch may be over, and we killed before its cost is stored.

        Raises:
            BaseException: it could not be stored.
        """
        if (ledger := self._run.ledger) is not None:
            ledger.lease_now(Ask(0, 0), self._run.spending)
            if (failure := self._run.spending.failure) is not None:
                raise failure

    def give_back(self, tag: str) -> None:
        """A batch goes nowhere."""
        if amount := self._held.pop(tag, 0):
            self._free([amount])

    def settle(self, batch: Batch) -> list[Member]:
        """Book what its answers cost; returns what was in it. It reads the book: call it on a thread."""
        run, members = self._run, self._book.members(batch.tag)
        reported, unsaid = self._counted(batch, members)
        if batch.tag in self._given_up:
            self.paid_twice[batch.tag] = reported
        amount = self._held.pop(batch.tag, 0)
        uncertain = max(0, amount - reported) if batch.stage is Stage.LOST else _bound(batch, amount, unsaid)
        uncertain += len(batch.twins) * max(amount, reported)  # each may have to be paid as well
        if run.ledger is not None:
            if run.ledger.settle(amount, reported, uncertain, run.spending, requests=len(members)):
                run.alerts.spent_more(run.ledger, run.spending)
        elif reported or uncertain:
            run.spending.book(reported, uncertain)
        return members

    def _counted(self, batch: Batch, members: Iterable[Member]) -> tuple[int, int]:
        """Count its requests; returns what they cost, and how many answers did not say what they cost."""
        run, call = self._run, call_in(batch.lane)
        reported = unsaid = 0
        for member in members:
            result = self._book.asked(member.row).get(member.key)
            if result is None or result.body is None:
                continue
            usage = cost = None
            if result.good:  # one that was refused for good costs nothing
                answer = call.family.read(result.body)
                usage, cost = answer.usage, run.pricing.cost(call, answer)
                reported += cost or 0
                unsaid += cost is None
            if run.measure is not None:
                run.measure.request(call.label, None, usage, cost, ok=result.good)
        return reported, unsaid

    def settle_ended(self) -> None:
        """Book batches that were written down as over when this run ended: no other looks at them again."""
        for batch in self._book.batches():
            if batch.over and batch.tag in self._held:
                self.settle(batch)

    def close(self) -> None:
        """Give back the money of what is out; a task that is not over yet may still book one of them."""
        amounts = [one for many in self._amounts.values() for one in many]
        while self._held:
            amounts.append(self._held.popitem()[1])
        self._free(amounts)

    def _free(self, amounts: list[int]) -> None:
        if (ledger := self._run.ledger) is not None:
            for amount in amounts:
                ledger.settle(amount, 0, 0, self._run.spending)


def _bound(batch: Batch, amount: int, unsaid: int) -> int:
    """The most that so many of its lines can cost: each may be the dearest, whose bound alone is written down."""
    return min(amount, unsaid * (batch.dearest or amount))
