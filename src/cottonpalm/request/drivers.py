"""Two small machines that wait for what `attempts` asks for: one for tasks, one for threads."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.providers import BudgetBusy, dressed
from cottonpalm.pure.grants import Grant
from cottonpalm.request.attempts import Done, Reply, attempts
from cottonpalm.request.tap import AsyncTap, Reading, SyncTap, tap_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import ModuleType

    from cottonpalm.request.account import RowAccount
    from cottonpalm.request.shapes import Call
    from cottonpalm.request.turnstile import Permit

INSIDE: Final[ContextVar[bool]] = ContextVar("cottonpalm_inside", default=False)


async def drive(
    row: RowAccount,
    call: Call,
    http: ModuleType,
    request: Any,
    stream: bool,
    send: Callable[[], Awaitable[Any]],
) -> Any:
    """Send a request under its row, as a task. `send` is the original, ready to be called once per try."""
    steps, result = attempts(row, call), None
    try:
        while True:
            step, value = steps.send(result)
            match step:
                case "send":
                    result = await _once(http, request, value, stream, send)
                case "permit":
                    result = await _permit(row, value)
                case "money":
                    result = await _money(row, value)
                case _:
                    with row.idling():
                        result = await asyncio.sleep(value)
    except StopIteration as done:
        return _response(done.value, http, request, row.run.timeout_s)
    finally:
        steps.close()


async def _permit(row: RowAccount, key: str) -> Permit:
    turnstile = row.run.turnstile(key)
    permit = turnstile.try_acquire(row.priority)
    if permit is None:
        row.drain()
        with row.in_line(turnstile):
            permit = await turnstile.aacquire(row.priority)
    return permit


async def _money(row: RowAccount, bound: int) -> bool:
    ledger = row.run.ledger
    assert ledger is not None  # noqa: S101 - nobody asks for money without one
    return await ledger.agrant(bound, row.priority)


async def _once(
    http: ModuleType, request: Any, timeout_s: float, stream: bool, send: Callable[[], Awaitable[Any]]
) -> Reply:
    response = None
    try:
        with _inside():
            async with asyncio.timeout(timeout_s):
                response = await send()
                if stream and response.status_code >= 400:
                    await response.aread()
    except TimeoutError as exc:
        return Reply(error=_timed_out(http, request, timeout_s, exc))
    except Exception as exc:  # noqa: BLE001 - judged, and raised again when the tries are used up
        return Reply(error=exc)
    return _reply(http, request, response, stream)


def drive_sync(
    row: RowAccount, call: Call, http: ModuleType, request: Any, stream: bool, send: Callable[[], Any]
) -> Any:
    """Send a request under its row, blocking this thread."""
    steps, result = attempts(row, call), None
    try:
        while True:
            step, value = steps.send(result)
            match step:
                case "send":
                    result = _once_sync(http, request, value, stream, send)
                case "permit":
                    result = _permit_sync(row, value)
                case "money":
                    result = _money_sync(row, value)
                case _:
                    with row.idling():
                        result = row.rest(value)
    except StopIteration as done:
        return _response(done.value, http, request, row.run.timeout_s, sync=True)
    finally:
        steps.close()


def _permit_sync(row: RowAccount, key: str) -> Permit:
    turnstile = row.run.turnstile(key)
    permit = turnstile.try_acquire(row.priority)
    if permit is not None:
        return permit
    row.drain()
    if _on_a_loop():
        return _force(row, key)
    with row.in_line(turnstile), row.parking() as on_wait:
        return turnstile.acquire(row.priority, on_wait=on_wait)


def _force(row: RowAccount, key: str) -> Permit:
    """A thread that runs a loop must not wait for permits: their holders may need that very loop to give them back."""
    turnstile = row.run.turnstile(key)
    if (permit := turnstile.try_acquire(row.priority)) is not None:
        return permit
    row.run.warn(
        "blocking call",
        "a model was called with invoke() inside an async function: that blocks the event loop, and its "
        "requests go one above the limit; use ainvoke() there.",
    )
    if (pause_s := turnstile.paused_until - clock.now()) > 0:
        row.rest(pause_s)
    return turnstile.force()


def _money_sync(row: RowAccount, bound: int) -> bool:
    ledger = row.run.ledger
    assert ledger is not None  # noqa: S101 - nobody asks for money without one
    if not _on_a_loop():
        with row.parking() as on_wait:
            return ledger.grant(bound, row.priority, on_wait=on_wait)
    answer = ledger.try_grant(bound, row.priority)
    if answer is Grant.WAIT:
        raise dressed(
            BudgetBusy, "invoke() inside an async function cannot wait for money to come back; use ainvoke()"
        )
    return answer is Grant.OK


def _once_sync(
    http: ModuleType, request: Any, timeout_s: float, stream: bool, send: Callable[[], Any]
) -> Reply:
    kept = request.extensions
    request.extensions = {**kept, "timeout": _lowered(kept.get("timeout"), timeout_s)}
    try:
        with _inside():
            response = send()
            if stream and response.status_code >= 400:
                response.read()
    except Exception as exc:  # noqa: BLE001 - judged, and raised again when the tries are used up
        return Reply(error=exc)
    finally:
        request.extensions = kept
    return _reply(http, request, response, stream)


def _lowered(timeouts: dict[str, float | None] | None, timeout_s: float) -> dict[str, float]:
    """No socket operation of a thread may take longer than the whole try."""
    names = ("connect", "read", "write", "pool")
    own = {name: (timeouts or {}).get(name) for name in names}
    return {name: timeout_s if value is None else min(value, timeout_s) for name, value in own.items()}


def _reply(http: ModuleType, request: Any, response: Any, stream: bool) -> Reply:
    is_open = stream and response.status_code < 400
    return Reply(
        response.status_code,
        response.headers,
        None if is_open else response.content,
        response,
        as_error=lambda: http.HTTPStatusError(
            f"HTTP {response.status_code}", request=request, response=response
        ),
    )


def _response(done: Done, http: ModuleType, request: Any, gap_s: float, *, sync: bool = False) -> Any:
    """The response to hand out: the original, one with its stream tapped, or one made again of what was kept."""
    if (kept := done.kept) is not None:
        headers = {name: value for name, value in kept.headers.items() if name not in _OF_THE_WIRE}
        return http.Response(kept.status, headers=headers, content=kept.content, request=request)
    response = done.raw
    if done.ending is not None:
        reading = Reading(done.ending, response.status_code, response.headers)
        if sync:
            response.stream = tap_class(SyncTap, http.SyncByteStream)(response.stream, reading)
        else:
            timed_out = lambda: _timed_out(http, request, gap_s, None)  # noqa: E731
            response.stream = tap_class(AsyncTap, http.AsyncByteStream)(
                response.stream, reading, gap_s, timed_out
            )
    return response


_OF_THE_WIRE: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _timed_out(http: ModuleType, request: Any, seconds: float, cause: BaseException | None) -> Exception:
    error: Exception = http.ReadTimeout(f"no answer within {seconds:g} s", request=request)
    error.__cause__ = cause
    return error


@contextmanager
def _inside() -> Iterator[None]:
    """Below the original `send` nothing is ours: a transport may itself use a client."""
    token = INSIDE.set(True)
    try:
        yield
    finally:
        INSIDE.reset(token)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
