"""The first hour of a new user, typed: `python -m bench.first_hour [--with pip|uv] [--point N ...]`.

A wheel is built of this tree and put into new environments by pip and by uv, with an empty home: one with the package
alone, one with the extras that a point needs. Then the commands of `STORIES` are typed on 80 columns, against a
provider on the loopback. What was typed and what was seen is printed; each step says what has to be seen, and what
never again may be. Ends with 1 if anything was otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.first_hour_stories import NEVER, STORIES, Step, Story
from tests.support.loopback import LoopbackProcess

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "openai,excel,parquet"
BESIDE = [
    "pandas",
    "polars",
    "datasets",
    "nbconvert",
    "ipykernel",
    "langchain",
]  # what users of the points have already


class Made(NamedTuple):
    """An environment with the wheel: its folder, and what made it, in seconds."""

    folder: Path
    by: str
    seconds: float


def main() -> int:
    options = argparse.ArgumentParser("first_hour")
    options.add_argument("--with", dest="by", choices=["pip", "uv"], action="append")
    options.add_argument("--point", type=int, action="append")
    asked = options.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch, LoopbackProcess(latency=0.02) as server:
        wheel = _wheel(Path(scratch))
        for by in asked.by or ["pip", "uv"]:
            for name in ("bare", "full"):
                stories = [story for story in STORIES if story.bare == (name == "bare")]
                stories = [story for story in stories if asked.point is None or story.point in asked.point]
                if stories:
                    made = _environment(Path(scratch), by, name, wheel)
                    print(f"# by {by}, {name}: installed in {made.seconds:.0f} s\n")
                    wrong += sum(_story(each, made.folder, Path(scratch), server) for each in stories)
    print(f"{wrong} steps were otherwise" if wrong else "all as it should be")
    return int(wrong > 0)


def _wheel(scratch: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next(scratch.glob("*.whl"))


def _environment(scratch: Path, by: str, name: str, wheel: Path) -> Made:
    folder, began = scratch / f"{by}-{name}", time.perf_counter()
    what = (
        [str(wheel)]
        if name == "bare"
        else [f"{wheel}[{EXTRAS}]", str(ROOT / "examples" / "plugins"), *BESIDE]
    )
    if by == "uv":
        uv = os.environ.get("UV") or shutil.which("uv") or sys.exit("uv is not on PATH; UV=… names it")
        subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", *what], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [folder / "bin/pip", "install", "-q", "--disable-pip-version-check", *what], check=True
        )
    return Made(folder, by, time.perf_counter() - began)


def _story(story: Story, environment: Path, scratch: Path, server: LoopbackProcess) -> int:
    print(f"## {story.point}. {story.title}\n")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "home").mkdir()
    env = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "COLUMNS": "80",
        "LANG": "C.UTF-8",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": server.openai_url,
        "SERVER": server.url,
    }
    return sum(not _step(step, folder, env) for step in story.steps)


def _step(step: Step, folder: Path, env: dict[str, str]) -> bool:
    done = subprocess.run(
        ["bash", "-c", step.typed], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    faults = [f"it does not say {part!r}" for part in step.says if " ".join(part.split()) not in said]
    faults += [f"it says {part!r}" for part in (*NEVER, *step.never) if part in done.stdout]
    faults += [f"exit code {done.returncode}, not {step.code}"] if done.returncode != step.code else []
    print("```console")
    print(
        "\n".join(
            f"$ {line}" if not n else f"  {line}" for n, line in enumerate(step.typed.strip().splitlines())
        )
    )
    print(done.stdout.rstrip())
    print("```\n")
    for fault in faults:
        print(f"**NOT AS IT SHOULD BE: {fault}**\n")
    sys.stdout.flush()
    return not faults


if __name__ == "__main__":
    sys.exit(main())
