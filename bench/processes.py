"""Two processes on one store and one account: do they keep a limit together, and use it? `python bench/processes.py`.

The server rejects what is above the limit, or counts what comes in a minute. "reach" is what it answered, over what the
limit allows, while both run; "back" the seconds from the kill of one until the other has its share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.engine.portions import Processes
from tests.support import replies
from tests.support.loopback import Loopback

from cottonpalm import clock

if TYPE_CHECKING:
    from tests.support.replies import Reply, Request

LATENCY_S = 1.0


class Kept(NamedTuple):
    """What the server saw."""

    reach: float
    rejected: float
    parts: str
    back_s: float | None


class Watched:
    """A provider with a number in flight that it rejects above; counts what each process got."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.good: list[tuple[float, str]] = []
        self.rejected: list[float] = []
        self.peak = 0
        self._answers: list[float] = []

    def __call__(self, request: Request) -> Reply | None:
        now = clock.now()
        if request.in_flight > self.limit:
            self.rejected.append(now)
            return replies.too_many().after(0.0)
        self.good.append((now, request.text.split()[0]))
        return None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--limit", type=int, default=30, help="requests in flight that the provider takes")
    options.add_argument("--minutes", type=int, default=2, help="of the case with a ceiling; 0 leaves it out")
    given = options.parse_args()
    print(f"{'':34} {'reach':>7} {'rejected':>9} {'parts':>12} {'back after':>11}")
    show("a number of one's own", in_flight(given.limit, given.seconds, str(given.limit)))
    show("learnt, one process alone", in_flight(given.limit, given.seconds, "auto", alone=True))
    show("learnt", in_flight(given.limit, given.seconds, "auto"))
    if given.minutes:
        show("a ceiling per minute", per_minute(600, given.minutes))


def show(name: str, kept: Kept) -> None:
    back = "" if kept.back_s is None else f"{kept.back_s:.1f} s"
    print(f"{name:34} {kept.reach:7.1%} {kept.rejected:9.2%} {kept.parts:>12} {back:>11}", flush=True)


def in_flight(limit: int, seconds: float, concurrency: str, *, alone: bool = False) -> Kept:
    provider = Watched(limit)
    with (
        tempfile.TemporaryDirectory() as folder,
        Processes() as processes,
        Loopback(provider, latency=LATENCY_S) as server,
    ):
        names = "a" if alone else "ab"
        started = [
            processes.start(f"{folder}/s.db", server.openai_url, name, 10**7, concurrency) for name in names
        ]
        until(lambda: {name for _, name in provider.good[-4 * limit :]} == set(names))
        rest(10)  # they find the limit, and their parts of it
        begun, rejected = clock.now(), len(provider.rejected)
        rest(seconds)
        over = clock.now()
        good = [name for at, name in provider.good if begun <= at < over]
        processes.kill(started[0])
        back_s = None if alone else full_again(server, limit)
    allowed = limit * (over - begun) / LATENCY_S
    parts = f"{good.count('a') / len(good):.0%} {good.count('b') / len(good):.0%}"
    return Kept(len(good) / allowed, (len(provider.rejected) - rejected) / len(good), parts, back_s)


def full_again(server: Loopback, limit: int) -> float:
    """Seconds until the other one has all of it in flight, or all but a twentieth."""
    begun = clock.now()
    rest(0.05)
    until(lambda: server.in_flight >= 0.95 * limit)
    return clock.now() - begun


def per_minute(most: int, minutes: int) -> Kept:
    with (
        tempfile.TemporaryDirectory() as folder,
        Processes() as processes,
        Loopback(latency=LATENCY_S) as server,
    ):
        for name in "ab":
            processes.start(f"{folder}/s.db", server.openai_url, name, 10**7, "auto", most)
        server.wait(requests=1, timeout_s=100)
        rest(60 * (minutes + 1) + 2)
        times = [arrival.at_s for arrival in server.arrivals]
        names = [arrival.text[0] for arrival in server.arrivals]
    over = sum(later - earlier < 59.9 for earlier, later in zip(times, times[most:], strict=False))
    sent = sum(at - times[0] < 60 * (minutes + 1) for at in times)
    parts = f"{names.count('a') / len(names):.0%} {names.count('b') / len(names):.0%}"
    return Kept(sent / (most * (minutes + 1)), over / len(times), parts, None)


def rest(seconds: float) -> None:
    threading.Event().wait(seconds)


def until(holds: object, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.02)):
        if holds():  # type: ignore[operator]
            return
        rest(0.02)
    raise SystemExit("it did not come about")


if __name__ == "__main__":
    main()
