"""A process that may have few files open, as macOS begins with 256: each request in flight takes one, and rows do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.loopback import Loopback

resource = pytest.importorskip("resource")

ROWS, FILES = 400, 96
PROGRAM = """
import resource, sys
from collections import Counter
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from cottonpalm import BatchProcessor

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[3])))

def read(row):
    with open(sys.executable, "rb"):
        return row

model = ChatOpenAI(base_url=sys.argv[1], api_key="sk-x", model="gpt-4o-mini")
with BatchProcessor(RunnableLambda(read) | model).start([f"row {n}" for n in range(%d)]) as run:
    ended = Counter(outcome.status for outcome in run)
print(ended["ok"], bool(run.report.cost_usd))
"""


def ended(most: int) -> tuple[str, str, int]:
    """What the program said where it may have so many files at most, and how many requests were in flight."""
    with Loopback(latency=1.0) as server:
        words = [sys.executable, "-c", PROGRAM % ROWS, server.openai_url, str(FILES), str(most)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout.strip(), done.stderr, server.peak


def test_a_process_that_may_have_more_files_open_takes_as_many_as_its_requests_need() -> None:
    said, warned, peak = ended(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert (said, warned) == (f"{ROWS} True", "")
    assert peak > FILES


def test_a_process_that_may_have_no_more_leaves_half_of_its_files_to_its_rows_and_says_so() -> None:
    said, warned, peak = ended(FILES)
    assert said == f"{ROWS} True"
    assert "at most 48 requests go at once, where 500 may: `ulimit -n 1000`" in warned
    assert peak <= FILES / 2
