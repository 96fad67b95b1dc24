"""Six jobs of a first hour beside other tools: `python -m bench.rivals_first_hour [TOOL ...]`.

Each tool is installed by itself (`llm`, sqlite-utils with openai, async-batch-llm, LangChain for `chain.batch`, and a
wheel of this tree), and does what `rivals_first_hour_jobs.py` types for it, in a new folder, against a provider on the
loopback that answers within 20 ms. Printed, as the table of `docs/coming-from-others.md`: the characters typed,
the seconds until the command ends (of two runs the smaller), the requests that were paid, whether what the job wants is
there, and the last that was said. A program starts
anew for each job, so its imports are in the seconds. Needs uv (on PATH, or named by UV).
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
from typing import Final, NamedTuple

from bench.first_hour import _wheel
from bench.rivals_first_hour_jobs import APP, JOBS, STEP, Job
from tests.support.loopback import LoopbackProcess

PACKAGES: Final = {
    "cottonpalm": ["{wheel}[openai]", "pandas"],
    "llm": ["llm", "pandas"],
    "sqlite-utils": ["sqlite-utils", "openai", "pandas"],
    "async-batch-llm": ["async-batch-llm", "openai", "pandas"],
    "chain.batch": ["langchain-openai", "pandas"],
}
DEAD: Final = "http://127.0.0.1:9/v1"
LONGEST_S: Final = 90.0
SHOWN: Final = 110
NOTHING: Final = "(nothing)"


class Did(NamedTuple):
    """How a tool did a job. `missing`: what the job wants and is not there."""

    keys: int
    seconds: float
    requests: int
    missing: list[str]
    said: str


def main() -> None:
    options = argparse.ArgumentParser("rivals_first_hour")
    options.add_argument("tool", nargs="*", choices=[*PACKAGES, []])
    options.add_argument("--job", type=int, action="append", help="1 to 6; all of them otherwise")
    asked = options.parse_args()
    tools = asked.tool or list(PACKAGES)
    jobs = [job for number, job in enumerate(JOBS, 1) if asked.job is None or number in asked.job]
    with tempfile.TemporaryDirectory() as scratch, LoopbackProcess(latency=0.02) as server:
        wheel = _wheel(Path(scratch))
        places = {tool: _environment(Path(scratch) / tool, tool, wheel) for tool in tools}
        print(
            "| job | tool | keys | seconds | requests | done | what it said last |\n|---|---|--:|--:|--:|---|---|"
        )
        for job in jobs:
            for tool in tools:
                runs = [
                    _do(job, tool, places[tool], Path(tempfile.mkdtemp(dir=scratch)), server) for _ in "12"
                ]
                did = max(runs, key=lambda run: (len(run.missing), -run.seconds))
                done = "yes" if not did.missing else f"no: {did.missing[0]}"
                said = f"`{did.said}`".replace("|", "\\|") if did.said else NOTHING
                print(
                    f"| {job.name} | {tool} | {did.keys} | {did.seconds:.1f} | {did.requests} | {done} | {said} |",
                    flush=True,
                )


def _environment(folder: Path, tool: str, wheel: Path) -> Path:
    uv = os.environ.get("UV") or shutil.which("uv") or sys.exit("uv is not on PATH; UV=… names it")
    what = [package.format(wheel=wheel) for package in PACKAGES[tool]]
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", *what], check=True)
    return folder


def _do(job: Job, tool: str, place: Path, folder: Path, server: LoopbackProcess) -> Did:
    typed = job.typed[tool]
    program = typed.startswith("#!python\n")
    if program:
        (folder / "job.py").write_text(typed.removeprefix("#!python\n"))
    (folder / "app.py").write_text(APP if tool in ("cottonpalm", "chain.batch") else STEP)
    rows = ["id,text", "1,works well", "2,broke", "3,fine"]
    _write(folder, rows, job)
    env = {
        "PATH": f"{place / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "80", "LANG": "C.UTF-8",
        "OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": DEAD if job.dead else server.openai_url, "PYTHONPATH": str(folder),
    }  # fmt: skip
    command = "python job.py" if program else typed
    if job.edited:
        _run(command, folder, env)
        rows[2] = "2,broke down"
        _write(folder, rows, job)
    before, began = server.stats().requests, time.perf_counter()
    said = _run(command, folder, env)
    seconds, requests = time.perf_counter() - began, server.stats().requests - before
    out = folder / "out.csv"
    found = said + (out.read_text() if out.exists() else "")
    missing = [repr(part) for part in job.wanted if part not in found]
    if job.free and requests:
        missing.insert(0, "rows were asked")
    keys = len(typed.removeprefix("#!python\n")) + len("python job.py") * program
    return Did(keys, seconds, requests, missing, _last(said))


def _write(folder: Path, rows: list[str], job: Job) -> None:
    (folder / "reviews.csv").write_text("\n".join(rows).replace(",", job.separator) + "\n")


def _run(command: str, folder: Path, env: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        return f"{text}\n(nothing more after {LONGEST_S:.0f} s)"
    return done.stdout


def _last(said: str) -> str:
    """The last line that says something; of a summary, the line that says what failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith("failed ")]
    last = (failed or lines or [""])[-1]
    return last if len(last) <= SHOWN else f"{last[:SHOWN]}…"


if __name__ == "__main__":
    main()
