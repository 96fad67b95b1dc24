"""A child that is forked while runs of its parent begin, or are under way, works as any other process.

So pools of `multiprocessing` and workers of task queues are made beside a run of another thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]

PRELUDE = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")  # Python's own word on a fork beside threads

from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor, Budget

def in_a_child(work):
    child = os.fork()
    if not child:
        signal.alarm(15)  # ends one that waits for a thread of its parent
        for _ in range(9):  # else a new thread may get the number of one that holds a lock in the parent, and pass
            threading.Thread(target=signal.pause, daemon=True).start()
        print(work(), flush=True)
        os._exit(0)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

def a_run():
    return BatchProcessor(RunnableLambda(lambda row: row + 1), store="memory:", run="mine").batch([1])
"""


def said(program: str) -> list[str]:
    """What a program prints."""
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_a_child_forked_while_a_run_describes_its_chain_describes_its_own() -> None:
    """The text of a function is read: for the description of the chain, and as no other is read beside it."""
    assert said("""
        import inspect
        getsource, begun, go_on = inspect.getsource, threading.Event(), threading.Event()

        def slow(code):
            begun.set()
            go_on.wait()
            return getsource(code)

        inspect.getsource = slow
        parent = threading.Thread(target=lambda: print(a_run()))
        parent.start()
        begun.wait()
        inspect.getsource = getsource
        in_a_child(a_run)
        go_on.set()
        parent.join()
    """) == ["[2]", "ended with 0", "[2]"]


def test_requests_of_a_forked_child_are_not_those_of_its_parents_run() -> None:
    assert said("""
        import httpx2
        from langchain_openai import ChatOpenAI
        from cottonpalm.testing import FlakyTransport

        client = httpx2.Client(transport=FlakyTransport())
        model = ChatOpenAI(model="gpt-4o-mini", max_tokens=9, api_key="sk-none", http_client=client)
        begun, go_on = threading.Event(), threading.Event()

        def asks(row):
            begun.set()
            go_on.wait()
            return model.invoke(row).text

        def asked_by_a_thread():
            told = []
            thread = threading.Thread(target=lambda: told.append(model.invoke("mine").text))
            thread.start()
            thread.join()
            return told

        processor = BatchProcessor(RunnableLambda(asks), budget=Budget(total=1e-9))
        parent = threading.Thread(target=processor.batch, args=(["a row"],), kwargs={"return_exceptions": True})
        parent.start()
        begun.wait()
        in_a_child(asked_by_a_thread)
        go_on.set()
        parent.join()
    """) == ["['answer to: mine']", "ended with 0"]
