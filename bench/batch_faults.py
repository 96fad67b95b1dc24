"""How often rows are lost, doubled or paid twice in the batch lane, over random faults and kill -9.

python -m bench.batch_faults [RUNS] [ROWS] [FIRST SEED]: a program for each life of a run, killed at random moments;
the loopback provider expires, refuses, shuffles, loses and hides. Runs with OpenAI's, Anthropic's and
Gemini's Batch API in turn.
Prints a line for each run, and at the end how many were right; the exit code is 1 where one was not.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.batchlane import trouble
from tests.support.batch_provider import BatchProvider

PROVIDERS = ("openai", "anthropic", "gemini")


def main() -> int:
    runs, rows, first = (int(given) for given in (*sys.argv[1:], *("20", "20", "100")[len(sys.argv) - 1 :]))
    kills = failed = batches = lost = 0
    wrong: list[int] = []
    for seed in range(first, first + runs):
        began, provider = time.monotonic(), PROVIDERS[seed % len(PROVIDERS)]
        try:
            with BatchProvider() as server, tempfile.TemporaryDirectory() as folder:
                found = trouble.until_answered(server, Path(folder), seed, rows, provider)
                lost += trouble.check(server, found, rows, Path(folder), provider)
        except Exception:
            traceback.print_exc()
            wrong.append(seed)
            print(f"run {seed}, {provider}: WRONG", flush=True)
            continue
        kills, batches = kills + found.kills, batches + len(server.jobs)
        failed += sum(answer.startswith("failed:") for answer in found.answers)
        took = time.monotonic() - began
        print(f"run {seed}, {provider}: {rows} rows, {found.kills} kills, {took:.1f} s", flush=True)
    print(f"{runs} runs, {batches} batches, {kills} kills; {failed} rows failed as the provider said")
    print(f"{lost} live answers were on their way when their program was killed, and were asked again")
    print("0 lost, 0 doubled, 0 paid twice, 0 orphans" if not wrong else f"wrong: {wrong}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
