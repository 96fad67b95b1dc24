"""Every case of the fast transport by each way, heard and unheard, beside LangChain's own `ainvoke` by the SDK.

`python bench/equal.py` prints each difference, and at the end how many cases there were and how many differ.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.fast.cases import all_cases
from tests.fast.equal import WAYS, differences, see
from tests.fast.wires import Server


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="cases whose names hold this")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    counted = differ = calls = fast = 0
    elsewhere: list[str] = []
    with Server() as server:
        for case in all_cases():
            if given.only not in case.name:
                continue
            langchain = see(case, server, "stock", listening=True)
            for transport, listening in WAYS:
                seen = see(case, server, transport, listening=listening)
                counted, fast = counted + 1, fast + seen.fast
                calls += seen.fast + sum(seen.why.values())
                if found := differences(langchain, seen, listening=listening):
                    differ += 1
                    print(f"### {case.name}, {transport}{', heard' if listening else ''}\n{found}\n")
                if (seen.fast > 0) != (case.fast and transport == "fast"):
                    elsewhere.append(f"{case.name}: {dict(seen.why)}")
    print(f"{counted} cases, {differ} with a difference; {fast} of {calls} calls went by the fast transport")
    for one in elsewhere:
        print(f"not by the expected transport: {one}")
    if given.json:
        m.answer(cases=counted, differ=differ, fast=fast, calls=calls, elsewhere=elsewhere)
    sys.exit(bool(differ or elsewhere))


if __name__ == "__main__":
    main()
