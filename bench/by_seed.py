"""Runs cases that are drawn at random, seed by seed; says what failed, with what was on, and how many held."""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def seeds(what: str | None) -> range:
    """The seeds that the command names."""
    options = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    asked = options.parse_args()
    return range(asked.first, asked.last + 1)


def all_hold(asked: range, drawn: Callable[[int], Any], check: Callable[[Any, Path], object]) -> bool:
    """Check the case of each seed, in a folder of its own."""
    cpu_s, held = time.process_time(), 0
    for seed in asked:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(drawn(seed), Path(folder))
                held += 1
            except Exception:
                print(f"{drawn(seed)}\n{traceback.format_exc(limit=-4)}", flush=True)
    print(f"{held} of {len(asked)} cases held, {time.process_time() - cpu_s:.0f} s of CPU")
    return held == len(asked)
