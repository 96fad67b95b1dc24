"""A run against a deadline without any waiting: the policy's own decisions, in a world with a clock of its own.

Time goes in steps. Batches come on evenly, each with its own turnaround; a cancel takes its time, and what was done by
then is kept. The live lane does so many rows a second, as soon as it has any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from cottonpalm.engine.executors.batch import deadline as rules

Policy: TypeAlias = Literal["ours", "all at once", "alongside", "live"]


_LIVE = rules.Live(2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What nobody knows beforehand, but for what is kept in reserve.

    Args:
        rows: of one request each.
        deadline_s: from the start.
        live: the true pace of the live lane; the policy believes `believed`, until it has measured it.
        median_s: of the turnarounds, which are log-normal with `sigma`; inf: no batch ever comes back.
        cancel_s: how long cancels take: up to so long.
        reserve_s: how long the policy thinks that a cancel may take.
        hangs: this share of cancels does not end at all.
        past: turnarounds of earlier batches.
        loses: a cancelled batch gives nothing back.
    """

    rows: int = 10_000
    deadline_s: float = 3 * 3600.0
    live: rules.Live = _LIVE
    believed: rules.Live | None = None
    median_s: float = 5400.0
    sigma: float = 0.6
    cancel_s: float = 600.0
    reserve_s: float = 600.0
    hangs: float = 0.0
    past: tuple[rules.Past, ...] = ()
    loses: bool = False
    seed: int = 0


@dataclass(slots=True, eq=False)
class Chunk:
    rows: int
    sent_s: float
    takes_s: float
    cancel_takes_s: float
    cancelled_s: float | None = None
    over: bool = False
    given_up: bool = False

    def done(self, now: float) -> int:
        until = now if self.cancelled_s is None else min(now, self.cancelled_s)
        return int(self.rows * min(1.0, (until - self.sent_s) / self.takes_s))

    def ends(self, now: float) -> bool:
        ends_s = self.sent_s + self.takes_s
        if now >= ends_s and (self.cancelled_s is None or self.cancelled_s >= ends_s):
            return True
        return self.cancelled_s is not None and now >= self.cancelled_s + self.cancel_takes_s


@dataclass(slots=True)
class Came:
    """How it ended: rows by lane, rows paid twice, when all were done, and what could have come back in time."""

    batch: int = 0
    live: int = 0
    twice: int = 0
    at_s: float = 0.0
    could: int = (
        0  # rows whose batch would have come back before the last moment at which it had to be pulled back
    )
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def price(self) -> float:
        """Over the price of all rows live."""
        return (0.5 * (self.batch + self.twice) + self.live) / (self.batch + self.live)


def run(world: World, policy: Policy = "ours") -> Came:  # noqa: C901 - a world in one piece
    rng, came = Random(world.seed), Came()
    live, believed = world.live, world.believed or world.live
    looks_s = (
        rules.TAIL * live.row_s + world.reserve_s
    ) / 4  # as fine as what is in reserve; a run looks every 5 s
    step_s = max(1.0, min(world.deadline_s / 2000, looks_s))
    todo, queue, done, now = world.rows, 0.0, 0.0, 0.0  # not sent yet; waiting for live; done live
    sends = policy != "live" and (
        policy != "ours"
        or rules.worth_a_batch(
            world.deadline_s, world.rows, believed, world.reserve_s, world.past, loses=world.loses
        )
    )
    if not sends:
        queue, todo = float(todo), 0
    made = 0
    while todo:
        size = min(todo, rules.rows_in_a_batch(believed, world.reserve_s, made))
        made, todo = made + 1, todo - size
        takes_s = world.median_s * rng.lognormvariate(0.0, world.sigma)
        cancel_s = float("inf") if rng.random() < world.hangs else rng.uniform(0.0, world.cancel_s)
        came.chunks.append(Chunk(size, now, takes_s, cancel_s))
    came.could = _could(world, came.chunks)
    if policy == "alongside":
        return _alongside(world, came, step_s)
    began_s: float | None = None
    pace = rules.LivePace()
    while came.batch + int(done + 1e-6) < world.rows:
        now += step_s
        for chunk in came.chunks:
            if not chunk.over and chunk.ends(now):
                chunk.over = True
                kept = 0 if world.loses and chunk.cancelled_s is not None else chunk.done(now)
                if chunk.given_up:
                    came.twice += chunk.done(now)
                    continue
                came.batch += kept
                came.twice += chunk.done(now) - kept
                queue += chunk.rows - kept
        did = min(queue, live.rows_per_s * step_s)
        queue, done = queue - did, done + did
        began_s = now if began_s is None and did else began_s
        for _ in range(min(int(did), 50)):
            pace.done(now, live.row_s)
        if not queue:
            pace.starved()
        believed = live if began_s is not None and now - began_s > 60 + live.row_s else believed
        out = [chunk for chunk in came.chunks if not chunk.over and not chunk.given_up]
        sent = [
            rules.Sent(
                str(number),
                chunk.rows,
                max(1, chunk.rows - chunk.done(now)),
                None if chunk.cancelled_s is None else now - chunk.cancelled_s,
            )
            for number, chunk in enumerate(out)
        ]
        left_s = world.deadline_s - now
        for tag in _pulled(policy, left_s, queue, sent, believed, world.reserve_s):
            out[int(tag)].cancelled_s = now
        for tag in (
            rules.to_give_up(left_s, int(queue), sent, believed, world.reserve_s) if policy == "ours" else ()
        ):
            chunk = out[int(tag)]
            chunk.given_up = True
            queue += chunk.rows
        if now > 20 * world.deadline_s:
            break
    came.live, came.at_s = world.rows - came.batch, now
    came.twice += sum(chunk.done(now) for chunk in came.chunks if chunk.given_up and not chunk.over)
    return came


def _pulled(
    policy: Policy, left_s: float, queue: float, sent: list[rules.Sent], live: rules.Live, cancel_s: float
) -> list[str]:
    if policy == "ours":
        return rules.to_cancel(left_s, int(queue), sent, live, cancel_s)
    rows = int(queue) + sum(one.left for one in sent)
    tight = left_s <= rules.reserve_s(rows, live, cancel_s)
    return [one.tag for one in sent if one.cancelling_s is None] if tight else []


def _could(world: World, chunks: list[Chunk]) -> int:
    """Rows of batches that end before the moment at which the last batch has to be pulled back."""
    latest_s = world.deadline_s - rules.reserve_s(1, world.live, world.reserve_s)
    return sum(chunk.rows for chunk in chunks if chunk.takes_s <= latest_s)


def _alongside(world: World, came: Came, step_s: float) -> Came:
    """All rows in batches, and at once the live lane does those of the last ones, whether they come back or not."""
    now, done_live = 0.0, dict.fromkeys(map(id, came.chunks), 0.0)
    while any(not chunk.over and done_live[id(chunk)] < chunk.rows for chunk in came.chunks):
        now += step_s
        budget = world.live.rows_per_s * step_s
        for chunk in reversed(came.chunks):
            if not chunk.over and chunk.ends(now):
                chunk.over = True
                came.batch += int(chunk.rows - done_live[id(chunk)])
                came.twice += int(done_live[id(chunk)])
            if not chunk.over:
                take = min(budget, chunk.rows - done_live[id(chunk)])
                done_live[id(chunk)] += take
                budget -= take
    came.twice += sum(chunk.done(now) for chunk in came.chunks if not chunk.over)
    came.live, came.at_s = world.rows - came.batch, now
    return came
