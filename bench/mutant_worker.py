"""A process that has the libraries loaded, and forks for each mutant of `bench/mutants.py`."""

from __future__ import annotations

import compileall
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.mutant_places import Mutant

HERE: Final = Path(__file__).resolve().parents[1]
SLOWER: Final = 3  # so many times what the tests took without a change they may take; else one of them hangs
HUNG: Final = -signal.SIGKILL
SEEING_S: Final = 240  # of one test file, while it is looked at; of its tests, those count that ended by then
SEEN: Final = "seen.jsonl"
BEGUN: Final = "begun.txt"  # the test that was begun last
LIBRARIES: Final = (
    "pytest",
    "hypothesis.stateful",
    "langchain_core.runnables",
    "langchain_core.output_parsers",
    "langchain_openai",
    "langchain_anthropic",
    "httpx2",
    "httpx",
    "aiohttp",
    "orjson",
    "sqlite3",
    "genai_prices",
)
WORDS: Final = (  # of pytest
    "-q",
    "-p",
    "no:langsmith_plugin",  # it loads all of langsmith, before each run
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


def work(copy: Path) -> None:
    """Read jobs from standard input, one JSON line each; write how each ended."""
    del sys.path[0]  # bench/, whose files are named like other modules
    sys.path[:0] = [str(copy / "src"), str(copy)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    os.chdir(copy)
    _load_libraries()
    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        code = _forked(copy, job)
        print(json.dumps({"code": code, "seconds": time.perf_counter() - began}), flush=True)


def _load_libraries() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert "cottonpalm" not in sys.modules


def _forked(copy: Path, job: dict[str, Any]) -> int:
    """The exit code of the tests: 0 for passed; of a signal, its number below zero."""
    target = copy / job["file"] if job["file"] else None
    kept = target.read_bytes() if target is not None else b""
    if target is not None:
        target.write_bytes(kept[: job["begin"]] + job["after"].encode() + kept[job["end"] :])
    try:
        if (child := os.fork()) == 0:
            _test(copy, job)
        return _waited(child, job["limit_s"])
    finally:
        if target is not None:
            target.write_bytes(kept)


def _test(copy: Path, job: dict[str, Any]) -> None:
    import pytest

    os.setsid()  # what the tests start ends with them
    if job["file"]:  # no bytecode of a mutant is kept, neither by this process nor by what its tests start
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    quiet = os.open(os.environ.get("MUTANTS_LOG", os.devnull), os.O_RDWR | os.O_APPEND | os.O_CREAT)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    code = 99
    try:
        sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, closefd=False) for fd, mode in enumerate("rww"))  # noqa: SIM115
        from bench.mutant_tests import LONGEST_S, LastBegun, Recorder

        if job["see"]:
            seeing = Recorder(copy / "src" / "cottonpalm", copy / SEEN)
            code = int(pytest.main([*WORDS, "--timeout", f"{LONGEST_S:g}", *job["tests"]], plugins=[seeing]))
        else:
            begun = LastBegun(copy / BEGUN)
            code = int(pytest.main(["-x", *WORDS, "--timeout", "60", *job["tests"]], plugins=[begun]))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _waited(child: int, limit_s: float) -> int:
    end, parent = time.perf_counter() + limit_s, os.getppid()
    while time.perf_counter() < end and os.getppid() == parent:  # else whoever asked is gone
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _end(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    _end(child)
    os.waitpid(child, 0)
    return HUNG


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class Worker:
    """One such process, on a copy of its own."""

    def __init__(self, folder: Path) -> None:
        copy = folder / "copy"
        for part in ("src", "tests", "bench"):  # whoever works on them meanwhile does not disturb
            shutil.copytree(HERE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "pyproject.toml", copy)
        compileall.compile_dir(copy / "src", quiet=2)
        words = [sys.executable, str(Path(__file__).resolve()), str(copy)]
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        self._process = Popen(
            words, stdin=PIPE, stdout=PIPE, text=True, env=environment, start_new_session=True
        )
        self._copy = copy

    def run(self, tests: list[str], mutant: Mutant, expected_s: float) -> tuple[bool, float]:
        """Whether one of these tests fails with this change and passes without it, and in how many seconds."""
        path, took = self._copy / mutant.file, 0.0
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        job = {"see": False, "limit_s": 30 + SLOWER * expected_s, **asdict(mutant)}
        while tests:
            code, seconds, last = self._ask({**job, "tests": tests})
            took += seconds
            if code == 0:
                break
            last = last or tests[0]
            if code == HUNG:  # or all of them were slow: the one that was running is tried by itself
                code, seconds, _ = self._ask({**job, "tests": [last]})
                took += seconds
            if code != 0:
                code, seconds, _ = self._ask({**job, "tests": [last], "file": ""})
                took += seconds
                if code == 0:
                    return True, took
                print(f"left out, it does not pass without a change: {last}", flush=True)
            tests = [test for test in tests if test != last]
        return False, took

    def see(self, test: str) -> dict[str, Any]:
        """What each test of this file enters, without any change."""
        seen = self._copy / SEEN
        seen.unlink(missing_ok=True)
        self._ask({"tests": [test], "see": True, "limit_s": SEEING_S, "file": ""})
        return dict(map(json.loads, seen.read_text().splitlines())) if seen.exists() else {}

    def _ask(self, job: dict[str, Any]) -> tuple[int, float, str]:
        """The exit code of pytest, how many seconds it took, and the test that was begun last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun = self._copy / BEGUN
        begun.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return told["code"], told["seconds"], begun.read_text() if begun.exists() else ""

    def close(self) -> None:
        """It ends when its input does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
