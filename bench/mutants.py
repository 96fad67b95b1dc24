"""How many small changes of the code the nearest tests catch: `python bench/mutants.py` (`--sample 60 --seed 7`).

Each mutant is one change at one place of the rooms that a run's money and rows depend on, drawn at random by the seed.
The nearest tests are the files that import the changed module, and those of its room. They run in a fork of a process
that has loaded the libraries already, on a copy, so that subprocesses of the tests see the change too.

Weighed and not taken: mutmut (copies the tree, wraps every function, which changes generators and slots, and draws no
sample by a seed), cosmic-ray (a process for each mutant, whose start is longer than most of these tests), mutatest (is
not maintained). The operators are few, and Python's own `ast` knows where in the text each place begins and ends.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.mutant_places import Mutant, Places
from bench.mutant_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "src/cottonpalm"
GOALS: Final = {"rules": 90, "all": 85}


class Room(NamedTuple):
    """Where mutants are made, and the tests that hold for all of it, the quickest first."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS: Final = {
    "limiter rules": Room(("request/limiter/rules/*.py",), ("tests/request/test_turnstile.py",)),
    "money rules": Room(
        ("request/money/rules/*.py",),
        (
            "tests/request/test_money.py",
            "tests/request/test_tightening.py",
            "tests/request/test_true_cost.py",
        ),
    ),
    "stores rules": Room(
        ("stores/rules/*.py",), ("tests/contract/test_sqlite.py", "tests/request/test_shares_machine.py")
    ),
    "limiter": Room(
        ("request/limiter/*.py",), ("tests/request/test_turnstile.py", "tests/request/test_sharing.py")
    ),
    "money": Room(
        ("request/money/*.py", "request/reservation.py", "request/pricing.py"),
        ("tests/request/test_ledger.py", "tests/request/test_money.py", "tests/request/test_hours.py"),
    ),
    "transport": Room(
        ("request/transport/*.py", "request/attempts.py", "request/settlement.py", "request/tries.py"),
        ("tests/request/test_attempts.py", "tests/request/test_hook.py", "tests/request/test_streams.py"),
    ),
    "gates": Room(
        ("engine/gates/*.py",),
        ("tests/engine/test_cache.py", "tests/engine/test_disk_cache.py", "tests/engine/test_store_runs.py"),
    ),
    "stores": Room(
        ("stores/*.py", "stores/sql/*.py", "stores/sqlite/*.py", "stores/codec/*.py"),
        ("tests/contract/test_store.py", "tests/contract/test_sqlite.py", "tests/unit/test_codec.py"),
    ),
}


def places_of(room: str, path: Path) -> Iterator[Mutant]:
    """All mutants of one file, one operator at a time."""
    text = path.read_text(encoding="utf-8")
    data, seen = text.encode(), Places(text)
    seen.visit(ast.parse(text))
    for begin, end, after in seen.found:
        line, before = data.count(b"\n", 0, begin) + 1, data[begin:end].decode()
        yield Mutant(room, str(path.relative_to(HERE)), line, begin, end, before, after)


def drawn(rooms: list[str], sample: int, seed: int) -> list[Mutant]:
    """So many mutants, as many of each room as can be, in an order that any beginning of is a sample too."""
    by_room = {}
    for room in rooms:
        files = sorted({path for pattern in ROOMS[room].files for path in (HERE / PACKAGE).glob(pattern)})
        mutants = [mutant for path in files for mutant in places_of(room, path)]
        Random(f"{seed} {room}").shuffle(mutants)
        by_room[room] = mutants
    turns = max(map(len, by_room.values()), default=0)
    order = [mutants[turn] for turn in range(turns) for mutants in by_room.values() if turn < len(mutants)]
    return order[:sample]


# -- tests -------------------------------------------------------------------------------------------------------------


@cache
def imports_of(test: Path) -> frozenset[str]:
    """The modules of ours that a test file imports, helpers of the tests not followed."""
    names = set()
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(names)


def nearest(mutant: Mutant) -> list[str]:
    """The test files that import the module, smallest first, then those of its room."""
    module = mutant.file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    levels = ("unit", "request", "contract", *(("engine",) if mutant.room == "gates" else ()))
    files = [path for level in levels for path in (HERE / "tests" / level).glob("test_*.py")]
    direct = sorted(
        (path for path in files if module in imports_of(path)), key=lambda path: path.stat().st_size
    )
    named = [str(path.relative_to(HERE)) for path in direct]
    room = [name for name in ROOMS[mutant.room].tests if (HERE / name).exists() and name not in named]
    return named + room


# -- all of them -------------------------------------------------------------------------------------------------------


class Runs:
    """Mutants under test on several workers; what fails without a change is left out of the nearest tests."""

    def __init__(self, workers: list[Worker], until: float) -> None:
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            self._free.put(worker)
        self._until, self._sound = until, dict[str, bool]()

    def one(self, mutant: Mutant) -> bool | None:
        """Whether it is caught; None: there was no time left, or no sound test."""
        if time.perf_counter() > self._until:
            return None
        worker = self._free.get()
        try:
            tests = [test for test in nearest(mutant) if self._passes(worker, test)]
            if not tests:
                return None
            code, seconds = worker.run(tests, mutant)
        finally:
            self._free.put(worker)
        print(f"{'caught  ' if code else 'SURVIVED'} {_shown(mutant)}  ({seconds:.0f} s)", flush=True)
        return code != 0

    def _passes(self, worker: Worker, test: str) -> bool:
        if test not in self._sound:
            self._sound[test] = worker.run([test])[0] == 0
            if not self._sound[test]:
                print(f"left out: {test} fails without any change", flush=True)
        return self._sound[test]


def _shown(mutant: Mutant) -> str:
    before, after = (" ".join(text.split())[:60] for text in (mutant.before, mutant.after))
    return f"{mutant.file.removeprefix(PACKAGE + '/')}:{mutant.line}  {before}  ->  {after}"


def told(results: list[tuple[Mutant, bool]], places: int, seconds: float) -> bool:
    """Print the shares; whether they reach the goals."""
    made, caught = Counter(m.room for m, _ in results), Counter(m.room for m, ok in results if ok)
    print(f"\n{'room':<16}{'mutants':>8}{'caught':>8}{'share':>8}")
    for room in made:
        print(f"{room:<16}{made[room]:>8}{caught[room]:>8}{100 * caught[room] / made[room]:>7.0f}%")
    good = True
    for what, goal in GOALS.items():
        of = [room for room in made if what == "all" or room.endswith(what)]
        n, k = sum(made[room] for room in of), sum(caught[room] for room in of)
        good = good and (not n or 100 * k >= goal * n)
        share = f"{100 * k / n:.1f} %" if n else "-"
        print(f"{'all rooms' if what == 'all' else 'pure rules'}: {k} of {n} caught, {share} (goal {goal} %)")
    print(f"a sample of {len(results)} out of {places:,} places, in {seconds / 60:.0f} min")
    return good


def main() -> int:
    """Draw, try, tell."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--sample", type=int, default=160, help="mutants in all")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--rooms", default=",".join(ROOMS), help="comma between them")
    asked.add_argument("--jobs", type=int, default=2)
    asked.add_argument("--minutes", type=float, default=55, help="begin no further mutant after so long")
    asked.add_argument("--list", action="store_true", help="only say which would be made")
    options = asked.parse_args()
    rooms = options.rooms.split(",")
    mutants, places = drawn(rooms, options.sample, options.seed), len(drawn(rooms, 1 << 30, options.seed))
    if options.list:
        print("\n".join(f"{_shown(mutant)}  by {' '.join(nearest(mutant))}" for mutant in mutants))
        return 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workers = [Worker(Path(folder) / str(number)) for number in range(options.jobs)]
        try:
            runs = Runs(workers, began + 60 * options.minutes)
            with ThreadPoolExecutor(options.jobs) as pool:
                ended = list(zip(mutants, pool.map(runs.one, mutants), strict=True))
        finally:
            for worker in workers:
                worker.close()
    results = [(mutant, caught) for mutant, caught in ended if caught is not None]
    return 0 if told(results, places, time.perf_counter() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
