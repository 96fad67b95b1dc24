"""The sync bridge works wherever synchronous code may call it from."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cottonpalm.runtime.bridge import BridgeCall, bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.core
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def _thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def _wait_for_name() -> str:
    return bridge().wait(_thread_name())


# -- where it is called from ------------------------------------------------------------------------


def test_it_works_in_a_plain_thread_of_a_program() -> None:
    assert _wait_for_name() == "cottonpalm-loop-0"


def test_it_works_inside_a_running_loop() -> None:
    async def main() -> str:
        return _wait_for_name()

    assert asyncio.run(main()) == "cottonpalm-loop-0"


def test_it_works_in_three_threads_at_once_on_one_loop() -> None:
    meeting: list[str] = []
    everybody_came = asyncio.Event()

    async def meet(name: str) -> list[str]:
        meeting.append(name)
        if len(meeting) == 3:
            everybody_came.set()
        await everybody_came.wait()
        return meeting

    with ThreadPoolExecutor(3) as pool:
        met = list(pool.map(lambda name: bridge().wait(meet(name)), "abc"))
    assert [sorted(names) for names in met] == [["a", "b", "c"]] * 3


def test_an_async_step_that_blocks_our_loop_waits_on_the_next_one() -> None:
    async def blocking_step() -> tuple[str, str]:
        return await _thread_name(), _wait_for_name()

    assert bridge().wait(blocking_step()) == ("cottonpalm-loop-0", "cottonpalm-loop-1")


def test_the_thread_of_our_loop_is_known_without_any_context() -> None:
    async def main() -> str:
        loop, found = asyncio.get_running_loop(), asyncio.Event()
        names: list[str] = []
        loop.call_soon(lambda: (names.append(_wait_for_name()), found.set()), context=contextvars.Context())
        await found.wait()
        return names[0]

    assert bridge().wait(main()) == "cottonpalm-loop-1"


def test_it_nests_three_deep_through_loops_and_threads() -> None:
    async def level(depth: int) -> list[str]:
        name = [await _thread_name()]
        if depth == 3:
            return name
        if depth % 2:
            return name + bridge().wait(level(depth + 1))
        return name + await asyncio.to_thread(lambda: bridge().wait(level(depth + 1)))

    assert bridge().wait(level(0)) == [f"cottonpalm-loop-{depth}" for depth in range(4)]


def test_900_nested_rows_run_on_512_threads_at_once() -> None:
    inside, peak, full = 0, 0, asyncio.Event()

    async def inner(row: int) -> int:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        if inside == 512:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        inside -= 1
        return row * 2

    async def outer() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(asyncio.to_thread(lambda row=row: bridge().wait(inner(row))))
                for row in range(900)
            ]
        return [task.result() for task in tasks]

    assert bridge().wait(outer()) == [row * 2 for row in range(900)]
    assert peak == 512


def test_waiting_for_the_loop_one_blocks_is_refused_and_not_a_hang() -> None:
    ours = bridge()

    async def main() -> None:
        ours.wait(_thread_name())

    with pytest.raises(RuntimeError, match="blocking"):
        ours.wait(main())


# -- what it carries --------------------------------------------------------------------------------


def test_context_variables_go_in_and_do_not_come_out() -> None:
    async def main() -> str:
        found = WHO.get()
        WHO.set("the coroutine")
        return found + "/" + await asyncio.to_thread(WHO.get)

    token = WHO.set("the caller")
    try:
        assert bridge().wait(main()) == "the caller/the coroutine"
        assert WHO.get() == "the caller"
    finally:
        WHO.reset(token)


def test_exceptions_arrive_as_they_are() -> None:
    async def main() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        bridge().wait(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_coroutine_that_raises_an_exit_of_its_own_harms_no_other(kind: type[BaseException]) -> None:
    going, harm = threading.Event(), threading.Event()

    async def other() -> str:
        going.set()
        while not harm.is_set():
            await asyncio.sleep(0.001)
        return await _thread_name()

    async def main() -> None:
        raise kind

    with ThreadPoolExecutor(1) as pool:
        unharmed = pool.submit(lambda: bridge().wait(other()))
        assert going.wait(10)
        with pytest.raises(kind):
            bridge().wait(main())
        harm.set()
        assert unharmed.result(10) == "cottonpalm-loop-0"
    assert _wait_for_name() == "cottonpalm-loop-0"


def test_a_row_that_raises_an_exit_in_a_task_of_its_own_is_seen_by_the_coroutine_alone() -> None:
    async def row(kind: type[BaseException]) -> None:
        raise kind

    async def main() -> list[str]:
        tasks = [
            asyncio.ensure_future(row(kind))
            for kind in (SystemExit, KeyboardInterrupt, asyncio.CancelledError)
        ]
        await asyncio.wait(tasks)
        return [type(t.exception()).__name__ if not t.cancelled() else "cancelled" for t in tasks]

    assert bridge().wait(main()) == ["SystemExit", "KeyboardInterrupt", "cancelled"]


def test_an_asynchronous_generator_left_in_the_middle_is_closed() -> None:
    closed = threading.Event()

    async def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def main() -> int:
        async for number in numbers():
            return number
        return 0

    assert bridge().wait(main()) == 1
    assert closed.wait(10)


def test_a_coroutine_cancelled_before_its_first_step_is_closed_without_a_warning() -> None:
    ours = bridge()
    call = BridgeCall(ours.loop, _thread_name(), 1)
    call.cancel()
    assert call.join(10)
    with pytest.raises(asyncio.CancelledError):
        call.result()


def test_a_started_call_can_be_joined_by_several_threads() -> None:
    go = threading.Event()
    call = bridge().start(asyncio.to_thread(go.wait, 10))
    with ThreadPoolExecutor(3) as pool:
        joined = [pool.submit(call.join) for _ in range(3)]
        assert not call.join(0)
        go.set()
        assert [future.result(10) for future in joined] == [True] * 3
    assert call.result() is True


def test_names_are_resolved_while_every_step_thread_is_busy() -> None:
    async def main() -> bool:
        loop, go = asyncio.get_running_loop(), threading.Event()
        blocked = [loop.run_in_executor(None, go.wait, 60) for _ in range(600)]
        try:
            found = await loop.getaddrinfo("localhost", 80)
            assert await loop.getnameinfo(("127.0.0.1", 80))
        finally:
            go.set()
            await asyncio.wait(blocked)
        return bool(found)

    assert bridge().wait(main())


def test_an_executor_of_the_callers_own_is_used() -> None:
    async def main(pool: ThreadPoolExecutor) -> str:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: threading.current_thread().name)

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        assert bridge().wait(main(pool)) == "mine_0"


class Overdue(Exception):
    """Not a TimeoutError, which is an OSError: asyncio drops those where it wakes its loop."""


def test_an_exception_that_another_thread_raises_in_the_waiting_one_ends_the_wait() -> None:
    """As timeouts of tasks do in a scheduler's worker threads, where no signal handler runs."""
    begun, cancelled = threading.Event(), threading.Event()
    met: list[type[BaseException]] = []

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def task() -> None:
        try:
            bridge().wait(endless())
        except Overdue as exc:
            met.append(type(exc))

    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    assert begun.wait(10)
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Overdue))
    thread.join(10)
    assert (met, cancelled.is_set()) == ([Overdue], True)


# -- programs of their own --------------------------------------------------------------------------

PRELUDE = """
import asyncio, atexit, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
from cottonpalm.runtime.bridge import bridge

async def double(n):
    await asyncio.sleep(0)
    return 2 * n

async def double_in_a_thread(n):
    return await asyncio.to_thread(lambda: 2 * n)

def say(text):
    print(text, flush=True)
"""


@pytest.fixture
def program() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a Python program in development mode, warnings as errors; ends it if the test has not."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        fork_warning = "ignore:This process:DeprecationWarning"
        command = [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-W",
            fork_warning,
            "-c",
            PRELUDE + textwrap.dedent(code),
        ]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def _end(process: subprocess.Popen[str], returncode: int = 0) -> list[str]:
    """The lines the program still had to say; it must end as expected and complain about nothing.

    That a step took a tenth of a second, which asyncio tells in development mode, is the machine's load.
    """
    out, err = process.communicate(timeout=60)
    complaints = [line for line in err.splitlines() if not line.startswith("Executing <")]
    assert (process.returncode, complaints) == (returncode, [])
    return out.splitlines()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_script_ends_cleanly(program: Callable[[str], subprocess.Popen[str]]) -> None:
    ended = program("say(bridge().wait(double(1))); say(bridge().wait(double_in_a_thread(2)))")
    assert _end(ended) == ["2", "4"]


def test_a_forked_child_gets_bridges_of_its_own(program: Callable[[str], subprocess.Popen[str]]) -> None:
    ended = program("""
        def work(n):
            async def nested():
                return bridge().wait(double_in_a_thread(n))
            return bridge().wait(nested())

        def fork_and_work(n):
            child = os.fork()
            if not child:
                os._exit(work(n))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        async def forking_step():
            return fork_and_work(3)

        say(work(1))
        say(fork_and_work(2))
        say(bridge().wait(forking_step()))                      # forked on our loop's thread
        say(bridge().wait(asyncio.to_thread(fork_and_work, 4)))   # and on one of its step threads
        say(work(5))                                            # the parent's are as they were
    """)
    assert _end(ended) == ["2", "4", "6", "8", "10"]


def test_a_fork_while_another_thread_makes_a_bridge_leaves_the_child_able_to_work(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    ended = program("""
        from cottonpalm.runtime import bridge as sync
        with sync._lock:    # as it is while a bridge is being made
            child = os.fork()
            if not child:
                os._exit(bridge().wait(double(3)))
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert _end(ended) == ["6"]


def test_a_child_forked_in_the_middle_of_a_run_does_not_wait_for_its_parents_requests(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    ended = program("""
        from cottonpalm import AdaptiveConcurrency
        from cottonpalm.request.limiter.limiters import Limiters
        limiters = Limiters(AdaptiveConcurrency(1, 1, 1))
        learnt = limiters.of("idle")
        limiters.of("busy").acquire()
        child = os.fork()
        if not child:
            os._exit(2 * (limiters.of("busy").try_acquire() is not None) + (limiters.of("idle") is learnt))
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(limiters.of("busy").in_flight)
    """)
    assert _end(ended) == ["3", "1"]


@pytest.mark.parametrize("before", ["", "bridge().wait(double(1))"])
def test_it_works_at_exit(program: Callable[[str], subprocess.Popen[str]], before: str) -> None:
    ended = program(f"""
        atexit.register(lambda: say(bridge().wait(double(4))))
        {before}
    """)
    assert _end(ended) == ["8"]


def test_synchronous_steps_work_at_exit_too(program: Callable[[str], subprocess.Popen[str]]) -> None:
    ended = program("""
        atexit.register(lambda: say(bridge().wait(double_in_a_thread(4))))
        bridge().wait(double(1))
    """)
    assert _end(ended) == ["8"]


LATE = """
import sys
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor

processor = BatchProcessor(RunnableLambda(lambda row: row + 1))

class Late:
    def __del__(self):
        for late in (lambda: processor.batch([2]), lambda: processor.invoke(2)):
            try:
                late()
            except RuntimeError as exc:
                print(exc, flush=True)

print(processor.batch([1]), flush=True)
sys.modules["kept to the very end"] = Late()
"""


def test_a_finalizer_that_python_calls_after_that_is_told_so_and_does_not_hang() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATE], capture_output=True, text=True, timeout=30, check=True
    )
    first, *refused = ended.stdout.splitlines()
    assert (first, len(refused), ended.stderr) == ("[2]", 2, "")
    assert all("shutting down" in line for line in refused)


@pytest.mark.parametrize("endless", ["forever()", "asyncio.to_thread(wait)"])
def test_a_program_may_end_while_a_daemon_thread_still_waits(
    program: Callable[[str], subprocess.Popen[str]], endless: str
) -> None:
    # Python itself may crash at its end while a thread is only being started: so this one is there first.
    ended = program(f"""
        started = threading.Event()
        async def forever():
            started.set()
            await asyncio.sleep(3600)
        def wait():
            started.set()
            threading.Event().wait()
        async def main():
            await {endless}
        threading.Thread(target=lambda: bridge().wait(main()), daemon=True).start()
        started.wait()
    """)
    assert _end(ended) == []


def test_a_program_waits_for_a_thread_that_is_no_daemon(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    ended = program("""
        async def main():
            threading.main_thread().join()
            return await double(6)
        threading.Thread(target=lambda: say(bridge().wait(main()))).start()
    """)
    assert _end(ended) == ["12"]


INTERRUPTED = """
    async def row(n):
        try:
            await work(n)
        finally:
            say(f"settled {n}")

    async def run():
        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(row(n))
            say("started")
            await stopped.wait()
        return "whole"

    stopped = asyncio.Event()
    def stop():
        stopped.set()
        say("stopping")
    try:
        bridge().wait(run(), stop)
    except KeyboardInterrupt as exc:
        say(f"interrupted {exc.__cause__!r}")
    say(bridge().wait(double(7)))
"""


def test_the_first_interrupt_lets_what_is_under_way_finish(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = program("async def work(n): await stopped.wait()" + textwrap.dedent(INTERRUPTED))
    assert _line(process) == "started"
    process.send_signal(signal.SIGINT)
    said = _end(process)
    assert said[0] == "stopping"
    assert sorted(said[1:4]) == ["settled 0", "settled 1", "settled 2"]
    assert said[4:] == ["interrupted None", "14"]


def test_what_the_run_raised_when_it_stopped_is_the_cause(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = program("""
        stopped = asyncio.Event()
        async def run():
            say("started")
            await stopped.wait()
            raise LookupError("3 rows left")
        try:
            bridge().wait(run(), stopped.set)
        except KeyboardInterrupt as exc:
            say(repr(exc.__cause__))
    """)
    assert _line(process) == "started"
    process.send_signal(signal.SIGINT)
    assert _end(process) == ["LookupError('3 rows left')"]


def test_the_second_interrupt_cancels_and_settles(program: Callable[[str], subprocess.Popen[str]]) -> None:
    process = program("async def work(n): await asyncio.sleep(3600)" + textwrap.dedent(INTERRUPTED))
    assert _line(process) == "started"
    process.send_signal(signal.SIGINT)
    assert _line(process) == "stopping"
    process.send_signal(signal.SIGINT)
    said = _end(process)
    assert sorted(said[:3]) == ["settled 0", "settled 1", "settled 2"]
    assert said[3:] == ["interrupted None", "14"]


def test_a_loop_that_never_gets_free_holds_nobody_longer_than_the_grace(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = program("""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        async def run():
            say("started")
            threading.Event().wait()  # blocks our loop for ever
        bridge().wait(run(), grace_s=0.01)
    """)
    assert _line(process) == "started"
    process.send_signal(signal.SIGTERM)
    assert _end(process, 143) == []


def test_any_other_exception_of_a_signal_handler_cancels_at_once(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = program("""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        async def run():
            try:
                say("started")
                await asyncio.sleep(3600)
            finally:
                say("settled")
        bridge().wait(run())
    """)
    assert _line(process) == "started"
    process.send_signal(signal.SIGTERM)
    assert _end(process, 143) == ["settled"]
