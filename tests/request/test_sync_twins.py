"""What holds for tasks holds for threads: money, waiting for it, the timeout of the socket, streams closed early."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import PICO
from tests.request.kit import a_run, in_flight
from tests.request.test_stream_ends import Body
from tests.request.test_streams import WHOLE, _sse

if TYPE_CHECKING:
    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core
URL = "http://x/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
GOOD = {
    "model": "m",
    "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
}
COST = 9 * PICO // 10**6  # of an answer


def a_paid_run(total: int, **settings: Any) -> RunAccount:
    ledger = Ledger(Amounts(total))
    run = a_run(4, ledger=ledger, prices=PriceBook({"m": (1.0, 1.0)}), tighten=False, **settings)
    ledger.attach(run.spending)
    return run


def on_a_thread(row: RowAccount, ask: Any) -> tuple[threading.Thread, list[Any]]:
    """`ask` under this row on a thread that runs no loop; what it returned or raised."""
    results: list[Any] = []

    def work() -> None:
        ROW.set(row)
        try:
            results.append(ask())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, results


def joined(thread: threading.Thread) -> None:
    thread.join(20)
    assert not thread.is_alive(), "it hangs"


def bound_of(run: RunAccount) -> int:
    """The bound of `ASKED`, as it was reserved for the request under way."""
    return run.ledger.reserved  # type: ignore[union-attr]


class Gate(httpx2.BaseTransport):
    """Holds each request until it is let go."""

    def __init__(self) -> None:
        self.arrived, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.timeouts: list[Any] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.timeouts.append(request.extensions["timeout"])
        self.arrived.release()
        assert self.go.acquire(timeout=20)
        return httpx2.Response(200, json=GOOD)


def test_money_of_a_thread_goes_to_its_runs_account() -> None:
    run, gate = a_paid_run(PICO), Gate()
    with httpx2.Client(transport=gate) as client:
        thread, results = on_a_thread(RowAccount(run, 0), lambda: client.post(URL, json=ASKED))
        assert gate.arrived.acquire(timeout=20)
        assert run.spending.reserved == run.ledger.reserved > 0  # type: ignore[union-attr]
        gate.go.release()
        joined(thread)
    assert results[0].status_code == 200
    assert (run.spending.reserved, run.spending.reported) == (0, COST)
    assert run.ledger.spent == COST  # type: ignore[union-attr]


def test_a_thread_that_must_ask_the_ledger_books_to_its_runs_account_as_well() -> None:
    run, gate = a_paid_run(500 * PICO // 10**6), Gate()  # too near the ceiling for the quick way
    with httpx2.Client(transport=gate) as client:
        thread, _ = on_a_thread(RowAccount(run, 0), lambda: client.post(URL, json=ASKED))
        assert gate.arrived.acquire(timeout=20)
        assert run.spending.reserved == run.ledger.reserved > 0  # type: ignore[union-attr]
        gate.go.release()
        joined(thread)
    assert (run.spending.reserved, run.spending.reported) == (0, COST)


def test_a_thread_waits_for_money_that_comes_back_and_another_one_brings_it() -> None:
    run, gate = a_paid_run(160 * PICO // 10**6), Gate()  # enough for one at a time
    with httpx2.Client(transport=gate) as client:
        first, one = on_a_thread(RowAccount(run, 0), lambda: client.post(URL, json=ASKED))
        assert gate.arrived.acquire(timeout=20)
        second, two = on_a_thread(RowAccount(run, 1), lambda: client.post(URL, json=ASKED))
        waited = threading.Event()
        while not run.ledger.waiting:  # type: ignore[union-attr]
            waited.wait(0.001)
        assert run.flow.unpaid == 1
        gate.go.release()
        joined(first)
        assert gate.arrived.acquire(timeout=20), "the money that came back goes to who waits"
        gate.go.release()
        joined(second)
    assert [answers[0].status_code for answers in (one, two)] == [200, 200]
    assert (run.flow.unpaid, run.ledger.reserved, in_flight(run)) == (0, 0, 0)  # type: ignore[union-attr]


def test_a_thread_that_waits_for_money_is_let_go_when_its_row_is_over() -> None:
    run, gate = a_paid_run(160 * PICO // 10**6), Gate()
    with httpx2.Client(transport=gate) as client:
        first, _ = on_a_thread(RowAccount(run, 0), lambda: client.post(URL, json=ASKED))
        assert gate.arrived.acquire(timeout=20)
        row = RowAccount(run, 1)
        second, two = on_a_thread(row, lambda: client.post(URL, json=ASKED))
        waited = threading.Event()
        while not run.ledger.waiting:  # type: ignore[union-attr]
            waited.wait(0.001)
        row.close()
        joined(second)
        assert isinstance(two[0], RowClosed)
        gate.go.release()
        joined(first)
    assert (run.flow.unpaid, run.ledger.reserved, run.ledger.waiting) == (0, 0, 0)  # type: ignore[union-attr]


def test_the_runs_timeout_reaches_the_socket_and_a_shorter_one_of_the_clients_stays() -> None:
    run, gate = a_paid_run(PICO, timeout_s=7.0), Gate()
    gate.go = threading.Semaphore(100)
    own = httpx2.Timeout(30.0, connect=2.0, pool=None)
    row = RowAccount(run, 0)
    with httpx2.Client(transport=gate, timeout=own) as client:
        thread, results = on_a_thread(row, lambda: client.post(URL, json=ASKED))
        joined(thread)
        assert results[0].request.extensions["timeout"]["read"] == 30.0, (
            "what the chain made is left as it was"
        )
    assert gate.timeouts == [{"connect": 2.0, "read": 7.0, "write": 7.0, "pool": 7.0}]


def test_a_real_socket_that_says_nothing_ends_at_the_runs_timeout() -> None:
    from tests.support import replies
    from tests.support.loopback import Loopback

    with Loopback(script=lambda _: replies.Reply(ending="hang")) as server:
        run = a_paid_run(PICO, timeout_s=0.2)
        with httpx2.Client(timeout=None) as client:
            thread, results = on_a_thread(
                RowAccount(run, 0), lambda: client.post(f"{server.openai_url}/chat/completions", json=ASKED)
            )
            joined(thread)
    assert isinstance(results[0], httpx2.ReadTimeout)
    assert in_flight(run) == 0
    assert run.spending.uncertain > 0


def test_a_sync_stream_that_is_closed_early_gives_its_permit_back_at_once_and_stays_booked() -> None:
    run = a_paid_run(PICO)
    row, body = RowAccount(run, 0), Body([_sse(WHOLE[0]), _sse(*WHOLE[1:])])
    token = ROW.set(row)
    try:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
        with httpx2.Client(transport=transport) as client:
            with client.stream("POST", URL, json={**ASKED, "stream": True}) as response:
                pieces = response.iter_raw()
                next(pieces)
                bound = bound_of(run)
                assert (in_flight(run), bound > 0) == (1, True)
            assert in_flight(run) == 0, "before the row is over"
            assert body.closed == 1
            assert (run.spending.uncertain, run.spending.reported) == (bound, 0)
    finally:
        ROW.reset(token)
    assert run.ledger.reserved == 0  # type: ignore[union-attr]


def test_a_row_that_ends_on_a_thread_with_an_open_stream_gives_its_permit_back() -> None:
    run = a_paid_run(PICO)
    row = RowAccount(run, 0)
    token = ROW.set(row)
    try:
        transport = httpx2.MockTransport(
            lambda _: httpx2.Response(200, stream=Body([_sse(WHOLE[0]), _sse(*WHOLE[1:])]))
        )
        with httpx2.Client(transport=transport) as client:
            request = client.build_request("POST", URL, json={**ASKED, "stream": True})
            response = client.send(request, stream=True)
            next(response.iter_raw())
            row.close()
            assert in_flight(run) == 0
            response.close()
    finally:
        ROW.reset(token)
    assert run.ledger.reserved == 0  # type: ignore[union-attr]
    assert run.spending.uncertain > 0
