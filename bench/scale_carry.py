"""What the parts of a large cluster carry, as CPU time a piece: `python bench/scale_carry.py`.

`limits`: one renewal of a worker's shares of one model (in flight, a ceiling, what is learnt) among so many holders, in
the actor of a Ray cluster and in Postgres. A renewal is one transaction, and all of one limit come one after the other:
so what client and carrier take together is the least time between two. `store`: a row of 500 bytes, in groups of 256.
`driver`: a row that is handed to two worker processes and comes back, with what the driver does for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
from bench.scale import cluster, postgres
from langchain_core.runnables import RunnableLambda
from tests.contract.rows import row, write

from cottonpalm import BatchProcessor
from cottonpalm.request.limiter.limiter import Limiter
from cottonpalm.request.limiter.portions import Leased
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores import database_of, open_store
from cottonpalm.stores.rules.division import TTL_S, Row
from cottonpalm.stores.sql import share_rows
from cottonpalm.stores.sql.database import Turnwise, in_transaction
from cottonpalm.stores.sql.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = ("in flight", "requests", "learnt in flight")


def limits(name: str, database: Any, cpu_s: Callable[[], float], holders: int) -> None:
    """Renew the shares of one member among so many."""
    shares = Shares(database)
    member = Leased(
        Limiter("host/model#a", Concurrency(50, 1, 50), [("requests", 10_000.0)]), b"whose", 5_000, [1]
    )
    shares.join(member)
    key = share_rows.key_of(b"whose", shares._secret)

    def others() -> list[Any]:
        now = database.now(shares._db)
        for unit in UNITS:
            found = [
                Row(f"holder {n}".encode(), 1.0, 1.0, 5.0, 0.0, True, now + TTL_S) for n in range(holders - 1)
            ]
            share_rows.put(shares._db, key, unit, found, now)
        return []

    taken: list[tuple[float, float, float]] = []
    while len(taken) < 20:
        in_transaction(database, shares._db, others, Turnwise.SHARES)
        until = time.monotonic() + TTL_S / 2  # then the others expire
        while time.monotonic() < until and len(taken) < 20:
            before, theirs, begun = time.process_time(), cpu_s(), time.monotonic()
            for _ in range(5):
                shares.renew()
            spent = time.process_time() - before, cpu_s() - theirs, time.monotonic() - begun
            taken.append((spent[0] / 5, spent[1] / 5, spent[2] / 5))
    shares.leave(member)
    shares.close()
    client, carrier, wall = (sorted(column)[len(taken) // 2] * 1e3 for column in zip(*taken, strict=True))
    print(
        f"limits  {name:9} {holders:5} holders: {client:6.2f} ms of the worker, {carrier:6.2f} ms of the carrier"
        f" a renewal; at most {1e3 / (client + carrier):5.0f}/s (it took {wall:.1f} ms here)",
        flush=True,
    )


def cpu_of(pids: Callable[[], list[int]]) -> Callable[[], float]:
    def spent() -> float:
        total = 0.0
        for pid in pids():
            try:
                total += sum(psutil.Process(pid).cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return total

    return spent


def served_by(url: str) -> Callable[[], list[int]]:
    """The processes of the server at this address."""
    import psycopg

    with psycopg.connect(url) as db:
        [(backend,)] = db.execute("SELECT pg_backend_pid()").fetchall()
        parent = psutil.Process(backend).parent()
    assert parent is not None
    return lambda: [parent.pid, *(child.pid for child in parent.children())]


def stored(name: str, url: str, cpu_s: Callable[[], float]) -> None:
    """Write rows in groups, as a run does."""
    store = open_store(url)
    run = store.open_run("carry", None)
    body = b'{"o":"' + b"x" * 500 + b'"}'
    before, theirs = time.process_time(), cpu_s()
    groups = 80
    for group in range(groups):
        write(run, [row(group * 256 + n, record=body) for n in range(256)])
    client, carrier = time.process_time() - before, cpu_s() - theirs
    run.close()
    store.close()
    rows = groups * 256
    both = (client + carrier) / rows
    print(
        f"store   {name:9} {client / rows * 1e6:6.1f} us of the driver, {carrier / rows * 1e6:6.1f} us of the server"
        f" a row; at most {1 / both:,.0f} rows/s on one core",
        flush=True,
    )


async def _same(number: int) -> int:
    return number


def driver(name: str, rows: int, **kept: Any) -> None:
    """Hand out rows that cost nothing."""
    processor = BatchProcessor(
        RunnableLambda(lambda number: number, _same), executor="processes", workers=2, **kept
    )
    with processor.start(range(rows)) as run:
        taking = iter(run)
        for _ in range(rows // 10):
            next(taking)
        before = time.process_time()
        count = sum(1 for _ in taking)
        spent = time.process_time() - before
    print(
        f"driver  {name:9} {spent / count * 1e6:6.1f} us a row; at most {count / spent:,.0f} rows/s on one core",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--holders", type=int, nargs="*", default=[8, 64, 512])
    options.add_argument("--rows", type=int, default=50_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver("no store", given.rows)
        driver("SQLite", given.rows, store=f"{folder}/d.db", run="r")
        stored("SQLite", f"{folder}/s.db", lambda: 0.0)
    with postgres() as url:
        cpu_s = cpu_of(served_by(url))
        driver("Postgres", given.rows, store=url, run="r")
        stored("Postgres", url, cpu_s)
        for holders in given.holders:
            limits("Postgres", database_of(url), cpu_s, holders)
    with cluster(1):
        import ray

        from cottonpalm.engine.executors.workers.ray.limits import ActorDatabase, limits_actor

        pid = ray.get(limits_actor().pid.remote())
        for holders in given.holders:
            limits("actor", ActorDatabase(), cpu_of(lambda: [pid]), holders)


if __name__ == "__main__":
    main()
