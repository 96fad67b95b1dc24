"""The results of a batch that has ended, fetched and stored group by group; each line is matched by its custom_id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cottonpalm.providers.batches.lines import Phase, Result
from cottonpalm.providers.batches.stages import Batch, Book, Stage, custom_id, number_of
from cottonpalm.providers.batches.troubles import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.providers.batches.client import BatchClient
    from cottonpalm.providers.batches.lines import Ask, BatchState

_GROUP: Final = 512  # results that become durable together


class _Stranger(Exception):
    """The results are of a batch that only looked like ours."""


@dataclass(slots=True)
class _Back:
    """The numbers of lines that came back: all, those that were executed, and those that hold an answer."""

    lines: set[int] = field(default_factory=set)
    executed: set[int] = field(default_factory=set)
    good: set[int] = field(default_factory=set)

    def count(self, number: int, result: Result) -> None:
        """Take note of a result."""
        self.lines.add(number)
        if result.lost is None:
            self.executed.add(number)
        if result.good:
            self.good.add(number)


async def collect(
    batch: Batch, client: BatchClient, book: Book, *, more_may_come: Callable[[], bool] = lambda: False
) -> Batch:
    """Store all results and return the batch in its final stage.

    The same batch, where a twin of it has not ended yet. Back in `creating`, where what had been found by time and
    count alone turns out to be somebody else's, or has no result that says whose it was. May be repeated at any time:
    a result is stored once.

    Args:
        batch: one that has ended.
        client: of its lane.
        book: where results are stored.
        more_may_come: asked where there are fewer answers than the provider counts: whether these are not yet all.

    Raises:
        Trouble: the provider could not be asked now.
    """
    assert batch.state is not None
    states = [batch.state, *[state for twin in batch.twins if (state := await state_now(client, twin))]]
    if not all(state.ended for state in states):
        return batch
    try:
        back = [await _collected(batch, client, book, state) for state in states]
    except _Stranger:
        return _looked_for_again(batch, batch.state)
    if any(
        found is None or _is_short(batch, state, found) for found, state in zip(back, states, strict=True)
    ):
        if not any(state.gone for state in states) and more_may_come():
            raise Trouble("later", "the results do not yet hold all answers that the provider counts")
        return replace(
            batch, stage=Stage.LOST, why="the provider no longer keeps its results, or not all of them"
        )
    if not (batch.proven or any(found.lines for found in back if found)):
        # It may be anybody's. Where it was ours, it cost nothing.
        return _looked_for_again(batch, batch.state)
    if innocent := _unexecuted(batch):
        await asyncio.to_thread(book.keep, batch.tag, innocent)
    return replace(batch, stage=Stage.COLLECTED, proven=True, why=_why(batch.state))


def _looked_for_again(batch: Batch, stranger: BatchState) -> Batch:
    """What was found is passed over from now on: nothing says that it was ours."""
    strangers = (*batch.strangers, stranger.batch_id)
    return replace(batch, stage=Stage.CREATING, batch_id=None, state=None, proven=True, strangers=strangers)


def _is_short(batch: Batch, state: BatchState, back: _Back) -> bool:
    """Whether answers are missing that the provider has, by its counts; some count a refusal as an answer.

    Where it counts nothing (Together), each line of a batch that it completed has a result. Of one that ended earlier
    it says what share is done. That is no exact count, so it only tells whether all answers are missing.
    """
    if state.rows is None and state.phase is Phase.COMPLETED:
        return len(back.lines) < batch.rows
    if state.rows is None:
        return not back.good and len(back.executed) < round(state.share * batch.rows)
    return len(back.good) < state.done and len(back.executed) < state.done + state.failed


async def state_now(client: BatchClient, batch_id: str) -> BatchState | None:
    """Where a batch stands; None where it is no longer known."""
    try:
        return await client.look(batch_id)
    except Trouble as trouble:
        if trouble.what != "gone":
            raise
        return None


async def _collected(batch: Batch, client: BatchClient, book: Book, state: BatchState) -> _Back | None:
    """What came back of a batch or its twin; None where a file of results is gone."""
    back = _Back()
    gone = state.gone
    for ask in client.adapter.results(client.lane, state):
        try:
            await _file(batch, client, book, ask, back)
        except Trouble as trouble:
            if trouble.what != "gone":
                raise
            gone = True
    return None if gone else back


async def _file(batch: Batch, client: BatchClient, book: Book, ask: Ask, back: _Back) -> None:
    group: list[tuple[int, Result]] = []
    strange = False
    async for result in client.results(ask):
        number = number_of(batch, result.custom_id)
        if number is None:
            strange = True
            continue
        back.count(number, result)
        group.append((number, result))
        if len(group) == _GROUP:
            await asyncio.to_thread(book.keep, batch.tag, group)
            group = []
    if group:
        await asyncio.to_thread(book.keep, batch.tag, group)
    if strange and not (batch.proven or back.lines):
        raise _Stranger


def _unexecuted(batch: Batch) -> list[tuple[int, Result]]:
    """Of a batch that was not taken: lines that are not to blame, where others are named, or where all had to wait."""
    state = batch.state
    if state is None or state.phase is not Phase.FAILED:
        return []
    named = {fault.line - 1: fault for fault in state.faults if fault.line}
    if not named and not state.queue_full:
        return []
    results = []
    for number in range(batch.rows):
        line = custom_id(batch.tag, number)
        if (fault := named.get(number)) is not None:
            results.append((number, Result(line, 0, lost="failed", why=f"{fault.code}: {fault.message}")))
        else:
            results.append((number, Result(line, 0, lost="cancelled", why="its batch was not taken")))
    return results


def _why(state: BatchState) -> str:
    return "; ".join(f"{fault.code}: {fault.message}" for fault in state.faults[:3])
