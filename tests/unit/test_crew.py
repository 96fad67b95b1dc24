"""The crew runs blocking functions on threads of its own and answers to one loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.runtime.bridge import bridge
from cottonpalm.runtime.threads import Crew, loop_here

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def _with_crew(main: Callable[[Crew], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Run `main(crew)`, close the crew, and see all of its threads end."""
    name = f"crew-{id(main)}"

    async def run() -> Any:
        crew = Crew(name=name, **options)
        try:
            return await main(crew)
        finally:
            crew.close()

    answer = asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)
            assert not thread.is_alive()
    return answer


def test_each_awaiter_gets_its_own_answer() -> None:
    async def main(crew: Crew) -> list[int]:
        return await _all(crew.run(lambda row=row: row * row) for row in range(2000))

    assert _with_crew(main, maximum=16) == [row * row for row in range(2000)]


async def _all(futures: Any) -> list[Any]:
    started = list(futures)
    return [await future for future in started]


def test_it_grows_to_the_number_wanted() -> None:
    together = threading.Barrier(40)

    async def main(crew: Crew) -> int:
        await _all(crew.run(lambda: together.wait(20)) for _ in range(40))
        return crew.threads

    assert _with_crew(main) == 40


def test_it_never_has_more_threads_than_its_maximum() -> None:
    names: set[int] = set()

    async def main(crew: Crew) -> int:
        await _all(crew.run(lambda: names.add(threading.get_ident())) for _ in range(500))
        return crew.threads

    assert _with_crew(main, maximum=3) <= 3
    assert len(names) <= 3


def test_one_job_at_a_time_needs_one_thread() -> None:
    async def main(crew: Crew) -> int:
        for _ in range(200):
            await crew.run(lambda: None)
        return crew.threads

    assert _with_crew(main) == 1


def test_answers_of_many_threads_come_back_in_one_call_of_the_loop() -> None:
    async def main(crew: Crew) -> int:
        loop, ended = asyncio.get_running_loop(), threading.Barrier(9)
        wakeups = 0
        original = loop.call_soon_threadsafe

        def counting(*args: Any, **kwargs: Any) -> asyncio.Handle:
            nonlocal wakeups
            wakeups += 1
            return original(*args, **kwargs)

        loop.call_soon_threadsafe = counting  # type: ignore[method-assign]
        first = _all(crew.run(lambda: ended.wait(20)) for _ in range(8))
        started = asyncio.ensure_future(first)
        await asyncio.sleep(0)
        ended.wait(20)  # the loop is busy here until all eight are past the barrier
        while len(crew._answers) < 8:
            pass
        await started
        return wakeups

    assert _with_crew(main) == 1


def test_functions_see_the_context_of_their_caller_and_leave_none_behind() -> None:
    def look_and_change() -> str:
        seen = WHO.get()
        WHO.set("left behind")
        return seen

    async def row(crew: Crew, name: str) -> str:
        WHO.set(name)
        return await crew.run(look_and_change) + "/" + WHO.get()

    async def main(crew: Crew) -> list[str]:
        async with asyncio.TaskGroup() as group:
            rows = [group.create_task(row(crew, f"{n}")) for n in range(50)]
        return [task.result() for task in rows] + [await crew.run(WHO.get)]

    assert _with_crew(main, maximum=2) == [f"{n}/{n}" for n in range(50)] + ["nobody"]


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_a_function_raises_arrives_and_the_thread_goes_on(error: BaseException) -> None:
    async def main(crew: Crew) -> tuple[Any, int]:
        try:
            await crew.run(lambda: _raise(error))
        except BaseException as exc:
            return exc, await crew.run(threading.active_count) and crew.threads
        return None, 0

    arrived, threads = _with_crew(main)
    assert isinstance(arrived, type(error))
    assert threads == 1


def test_a_stop_iteration_becomes_a_runtime_error() -> None:
    async def main(crew: Crew) -> None:
        await crew.run(lambda: next(iter(())))

    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        _with_crew(main)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_a_cancelled_await_leaves_the_thread_to_finish_and_tells_who_asked() -> None:
    begun, go = threading.Event(), threading.Event()

    async def main(crew: Crew) -> tuple[Any, ...]:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future = crew.run(lambda: (begun.set(), go.wait(20))[1], late=lambda *late: told.set_result(late))
        begun.wait(20)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        busy = crew.busy
        go.set()
        return (busy, *(await told), crew.busy)

    assert _with_crew(main) == (1, True, None, 0)


def test_a_function_cancelled_before_it_began_never_runs() -> None:
    ran: list[str] = []
    go = threading.Event()

    async def main(crew: Crew) -> None:
        first = crew.run(lambda: go.wait(20))
        second = crew.run(lambda: ran.append("second"))
        second.cancel()
        go.set()
        await first
        await crew.run(lambda: ran.append("third"))

    _with_crew(main, maximum=1)
    assert ran == ["third"]


def test_threads_stuck_in_abandoned_functions_do_not_stand_in_for_new_ones() -> None:
    go = threading.Event()

    async def main(crew: Crew) -> str:
        for stuck in [crew.run(lambda: go.wait(20)) for _ in range(5)]:
            stuck.cancel()
        try:
            return await crew.run(lambda: "done")
        finally:
            go.set()

    assert _with_crew(main, maximum=6) == "done"


def test_functions_given_before_the_close_still_run_and_later_ones_are_refused() -> None:
    async def main(crew: Crew) -> list[int]:
        given = [crew.run(lambda n=n: n) for n in range(20)]
        crew.close()
        with pytest.raises(RuntimeError, match="closed"):
            crew.run(lambda: None)
        return await _all(given)

    assert _with_crew(main, maximum=2) == list(range(20))


def test_idle_threads_leave_and_new_ones_come() -> None:
    async def main(crew: Crew) -> list[int]:
        await _all(crew.run(lambda: None) for _ in range(5))
        while crew.threads:
            await asyncio.sleep(0.001)
        return await _all(crew.run(lambda n=n: n) for n in range(100))

    assert _with_crew(main, maximum=4, idle_s=0.01) == list(range(100))


def test_no_job_is_lost_while_threads_come_and_go() -> None:
    async def main(crew: Crew) -> int:
        done = 0
        for _ in range(3000):
            done += await crew.run(lambda: 1)
        return done

    assert _with_crew(main, maximum=2, idle_s=0.00001) == 3000


def test_an_idle_thread_keeps_nothing_of_its_last_job_alive() -> None:
    class Big:
        pass

    async def main(crew: Crew) -> Any:
        big = Big()
        seen = weakref.ref(big)
        await crew.run(lambda big=big: big is None)
        del big
        await crew.run(lambda: None)
        gc.collect()
        return seen()

    assert _with_crew(main, maximum=1) is None


def test_answers_after_the_loop_closed_are_dropped_quietly() -> None:
    go, crews = threading.Event(), []

    async def main() -> None:
        crews.append(Crew(name="outlives-its-loop"))
        crews[0].run(lambda: go.wait(20)).cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
    crews[0].close()
    go.set()
    for thread in threading.enumerate():
        if thread.name == "outlives-its-loop":
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_with_no_threads_and_no_jobs() -> None:
    go = threading.Event()

    async def main(crew: Crew) -> int:
        running = [crew.run(lambda: go.wait(20)) for _ in range(3)]
        child = os.fork()
        if not child:
            crew._jobs.put(None)  # its lock and queue are new and free
            os._exit(10 * crew.threads + crew.busy)
        go.set()
        await _all(running)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert _with_crew(main) == 0


def test_a_loop_that_asyncio_takes_for_ours_and_another_thread_runs_is_not_here() -> None:
    loop = bridge().loop

    async def here() -> int:
        return loop_here()

    assert asyncio.run_coroutine_threadsafe(here(), loop).result(20) == id(loop)
    asyncio._set_running_loop(loop)  # what gevent's threads see: asyncio tells them apart no more
    try:
        assert loop_here() == 0
    finally:
        asyncio._set_running_loop(None)
