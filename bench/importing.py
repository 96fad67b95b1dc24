"""CPU of importing cottonpalm and of `cottonpalm --help`, beside LangChain: `python bench/importing.py`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
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


def cpu_ms(arguments: list[str]) -> float:
    """CPU of one process. The first of its kind writes the bytecode, whatever this shell says of that."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= COMPLETING if arguments[-1] == "cottonpalm.cli.app" else {}
    before = m.children_cpu_s()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=environment)
    return (m.children_cpu_s() - before) * 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    given = options.parse_args()
    m.headline(
        "CPU of a fresh process, ms, over a Python that imports nothing",
        "import cottonpalm next to nothing; the rest near langchain_core's own runnables",
    )
    taken: dict[str, list[float]] = {name: [] for name in STARTS}
    for turn in range(given.repeats + 1):
        for name in m.rotated(list(STARTS), turn):
            took = cpu_ms(STARTS[name])
            if turn:
                taken[name].append(took)
    bare = taken.pop("python, nothing imported")
    theirs = taken["from langchain_core.runnables import Runnable"]
    lines = [[name, m.over(one, bare), m.times(one, theirs)] for name, one in taken.items()]
    m.table([f"(bare Python: {median(bare):.0f} ms)", "ms more", "x langchain's runnables"], lines)


if __name__ == "__main__":
    main()
