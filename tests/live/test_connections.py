"""Attacks on the live page's connections, by somebody who does not know the token: idle ones, slow ones, large ones."""

from __future__ import annotations

import resource
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from cottonpalm.live.connections import HEAD_S, MOST
from cottonpalm.live.server import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.waits

PATIENCE_S = 60.0
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def own(store: Path) -> Iterator[Dashboard]:
    with Dashboard(store, 0) as found:
        yield found


def connected(page: Dashboard) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", page.port), PATIENCE_S)
    made.settimeout(PATIENCE_S)
    return made


def ended(connection: socket.socket) -> bool:
    """Wait until the page ends it."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def opens(page: Dashboard) -> bool:
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=PATIENCE_S) as client:
        return client.get(page.url).status_code == 200


@pytest.mark.parametrize("said", [b"", b"G", HEAD, HEAD + b"X: " + b"x" * 1000])
def test_a_connection_on_which_no_whole_request_comes_is_ended(own: Dashboard, said: bytes) -> None:
    with connected(own) as connection:
        connection.sendall(said)
        assert ended(connection)


def test_a_head_that_comes_drop_by_drop_is_not_waited_for(own: Dashboard) -> None:
    over = threading.Event()
    with connected(own) as connection:
        connection.sendall(HEAD)

        def drip() -> None:
            while not over.wait(0.2):
                try:
                    connection.sendall(b"X: y\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert ended(connection)
        over.set()
        thread.join()


def test_many_connections_that_say_nothing_leave_room_for_whoever_asks(own: Dashboard) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * MOST)), hard))
    with ExitStack() as stack:
        many = [stack.enter_context(connected(own)) for _ in range(3 * MOST)]
        assert opens(own)
        assert len(own._server.server_state.connections) <= MOST + 1
        assert all(map(ended, many))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_head_without_end_and_a_body_without_end_are_refused_before_they_are_read(own: Dashboard) -> None:
    with connected(own) as connection:
        answer = b""
        try:
            connection.sendall(HEAD + b"X: " + b"x" * 2_000_000)
            answer = connection.recv(100)
        except ConnectionError:
            pass
        assert not answer or b" 400 " in answer
        assert opens(own)
    with connected(own) as connection:
        head = b"POST /order HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 5000000000\r\n\r\n" % own.port
        connection.sendall(head)
        assert b" 401 " in connection.recv(100)


def test_an_answered_request_may_be_followed_by_another_and_a_stream_lasts(own: Dashboard) -> None:
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=PATIENCE_S) as client:
        assert client.get(own.url).status_code == 200
        for _ in range(3):
            assert client.get(f"http://127.0.0.1:{own.port}/rows?run=plain").status_code == 200
        with client.stream("GET", f"http://127.0.0.1:{own.port}/stream?run=plain") as answer:
            looks = 0
            for line in answer.iter_lines():
                looks += line.startswith("event:")
                if looks > HEAD_S + 2:  # one a second
                    break
        assert looks > HEAD_S + 2
