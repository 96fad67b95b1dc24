"""While runs are under way, Python looks for garbage less often; before, after and besides it is as the user has it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.runtime import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = (700, 10, 10)


@contextmanager
def thresholds(*wanted: int) -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*wanted)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def seen_in_a_run() -> set[tuple[int, ...]]:
    seen = set()
    BatchProcessor(RunnableLambda(lambda _: seen.add(gc.get_threshold()))).batch(list(range(3)))
    return seen


@pytest.mark.parametrize(
    ("users", "during"),
    [(FEW, (garbage.MANY, 10, 10)), ((50_000, 5, 5), (50_000, 5, 5)), ((0, 10, 10), (0, 10, 10))],
    ids=["as Python begins", "more seldom already", "never"],
)
def test_a_run_looks_less_often_and_leaves_all_as_it_was(
    users: tuple[int, ...], during: tuple[int, ...]
) -> None:
    with thresholds(*users):
        assert seen_in_a_run() == {during}
        assert gc.get_threshold() == users


def test_a_single_call_changes_nothing() -> None:
    with thresholds(*FEW):
        assert BatchProcessor(RunnableLambda(lambda _: gc.get_threshold())).invoke(1) == FEW


def test_it_is_as_before_when_the_last_of_several_is_over() -> None:
    with thresholds(*FEW):
        first, second = garbage.seldom(), garbage.seldom()
        with first:
            second.__enter__()
        assert gc.get_threshold()[0] == garbage.MANY
        second.__exit__(None, None, None)
        assert gc.get_threshold() == FEW


def test_what_is_said_meanwhile_stays() -> None:
    with thresholds(*FEW):
        with garbage.seldom():
            gc.set_threshold(2_000, 20, 20)
        assert gc.get_threshold() == (2_000, 20, 20)
        with garbage.seldom():
            assert gc.get_threshold()[0] == garbage.MANY


def test_a_run_that_fails_leaves_all_as_it_was() -> None:
    def fails(_: int) -> int:
        raise ValueError("no")

    with thresholds(*FEW):
        with pytest.raises(ValueError, match="no"):
            BatchProcessor(RunnableLambda(fails)).batch([1, 2])
        assert gc.get_threshold() == FEW


FORKS = """
import gc, os
from cottonpalm.runtime import garbage

gc.set_threshold(700, 10, 10)
with garbage.seldom():
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        print(gc.get_threshold(), flush=True)
        with garbage.seldom():
            print(gc.get_threshold(), flush=True)
print(gc.get_threshold(), flush=True)
"""


def test_a_child_forked_during_a_run_begins_as_before_that_run() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=20, check=True
    )
    many, few = str((garbage.MANY, 10, 10)), str(FEW)
    assert ended.stdout.splitlines() == [few, many, few, few]


def test_a_run_that_the_collector_ends_while_another_begins_holds_nobody_up() -> None:
    def collected(
        phase: str, _: dict[str, int]
    ) -> None:  # as a finalizer, called wherever the collector runs
        if phase == "start":
            with garbage.seldom():
                pass

    def begins_and_ends() -> None:
        for _ in range(3):
            with garbage.seldom():
                pass

    with thresholds(1, 10, 10):
        gc.callbacks.append(collected)
        runs = threading.Thread(target=begins_and_ends, daemon=True)
        try:
            runs.start()
            runs.join(20)
        finally:
            gc.callbacks.remove(collected)
        assert not runs.is_alive()
        assert gc.get_threshold() == (1, 10, 10)
