"""CPU of importing cottonpalm and of `cottonpalm --help`, beside LangChain: `python bench/importing.py`."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

STARTS = {
    "python, nothing imported": ["-c", "pass"],
    "import cottonpalm": ["-c", "import cottonpalm"],
    "from cottonpalm import BatchProcessor": ["-c", "from cottonpalm import BatchProcessor"],
    "cottonpalm --help": ["-m", "cottonpalm.cli.app", "--help"],
    "completion of a word": ["-m", "cottonpalm.cli.app"],
    "import langchain_core": ["-c", "import langchain_core"],
    "from langchain_core.runnables import Runnable": ["-c", "from langchain_core.runnables import Runnable"],
    "from langchain_openai import ChatOpenAI": ["-c", "from langchain_openai import ChatOpenAI"],
}

COMPLETING = {
    "_COTTONPALM_COMPLETE": "complete_bash",
    "COMP_WORDS": "cottonpalm run --bud",
    "COMP_CWORD": "2",
}


def ordinary() -> dict[str, str]:
    """This environment, but that bytecode is written and found again, as it is for users."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_ms(arguments: list[str]) -> float:
    """CPU of one process."""
    environment = ordinary() | (COMPLETING if arguments[-1] == "cottonpalm.cli.app" else {})
    before = m.children_cpu_s()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=environment)
    return (m.children_cpu_s() - before) * 1e3


def first_request_ms() -> float:
    """CPU that a run has used when its first request arrives, by the system's own table (Linux)."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        (Path(name) / "in.jsonl").write_text(
            "".join(f'{{"text": "row {number}"}}\n' for number in range(100))
        )
        where = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        words = [
            "run",
            "in.jsonl",
            "-o",
            "out.jsonl",
            "-m",
            "openai:gpt-4o-mini",
            "-p",
            "Positive? {text}",
            "-q",
        ]
        with subprocess.Popen(
            [sys.executable, "-m", "cottonpalm.cli.app", *words, "--base-url", where],
            cwd=name,
            env={**ordinary(), "OPENAI_API_KEY": "not-a-key"},
        ) as running:
            wire, _ = server.accept()
            wire.recv(1)
            used = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            wire.close()
            running.kill()
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK") * 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    given = options.parse_args()
    m.headline(
        "CPU of a fresh process, ms, over a Python that imports nothing",
        "--help, completion <= 150; BatchProcessor <= 1.1 x runnables; first request <= 1.15 x ChatOpenAI",
    )
    taken: dict[str, list[float]] = {name: [] for name in STARTS}
    first: list[float] = []
    for turn in range(given.repeats + 1):
        for name in m.rotated(list(STARTS), turn):
            took = cpu_ms(STARTS[name])
            if turn:
                taken[name].append(took)
        if turn and sys.platform == "linux":
            first.append(first_request_ms())
    bare = taken.pop("python, nothing imported")
    theirs = taken["from langchain_core.runnables import Runnable"]
    if first:
        ratio = m.times(first, taken["from langchain_openai import ChatOpenAI"])
        print(f"  a run's first request: {median(first):.0f} ms, {ratio:.2f} x importing ChatOpenAI")
    lines = [[name, m.over(one, bare), m.times(one, theirs)] for name, one in taken.items()]
    m.table([f"(bare Python: {median(bare):.0f} ms)", "ms more", "x langchain's runnables"], lines)


if __name__ == "__main__":
    main()
