"""Which tests enter which function, and which of them try a mutant of `bench/mutants.py`."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import threading
import time
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FrameType

    from bench.mutant_places import Mutant

HERE: Final = Path(__file__).resolve().parents[1]
QUICK_S: Final = 8.0  # the first tests of a mutant: most are caught by these
ALL_S: Final = 80.0  # so long may the tests of one mutant take, by what they took without it
LONGEST_S: Final = (
    40.0  # of one test, while it is looked at: state machines are slow where the machine is busy
)
SOON_S: Final = (
    20.0  # ...and of one that is used: a third of what it may take with a change, so that slow is not caught
)
NARROW: Final = 8  # modules: tests that enter about as few are ranked by their time
MOST: Final = 250  # tests of one mutant: collecting them takes time, too


# -- looking: in the process that runs the tests -----------------------------------------------------------------------


class Recorder:
    """A plugin of pytest that notes the functions of the package that each test enters, and how long it takes."""

    def __init__(self, package: Path, out: Path) -> None:
        self._package, self._out = str(package) + "/", out
        self._known: dict[CodeType, str | None] = {}
        self._entered: set[str] = set()
        self._tests: dict[str, dict[str, Any]] = {}
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, _event: str, _arg: object) -> None:
        """The call of a function; its lines are not traced."""
        code = frame.f_code
        try:
            name = self._known[code]
        except KeyError:
            path = code.co_filename
            inside = path.startswith(self._package)
            name = f"{path[len(self._package) :]}:{code.co_qualname}" if inside else None
            self._known[code] = name
        if name is not None:
            self._entered.add(name)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._entered = set()
        self._tests[nodeid] = {"passed": False, "skipped": False, "began": time.perf_counter()}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.skipped:
            self._tests[report.nodeid]["skipped"] = True
        elif report.when == "call":
            self._tests[report.nodeid]["passed"] = report.passed
        elif report.failed:
            self._tests[report.nodeid]["passed"] = False

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        test = self._tests.pop(nodeid)
        test["seconds"] = time.perf_counter() - test.pop("began")
        test["entered"] = sorted(self._entered)
        with self._out.open("a") as out:
            out.write(json.dumps([nodeid, test]) + "\n")


class LastBegun:
    """A plugin of pytest that keeps in a file which test was begun last: with `-x`, the one that failed or hangs."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._out.write_text(nodeid)


# -- choosing ----------------------------------------------------------------------------------------------------------


class Test(NamedTuple):
    """One test: how long it took, and which functions it entered (`request/attempt/tries.py:Tries.next`)."""

    node: str
    seconds: float
    entered: frozenset[str]

    @property
    def file(self) -> str:
        """The file it stands in."""
        return self.node.partition("::")[0]

    @property
    def breadth(self) -> int:
        """In how many modules it enters a function: who enters few looks at these."""
        return len({name.partition(":")[0] for name in self.entered})


def tests_in(seen: dict[str, dict[str, Any]]) -> Iterator[Test]:
    """The tests of one file that pass without a change, and soon."""
    for node, test in seen.items():
        if test["passed"] and test["seconds"] < SOON_S:
            yield Test(node, test["seconds"], frozenset(test["entered"]))


def of(mutant: Mutant, tests: Iterable[Test]) -> list[list[Test]]:
    """The nearest tests: those that enter the changed function; first the quick ones, then the rest.

    What runs as a module is imported (a constant, a default) is everyone's who enters the module at all. Tests of the
    files that import the module themselves come first, then those that enter few others, and of many cases of one test
    function the first.
    """
    inside = mutant.file.removeprefix("src/cottonpalm/") + ":"
    entering = [test for test in tests if inside + mutant.function in test.entered]
    if not entering:
        entering = [test for test in tests if any(name.startswith(inside) for name in test.entered)]
    return list(_portions(_ranked(entering, mutant.file)))


def _ranked(tests: list[Test], file: str) -> list[Test]:
    module = file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    cases: dict[str, int] = defaultdict(int)
    ranks = []
    for test in sorted(tests, key=lambda test: test.seconds):
        function = test.node.partition("[")[0]
        afar = module not in imports_of(HERE / test.file)
        ranks.append((afar, cases[function] // 3, test.breadth // NARROW, test.seconds, test))
        cases[function] += 1
    return [test for *_, test in sorted(ranks)]


def _portions(tests: list[Test]) -> Iterator[list[Test]]:
    """A quick one and the rest, within what a mutant may take; a first test always."""
    portion, spent, quick = list[Test](), 0.0, True
    for test in tests[:MOST]:
        if portion and quick and spent + test.seconds > QUICK_S:
            yield portion
            portion, quick = [], False
        if spent + test.seconds <= ALL_S:
            portion.append(test)
            spent += test.seconds
    if portion:
        yield portion


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


# -- keeping -----------------------------------------------------------------------------------------------------------


class Kept:
    """What was seen of each test file, in a file for the next time, as long as the tests have not changed."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def get(self, file: str) -> dict[str, Any] | None:
        """What was seen of this file as it is now."""
        kept = self._seen.get(file)
        return kept["tests"] if kept is not None and kept["of"] == _digest(file) else None

    def put(self, file: str, tests: dict[str, Any]) -> None:
        """Keep it."""
        with self._lock:
            self._seen[file] = {"of": _digest(file), "tests": tests}
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(self._seen))


def _digest(file: str) -> str:
    return hashlib.sha256((HERE / file).read_bytes()).hexdigest()
