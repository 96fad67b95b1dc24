"""Measures what docs/speed.md shows and writes it there: `python -m bench.report`; `--only speed` for one section."""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "speed.md"
SECTIONS: dict[str, tuple[str, tuple[str, ...], str]] = {  # title, commands, what they show
    "speed": (
        "CPU per row",
        ("bench/speed.py",),
        """The same rows by `chain.abatch`; by a processor over the SDK (`stock`); over
[the fast transport](transport.md) (`fast`); with a store, a cache, a budget and limits that adapt (`all on`); and the
bare requests by aiohttp, without any chain. `dressed` is the text chain with an `assign`, a dict of steps and a
function of the user's round it, `heard` the text chain with a callback handler. What binds in `fast`:
LangChain's own prompt, payload and result, then permits, money and counts of a request, then the socket. In
`all on`, making, opening and closing the store are about 13 ms of CPU for each run, 22 µs for each of 600 rows; then
come rows that wait in line while the limits grow, the writing, and the leases of money. In runs of 2,000 rows, 256 in
flight, text took 0.07 of `chain.abatch`, structured 0.05, and all on 1.29 and 1.33 times as much as fast alone. Where
somebody listens, each row makes thousands of objects, and a fifth of its time went into the search for garbage among
them: during a run Python searches less often (`runtime/garbage.py`).""",
    ),
    "equal": (
        "Equality with the SDKs",
        ("bench/equal.py",),
        "All cases of the contract by both transports, each with and without a listener.",
    ),
    "overhead": (
        "Our own part",
        ("bench/overhead.py", "bench/durability.py", "bench/budget.py --cost", "bench/limiter.py"),
        """One row through the engine over the chain's own `ainvoke`, nothing switched on (less than nothing for
functions and prompts, which are called without LangChain's callbacks); what a store adds to it; what budget and cache
add; what a permit costs.""",
    ),
    "importing": (
        "Start",
        ("bench/importing.py",),
        "CPU of fresh processes; of a run, up to its first request.",
    ),
    "processes": (
        "More than one process",
        ("bench/scale.py cpu --executor processes", "bench/scale.py cpu --executor processes --chat"),
        """`--executor processes`: what a row takes of CPU in all processes together; first a chain that computes, then
one that asks a model over the fast transport. One process without workers is beside them.""",
    ),
    "rows": (
        "Many rows",
        ("bench/command.py",),
        """`run`, `status` and `export` of one table by the command line, with the store and with ids, by a chain that
answers at once: what is measured is ours. What grows with the rows is a few bytes for each id, by which a doubled one
is found.""",
    ),
}
HEAD = """# Speed

Written by `python -m bench.report`: each section is what its command printed when it was last run. Read ratios of one
table, never times of two: the machine may be busy, slow or shared, and then all sides are.
"""


def section(name: str, printed: str, more: list[str]) -> str:
    """One section, of what its commands printed."""
    title, commands, about = SECTIONS[name]
    libraries = ", ".join(f"{one} {version(one)}" for one in ("langchain-core", "langchain-openai", "openai"))
    now = datetime.now(UTC)
    when = f"{now.day} {now:%B %Y}, Python {platform.python_version()}, {platform.system()}; {libraries}."
    typed = "; ".join(f"`{' '.join(['python', command, *more])}`" for command in commands)
    return f"## {title}\n\n{about}\n\n{typed}, {when}\n\n```text\n{printed.strip()}\n```\n"


def measured(name: str, more: list[str]) -> str:
    """Run the commands of one section, and return what they print."""
    return "\n".join(_printed(command, more) for command in SECTIONS[name][1])


def _printed(command: str, more: list[str]) -> str:
    script, *options = command.split()
    words = [sys.executable, str(ROOT / script), *options, *more]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{command} printed nothing and ended with code {done.returncode}")
    return done.stdout.strip()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=list(SECTIONS), action="append")
    options.add_argument("--printed", type=Path, help="what the only section's commands have printed already")
    options.add_argument("arguments", nargs="*", help="for the commands of a single section, after --")
    given = options.parse_args()
    page = PAGE.read_text() if PAGE.exists() else HEAD
    kept = {part.splitlines()[0]: part for part in re.split(r"(?m)^## ", page)[1:]}
    made = [HEAD]
    for name, (title, _, _) in SECTIONS.items():
        if given.only is None or name in given.only:
            printed = given.printed.read_text() if given.printed else measured(name, given.arguments)
            made.append(section(name, printed, given.arguments))
        elif title in kept:
            made.append(f"## {kept[title].strip()}\n")
    PAGE.write_text("\n".join(made))
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
