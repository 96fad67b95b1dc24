"""How often the range of `plan(rows, sample=50)` holds the real cost: `python bench/plan.py`.

40 runs of different data over loopback HTTP: answers with even, long-tailed and two-peaked lengths, prompts of all
lengths. The range promises 90 %, so 36 of 40 must hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.loopback import Loopback
from tests.support.replies import Reply, Request

from cottonpalm import BatchProcessor

SHAPES = {
    "even": lambda rng: rng.uniform(5, 60),
    "long tail": lambda rng: 15 * rng.lognormvariate(0, 1.0),
    "two kinds": lambda rng: 200 if rng.random() < 0.1 else 10,
    "with prompt": lambda rng: 2 + 40 * rng.random() ** 4,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=40)
    options.add_argument("--rows", type=int, default=250)
    given = options.parse_args()
    held = 0
    for number in range(given.runs):
        shape = list(SHAPES)[number % len(SHAPES)]
        low, high, real = one_run(shape, number, given.rows)
        held += low <= real <= high
        mark = "held" if low <= real <= high else "MISSED"
        print(f"{shape:12} ${low:.5f} to ${high:.5f}, was ${real:.5f}  {mark}", flush=True)
    print(f"held {held} of {given.runs}")
    sys.exit(held < 0.9 * given.runs)


def one_run(shape: str, seed: int, count: int) -> tuple[float, float, float]:
    """The range that was forecast from 50 rows, and what all rows did cost."""
    rng = Random(seed)
    lengths = [max(1, int(SHAPES[shape](rng))) for _ in range(count)]
    rows: list[Any] = [{"x": "word " * rng.randrange(1, 200) + str(n)} for n in range(count)]

    def answer(request: Request) -> Reply:
        return Reply(text=" ".join(["word"] * lengths[int(request.text.rpartition(" ")[2])]))

    with Loopback(script=answer) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x-0123456789", model="gpt-5-mini")
        chain = ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()
        plan = BatchProcessor(chain).plan(rows, sample=50)
        processor = BatchProcessor(chain)
        processor.batch(rows)
        assert plan.cost_usd is not None
        return plan.cost_usd.low, plan.cost_usd.high, processor.last_run.stats.cost_usd


if __name__ == "__main__":
    main()
