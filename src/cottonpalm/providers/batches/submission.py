"""Batches brought through their stages, so that nothing is paid twice: the one place that submits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.spool import Packed
    from cottonpalm.providers.batches.stages import Batch, Book

LISTING_WAIT_S: Final = 300.0  # a batch that a listing does not show so long after it was sent is not there


class Desk:
    """Submits and collects the batches of one run.

        batch = await desk.plan(packed)                     # durable: the intent
        while not batch.over:
            batch = await desk.advance(batch)               # one step, durable before and after
            await asyncio.sleep(desk.wait_s(batch))

    After a crash, the same loop over `book.batches()`: those that were out are found again before anything is
    submitted anew. Results are in the book (`book.asked(row)`) once their batch is over.
    """

    def __init__(
        self,
        book: Book,
        http: httpx.AsyncClient,
        credentials: Callable[[Lane], Mapping[str, str]],
        *,
        listing_wait_s: float = LISTING_WAIT_S,
        poll_s: float = 15.0,
    ) -> None:
        """Arrange.

        Args:
            book: where batches are written down.
            http: a client without retries of its own.
            credentials: the headers that say who pays, of the chain's own requests (`lanes.credentials_of`).
            listing_wait_s: how long a listing may lag.
            poll_s: the shortest wait between two looks at a batch; it grows to 20 times as much.
        """
        raise NotImplementedError

    async def plan(self, packed: Packed) -> Batch:
        """Write down what is about to be submitted. The desk keeps the file until the provider has it."""
        raise NotImplementedError

    async def advance(self, batch: Batch) -> Batch:
        """Take the next step of a batch and return where it stands then; the same batch where it must wait.

        Raises:
            BatchDenied: the provider does not accept the credentials.
            StoreError: the book cannot be written.
        """
        raise NotImplementedError

    def wait_s(self, batch: Batch) -> float:
        """How long to wait before the next step of it; 0 where it can go on at once."""
        raise NotImplementedError

    async def cancel(self, batch: Batch) -> Batch:
        """Ask the provider to stop it. It still has to end, and what is done by then is collected and paid."""
        raise NotImplementedError
