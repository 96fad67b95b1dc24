"""Kills workers, the limits' actor, nodes and drivers of runs on Ray, at random: `python bench/scale_kills.py`.

Each kill is SIGKILL, while requests are in flight over HTTP; then the run goes on, or the same call is made again. The
budget is small, so that runs stop at it again and again, and is raised each time. Exit code 0 if no row was lost,
doubled or wrong, no row that was stored at a kill was asked again, no limit and no budget was passed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.scale import rest
from tests.scale.chains import asking, rows
from tests.support.loopback import ROOT, LoopbackProcess

from cottonpalm import BatchProcessor, Budget, RunStopped
from cottonpalm.stores import open_store
from cottonpalm.types import PICO

IN_FLIGHT: Final = 8
PRICES: Final = {
    "input_tokens": 150_000,
    "output_tokens": 600_000,
}  # pico-dollars, of the model that is asked
STEP: Final = 3 * 10**9  # pico-dollars by which the budget rises each time: some hundreds of answers
SPENT: Final = 4


def drive(url: str, store: str, address: str, count: int, budget: int) -> int:
    """The driver: what is done again after each death."""
    processor = BatchProcessor(
        asking(url),
        executor="ray",
        workers=2,
        ray_address=address,
        store=store,
        run="r",
        concurrency=IN_FLIGHT,
        budget=Budget(total=budget / PICO),
    )
    try:
        with processor.start(rows(count), skip_stored=True) as run:
            for _ in run:
                pass
    except RunStopped as stopped:
        if stopped.reason == "budget":
            return SPENT
        raise
    return 0


class Killing:
    """One job, and those who die in it."""

    def __init__(self, cluster: Any, server: LoopbackProcess, folder: str, count: int, rng: Random) -> None:
        self._cluster, self._server, self._count, self._rng = cluster, server, count, rng
        self._path, self._log = f"{folder}/s.db", Path(f"{folder}/driver.log")
        self.budget = STEP
        self.stops, self.killed, self.troubles = 0, Counter[str](), list[str]()
        self._stored: list[
            tuple[set[str], dict[str, int]]
        ] = []  # at each kill: the rows, how often each was asked
        self._driver: subprocess.Popen[bytes] | None = None
        self._second: Any = None

    def run(self, kills: int) -> None:
        """Kill so many, then let it finish."""
        while sum(self.killed.values()) < kills:
            at = self._done()
            if not self._until_more(at + self._rng.randrange(1, 20)):
                self.troubles.append(f"all rows were done after {sum(self.killed.values())} kills")
                break
            self._kill(self._rng.choice(["worker", "worker", "limits", "driver", "node"]))
        while self._ended() is None:
            rest(0.1)

    def _done(self) -> int:
        with suppress(Exception):  # not made yet
            store = open_store(self._path)
            try:
                return sum(info.ok for info in store.runs())
            finally:
                store.close()
        return 0

    def _ended(self) -> bool | None:
        """Whether it is over; a driver is begun if there is none, with more money if that was spent."""
        if self._driver is not None and (code := self._driver.poll()) is not None:
            self._driver = None
            if code == 0:
                return True
            if code == SPENT:
                self.stops += 1
                self._check_money()
                self.budget += STEP
            else:
                self.troubles.append(f"a driver ended with {code}: {self._log.read_text()[-2000:]}")
        if self._driver is None:
            import ray

            words = [self._server.openai_url, self._path, ray.get_runtime_context().gcs_address]
            words += [str(self._count), str(self.budget)]
            with self._log.open("wb") as log:
                self._driver = subprocess.Popen(
                    [sys.executable, __file__, "--drive", *words], cwd=ROOT, stdout=log, stderr=log
                )
        return None

    def _until_more(self, done: int) -> bool:
        while True:
            if self._ended():
                return False
            if self._done() >= done:
                return True
            rest(0.05)

    def _kill(self, who: str) -> None:
        assert self._driver is not None
        if who == "driver":
            self._driver.kill()
            self._driver.wait()
            self._driver = None
        elif who == "node" and self._second is None:
            self._second = self._node()
            return
        elif who == "node":
            self._new_node()
        elif (pid := self._pid_of("WorkerActor" if who == "worker" else "LimitsActor")) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            return
        self.killed[who] += 1
        self._note()
        print(f"{sum(self.killed.values()):3} {who:8} {self._done():5} rows done", flush=True)

    def _node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=80 * 1024 * 1024)

    def _new_node(self) -> None:
        """Kill the raylet of the second node, with all that runs there, and begin another one."""
        [raylet] = self._second.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._node()

    def _pid_of(self, kind: str) -> int | None:
        from ray._private.state import actors

        alive = [
            found["Pid"]
            for found in actors().values()
            if kind in str(found.get("ActorClassName", found.get("Name", ""))) and found["State"] == "ALIVE"
        ]
        return self._rng.choice(alive) if alive else None

    def _note(self) -> None:
        """What is stored now must not be asked again."""
        store = open_store(self._path)
        try:
            found = store.look("r")
            slots = [] if found is None else [slot.slot for slot in found.scan(-1, 10**6) if slot.status == 1]
        finally:
            store.close()
        texts, counts = {f"row {slot}" for slot in slots}, self._server.stats(log=False).counts
        self._stored.append((texts, {text: counts[text] for text in texts}))

    def _charged(self) -> int:
        served = self._server.stats(log=False)
        return sum(
            (served.billed[name] + served.billed_unseen[name]) * price for name, price in PRICES.items()
        )

    def _check_money(self) -> None:
        if (charged := self._charged()) > self.budget:
            self.troubles.append(f"overspent: {charged} of {self.budget}")

    def end(self) -> None:
        """End the driver that is still there, if this was interrupted."""
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()

    def check(self) -> None:
        """Whether all is as it was promised."""
        self._check_money()
        served = self._server.stats(log=False)
        if served.peak > IN_FLIGHT:
            self.troubles.append(f"{served.peak} of {IN_FLIGHT} were in flight")
        repaid = sum(
            served.counts[text] != was for texts, counts in self._stored for text, was in counts.items()
        )
        if repaid:
            self.troubles.append(f"{repaid} stored rows were asked again")
        store = open_store(self._path)
        run = store.open_run("r", None)
        [info] = store.runs()
        spent, charged = run.spent(), self._charged()
        found = run.read(range(self._count))
        wrong = [
            slot
            for slot in range(self._count)
            if f'"answer to: row {slot}"'.encode() not in found.get(slot, b"")
        ]
        run.close()
        store.close()
        if (info.ok, info.failed, wrong) != (self._count, 0, []):
            self.troubles.append(f"{info.ok} ok, {info.failed} failed, {len(wrong)} lost or wrong")
        if not spent.reported <= charged <= spent.reported + spent.uncertain:
            self.troubles.append(f"charged {charged}, reported {spent.reported}, uncertain {spent.uncertain}")
        again = sum(served.counts.values()) - len(served.counts)
        print(
            f"kills: {dict(self.killed)}; {self._count} rows, {again} more requests than rows, {repaid} of stored rows"
        )
        print(f"most in flight {served.peak} of {IN_FLIGHT}; {self.stops} stops at the budget")
        sums = (spent.reported, charged, spent.uncertain)
        print(
            "reported {:.6f}, charged {:.6f}, uncertain {:.6f} dollars".format(
                *(pico / PICO for pico in sums)
            )
        )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--rows", type=int, default=1500)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.drive:
        url, store, address, count, budget = given.drive
        return drive(url, store, address, int(count), int(budget))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    from ray.cluster_utils import Cluster

    seed = given.seed if given.seed is not None else Random().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    head = {"num_cpus": 2, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}
    with tempfile.TemporaryDirectory() as folder, LoopbackProcess(latency=0.15, latency_sigma=0.5) as server:
        cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)
        try:
            killing = Killing(cluster, server, folder, given.rows, Random(seed))
            killing.run(given.kills)
            killing.check()
        finally:
            killing.end()
            import ray

            ray.shutdown()
            cluster.shutdown()
    for trouble in killing.troubles:
        print(f"NOT AS PROMISED: {trouble}")
    return int(bool(killing.troubles))


if __name__ == "__main__":
    sys.exit(main())
