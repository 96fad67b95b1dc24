"""kill -9 and resume: the ceiling holds over all lives of a run, and what was charged lies within what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.request.money.spending import Spending
from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.engine.spends import spend
from tests.support import replies
from tests.support.loopback import ROOT, Loopback
from tests.support.programs import Program

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.protocols import Spent

DOLLARS = 0.04
ROWS = 2_000  # more than the money is for
KILLS = 2
IN_FLIGHT = 16
BOUND = 500 * 10**6  # of one request, about


def charged(server: Loopback) -> int:
    """All that the server made its clients pay, whether or not somebody was left to read the answer."""
    bills = (server.billed, server.billed_unseen)
    return sum(bill.input_tokens * 10**6 + bill.output_tokens * 2 * 10**6 for bill in bills)


def accounted(path: Path) -> Spent:
    """What the store says of the run, as its next life takes it."""
    store = open_store(path)
    run = store.open_run("spends", None)
    try:
        return Spending(run).earlier
    finally:
        run.close()
        store.close()


def killed_once(path: Path, server: Loopback, more: int) -> None:
    """A life that is killed after so many more requests."""
    command = ["tests.engine.spends", path, server.openai_url, DOLLARS, ROWS]
    process = Program(command, cwd=ROOT)
    try:
        server.wait(requests=server.requests + more, timeout_s=100)
    finally:
        process.kill()
        process.wait(30)


def test_killed_again_and_again_a_run_never_passes_its_budget_and_accounts_for_all_of_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    faults = replies.faulty(1, [(0.1, replies.fails(500)), (0.03, replies.resets())])
    with Loopback(script=faults, latency=replies.lognormal(0.02, 0.5, 1)) as server:
        before = 0
        for kill in range(KILLS):
            killed_once(path, server, 25 + 10 * kill)
            earlier, real = accounted(path), charged(server)
            assert earlier.reported <= real <= earlier.reported + earlier.uncertain
            assert earlier.uncertain - before <= 3 * IN_FLIGHT * BOUND, "little more than was in flight"
            before = earlier.uncertain
        spend(str(path), server.openai_url, DOLLARS, ROWS)
        last, real = accounted(path), charged(server)
        assert last.reported <= real <= last.reported + last.uncertain
        assert last.reported + last.uncertain <= round(DOLLARS * PICO)
        assert last.leased == last.reported + last.uncertain, "a life that ended well leaves nothing open"
        asked = server.requests
        spend(str(path), server.openai_url, DOLLARS, ROWS)
        assert server.requests == asked, "the money of this run is spent"
