"""LangChain's own tests of Runnables, with their calls going through a `BatchProcessor`.

    python bench/langchain_suite.py [--methods batch,abatch,...] [--sdist FILE]

Fetches the source distribution of the installed langchain-core and what its tests need into a temporary folder, runs
the tests twice, bare and through processors, and prints the counts and every test that passes bare and fails here.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

NEEDED = (
    "syrupy",
    "pytest-mock",
    "pytest-asyncio",
    "pytest-socket",
    "freezegun",
    "blockbuster",
    "forbiddenfruit",
    "python-dateutil",
    "six",
)
MANY = ("batch", "abatch", "batch_as_completed", "abatch_as_completed")
SINGLE = ("invoke", "ainvoke", "stream", "astream")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def fetch(folder: Path, sdist: Path | None) -> Path:
    """The unpacked source distribution."""
    if sdist is None:
        wanted = f"langchain-core=={version('langchain-core')}"
        pip(
            "download", wanted, "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder)
        )
        [sdist] = folder.glob("langchain_core-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = (path for path in folder.glob("langchain_core-*") if path.is_dir())
    return unpacked


def run(tests: Path, tools: Path, methods: str) -> tuple[str, dict[str, str]]:
    """The last line of pytest, and each test's outcome."""
    where = os.pathsep.join(map(str, (Path(__file__).parent, tools)))
    done = subprocess.run(  # noqa: PLW1510 - tests that fail are what we look for
        [sys.executable, "-m", "pytest", "tests/unit_tests/runnables", "-p", "langchain_plugin", "-p", "no:xdist",
         "-p", "no:cacheprovider", "-q", "-rA", "--tb=line", "-W", "ignore", "--asyncio-mode=auto"],
        cwd=tests, env=os.environ | {"PYTHONPATH": where, "THROUGH": methods}, capture_output=True, text=True,
    )  # fmt: skip
    outcomes = dict(
        reversed(pair) for pair in re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    )
    if not outcomes:
        raise SystemExit(done.stdout[-3_000:] + done.stderr[-3_000:])
    return done.stdout.strip().splitlines()[-1], outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--methods", default=",".join((*MANY, *SINGLE)), help="the methods that go through processors"
    )
    parser.add_argument("--sdist", type=Path, help="a source distribution that is there already")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests, tools = fetch(folder, asked.sdist), folder / "tools"
        pip("install", "--target", str(tools), "--no-deps", *NEEDED)
        bare_line, bare = run(tests, tools, "")
        line, ours = run(tests, tools, asked.methods)
    print(f"bare: {bare_line}\nthrough processors ({asked.methods}): {line}")
    worse = [test for test, outcome in bare.items() if outcome == "PASSED" and ours.get(test) != "PASSED"]
    print(f"{len(worse)} pass bare and not here:", *worse, sep="\n  ")


if __name__ == "__main__":
    main()
