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
SECTIONS: dict[str, tuple[str, str, str]] = {
    "speed": (
        "CPU per row",
        "bench/speed.py",
        """The same rows by `chain.abatch`; by a processor over the SDK (`stock`); over
[the fast transport](transport.md) (`fast`); with a store, a cache, a budget and limits that adapt (`all on`); and the
bare requests by aiohttp, without any chain. `heard` is the text chain with a callback handler. What binds in `fast`:
LangChain's own prompt, payload and result, then permits, money and counts of a request, then the socket.""",
    ),
    "equal": (
        "Equality with the SDKs",
        "bench/equal.py",
        "All cases of the contract by both transports, each with and without a listener.",
    ),
    "overhead": (
        "The engine alone",
        "bench/overhead.py",
        "One row through the engine over the chain's own `ainvoke`, nothing switched on.",
    ),
    "importing": ("Start", "bench/importing.py", "CPU of fresh processes."),
}
HEAD = """# Speed

Written by `python -m bench.report`: each section is what its command printed when it was last run. Read ratios of one
table, never times of two: the machine may be busy, slow or shared, and then all sides are.
"""


def section(name: str, printed: str, more: list[str]) -> str:
    """One section, of what its command printed."""
    title, script, about = SECTIONS[name]
    libraries = ", ".join(f"{one} {version(one)}" for one in ("langchain-core", "langchain-openai", "openai"))
    when = (
        f"{datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}, {platform.system()}; {libraries}."
    )
    typed = " ".join(["python", script, *more])
    return f"## {title}\n\n{about}\n\n`{typed}`, {when}\n\n```text\n{printed.strip()}\n```\n"


def measured(name: str, more: list[str]) -> str:
    """Run one command, and return what it prints."""
    script = SECTIONS[name][1]
    command = [sys.executable, str(ROOT / script), *more]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{script} printed nothing and ended with code {done.returncode}")
    return done.stdout


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=list(SECTIONS), action="append")
    options.add_argument("--printed", type=Path, help="what the only section's command has printed already")
    options.add_argument("arguments", nargs="*", help="for the command of a single section, after --")
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
