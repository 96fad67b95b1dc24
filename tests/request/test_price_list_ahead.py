"""The price list is loaded while the provider works at the first request, and only where it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import replies
from tests.support.loopback import ROOT, Loopback
from tests.support.transport import python_path

ASKS = """
import sys, threading, time
from langchain_openai import ChatOpenAI
from cottonpalm import BatchProcessor

url, prices = sys.argv[1], {"small": (1.0, 2.0)} if sys.argv[2] == "own" else None
model = ChatOpenAI(model="small", base_url=url, api_key="not-a-key", max_retries=0)
with BatchProcessor(model, prices=prices).start(["a row"]) as run:
    threading.Thread(target=lambda: [outcome.status for outcome in run]).start()
    sys.stdin.readline()
    ends_s = time.monotonic() + 20
    while prices is None and "genai_prices.data" not in sys.modules and time.monotonic() < ends_s:
        time.sleep(0.01)
    print("genai_prices.data" in sys.modules, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize(("prices", "loaded"), [("list", "True"), ("own", "False")])
def test_the_list_is_loaded_before_the_first_answer_where_it_will_be_asked(prices: str, loaded: str) -> None:
    with Loopback(script=lambda _: replies.held()) as server:
        asks = subprocess.Popen(
            [sys.executable, "-c", ASKS, server.openai_url, prices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": python_path(ROOT, f"{ROOT}/src"), "PATH": "/usr/bin:/bin"},
        )
        assert asks.stdin is not None
        assert asks.stdout is not None
        try:
            server.wait(in_flight=1)
            asks.stdin.write("\n")
            asks.stdin.flush()
            assert asks.stdout.readline().strip() == loaded
        finally:
            asks.kill()
            asks.wait()
            asks.stdin.close()
            asks.stdout.close()
