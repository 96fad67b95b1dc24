"""Techniques drawn at random and used together: `python bench/combined.py FIRST LAST`; see tests/engine/combined.py.

Each case runs some rows over HTTP with faults, is left and taken up again, and is checked row by row and to the cent.
It prints what failed, with the techniques that were on, and how many held.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.by_seed import all_hold, seeds
from tests.engine.combined import check, drawn

if __name__ == "__main__":
    sys.exit(not all_hold(seeds(__doc__), drawn, check))
