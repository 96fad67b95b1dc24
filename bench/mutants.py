"""How many small changes of the code the nearest tests catch: `python bench/mutants.py` (`--sample 60 --seed 7`).

Each mutant is one change at one place of the rooms that a run's money and rows depend on, drawn at random by the seed.
All tests of the lower levels run once without a change, and are seen to enter which functions: a mutant is tried by
those that enter its function, the quickest first, in a fork of a process that has loaded the libraries already, on a
copy, so that subprocesses of the tests see the change too. A test that fails counts if it then passes without the
change: luck and a busy machine catch nothing. What was seen is kept for the next time (`--seen`).

Weighed and not taken: mutmut (copies the tree, wraps every function, which changes generators and slots, and draws no
sample by a seed), cosmic-ray (a process for each mutant, whose start is longer than most of these tests), mutatest (is
not maintained). The operators are few, and Python's own `ast` knows where in the text each place begins and ends.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from random import Random
from time import perf_counter as now
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import mutant_tests as nearest
from bench.mutant_places import Mutant, Places
from bench.mutant_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "src/cottonpalm"
SEEN: Final = HERE / "build" / "mutants-seen.json"
LOOKING: Final = 0.5  # the share of the time that may go into seeing which test enters what
GOALS: Final = {"rules": 90, "all": 85}


ROOMS: Final = {
    "limiter rules": ("request/limiter/rules/*.py",),
    "money rules": ("request/money/rules/*.py",),
    "stores rules": ("stores/rules/*.py",),
    "limiter": ("request/limiter/*.py",),
    "money": ("request/money/*.py", "request/attempt/reservation.py", "request/pricing.py"),
    "transport": (
        "request/transport/*.py",
        "request/attempt/attempts.py",
        "request/attempt/settlement.py",
        "request/attempt/tries.py",
    ),
    "gates": ("engine/gates/*.py",),
    "stores": ("stores/*.py", "stores/sql/*.py", "stores/sqlite/*.py", "stores/codec/*.py"),
}
LEVELS: Final = (  # where the nearest tests are
    "unit",
    "request",
    "contract",
    "promptcache",
    "batchlane",
    "engine",
)


def places_of(room: str, path: Path) -> Iterator[Mutant]:
    """All mutants of one file, one operator at a time."""
    text = path.read_text(encoding="utf-8")
    data, seen = text.encode(), Places(text)
    seen.visit(ast.parse(text))
    for function, begin, end, after in seen.found:
        line, before = data.count(b"\n", 0, begin) + 1, data[begin:end].decode()
        yield Mutant(room, str(path.relative_to(HERE)), function, line, begin, end, before, after)


def drawn(rooms: list[str], sample: int, seed: int) -> list[Mutant]:
    """So many mutants, as many of each room as can be, in an order that any beginning of is a sample too."""
    by_room = {}
    for room in rooms:
        files = sorted({path for pattern in ROOMS[room] for path in (HERE / PACKAGE).glob(pattern)})
        mutants = [mutant for path in files for mutant in places_of(room, path)]
        Random(f"{seed} {room}").shuffle(mutants)
        by_room[room] = mutants
    turns = max(map(len, by_room.values()), default=0)
    order = [mutants[turn] for turn in range(turns) for mutants in by_room.values() if turn < len(mutants)]
    return order[:sample]


# -- all of them -------------------------------------------------------------------------------------------------------


class Runs:
    """Tests and mutants on several workers."""

    def __init__(self, workers: list[Worker], kept: nearest.Kept) -> None:
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            self._free.put(worker)
        self._pool = ThreadPoolExecutor(len(workers))
        self._kept = kept
        self._tests: list[nearest.Test] = []

    def look(self, levels: list[str], until: float) -> int:
        """Run the tests once without a change, and see what each enters; how many. Files after `until` are left out."""
        files = [path for level in levels for path in sorted((HERE / "tests" / level).glob("test_*.py"))]
        names = [str(path.relative_to(HERE)) for path in files]
        for seen in self._pool.map(lambda name: self._look(name, until), names):
            self._tests += nearest.tests_in(seen)
        return len(self._tests)

    def _look(self, file: str, until: float) -> dict[str, Any]:
        if (kept := self._kept.get(file)) is not None:
            return kept
        if now() > until:
            print(f"left out, there was no time to look at it: {file}", flush=True)
            return {}
        with self._worker() as worker:
            seen = worker.see(file)
        if failed := [node for node, test in seen.items() if not (test["passed"] or test["skipped"])]:
            print(f"left out, it does not pass without a change: {' '.join(failed[:3])}", flush=True)
        self._kept.put(file, seen)
        return seen

    def all(self, mutants: list[Mutant], until: float) -> list[tuple[Mutant, bool]]:
        """Each mutant and whether it is caught; those for which there was no time are left out."""
        caught = self._pool.map(lambda mutant: self._one(mutant) if now() < until else None, mutants)
        return [(mutant, how) for mutant, how in zip(mutants, caught, strict=True) if how is not None]

    def _one(self, mutant: Mutant) -> bool:
        caught, took, portions = False, 0.0, nearest.of(mutant, self._tests)
        with self._worker() as worker:
            for portion in portions:
                caught, seconds = worker.run(
                    [test.node for test in portion], mutant, sum(t.seconds for t in portion)
                )
                took += seconds
                if caught:
                    break
        how = "caught  " if caught else "SURVIVED" if portions else "UNTESTED"
        print(f"{how} {_shown(mutant)}  ({took:.0f} s)", flush=True)
        return caught

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """No further mutant is begun."""
        self._pool.shutdown(cancel_futures=True)


def _shown(mutant: Mutant) -> str:
    before, after = (" ".join(text.split())[:60] for text in (mutant.before, mutant.after))
    where = f"{mutant.file.removeprefix(PACKAGE + '/')}:{mutant.line} {mutant.function}"
    return f"{where}  {before}  ->  {after}"


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
    asked.add_argument("--without", default="", help="rooms to leave out, comma between them")
    asked.add_argument("--levels", default=",".join(LEVELS), help="folders of tests, comma between them")
    asked.add_argument("--jobs", type=int, default=2)
    asked.add_argument("--minutes", type=float, default=45, help="begin no further mutant after so long")
    asked.add_argument(
        "--seen", type=Path, default=SEEN, help="keeps which test enters what, for the next time"
    )
    asked.add_argument("--list", action="store_true", help="only say which would be made")
    options = asked.parse_args()
    rooms = [room for room in options.rooms.split(",") if room not in options.without.split(",")]
    mutants, places = drawn(rooms, options.sample, options.seed), len(drawn(rooms, 1 << 30, options.seed))
    if options.list:
        print("\n".join(map(_shown, mutants)))
        return 0
    began = now()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workers = [Worker(Path(folder) / str(number)) for number in range(options.jobs)]
        runs = Runs(workers, nearest.Kept(options.seen))
        try:
            tests = runs.look(options.levels.split(","), began + 60 * options.minutes * LOOKING)
            print(f"{tests:,} tests seen, in {(now() - began) / 60:.0f} min", flush=True)
            results = runs.all(mutants, began + 60 * options.minutes)
        finally:
            runs.close()
            for worker in workers:
                worker.close()
    return 0 if told(results, places, now() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
