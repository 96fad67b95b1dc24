"""The lean client: connections are used again, closed when given up, made over TLS with the SDK's own trust."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cottonpalm import BatchProcessor
from cottonpalm.request.transport.http1.pool import NotConnected, Origin, Pool, TooSlow, _pools
from cottonpalm.request.transport.http1.reader import Malformed
from tests.fast.cases import PROMPT, chat, openai
from tests.fast.wires import Server, Wire, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD, BODY = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n", b"{}"
ROWS = [{"text": f"row {number}"} for number in range(6)]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(wire=wire(chat())) as server:
        yield server


def origin(server: Server, idle_s: float = 5.0) -> Origin:
    return Origin("127.0.0.1", server.port, None, None, (), idle_s, 5.0)


def test_requests_one_after_the_other_use_one_connection(server: Server) -> None:
    async def main() -> None:
        pool = Pool(asyncio.get_running_loop())
        for _ in range(3):
            await pool.send(origin(server), HEAD, BODY)
        assert server.connections == 1
        pool.close()
        assert pool.idle == 0

    asyncio.run(main())


@pytest.mark.parametrize(("answers", "lost"), [(1, 2), (2, 5)], ids=["one answer each", "two answers each"])
def test_whoever_answers_once_and_closes_without_a_word_is_asked_on_a_new_connection_each_time(
    answers: int, lost: int
) -> None:
    """Closed as the next request comes, so it is sent in vain each time; a server that answers twice keeps them."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(answers):
                await reader.readuntil(BODY)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await reader.readuntil(BODY)
        writer.close()
        await writer.wait_closed()

    async def main() -> int:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        place = Origin("127.0.0.1", server.sockets[0].getsockname()[1], None, None, (), 5.0, 5.0)
        pool, in_vain = Pool(asyncio.get_running_loop()), 0
        for _ in range(15):
            try:
                await pool.send(place, HEAD, BODY)
            except (Malformed, OSError):
                in_vain += 1
        pool.close()
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        return in_vain

    assert asyncio.run(main()) == lost


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"]
)
def test_a_server_that_says_that_it_is_broken_is_asked_on_a_new_connection(status: str) -> None:
    """Of several behind one address only one may be."""

    async def main() -> None:
        pool = Pool(asyncio.get_running_loop())
        for _ in range(3):
            await pool.send(origin(server), HEAD, BODY)
        assert (server.connections, pool.idle) == (3, 0)
        server.wire = wire(chat(), "429 Too Many Requests")
        for _ in range(3):
            await pool.send(origin(server), HEAD, BODY)
        assert server.connections == 4
        pool.close()

    with Server(wire=wire({}, status)) as server:
        asyncio.run(main())


def test_requests_at_once_use_a_connection_each(server: Server) -> None:
    async def main() -> None:
        pool = Pool(asyncio.get_running_loop())
        answers = await asyncio.gather(*[pool.send(origin(server), HEAD, BODY) for _ in range(5)])
        assert {answer.status for answer in answers} == {200}
        assert (server.connections, pool.idle) == (5, 5)
        pool.close()

    asyncio.run(main())


def test_a_connection_that_was_idle_too_long_is_not_used(server: Server) -> None:
    async def main() -> None:
        pool = Pool(asyncio.get_running_loop())
        for _ in range(2):
            await pool.send(origin(server, idle_s=-1.0), HEAD, BODY)
        assert server.connections == 2
        pool.close()

    asyncio.run(main())


def test_a_connection_that_the_server_closed_unheard_is_not_used() -> None:
    closed = threading.Event()

    def serve(listener: socket.socket) -> None:
        for _ in range(3):
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(b"".join(wire(chat()).pieces))
            connection.close()
            closed.set()

    async def main(port: int) -> list[int]:
        pool, statuses = Pool(asyncio.get_running_loop()), []
        there = Origin("127.0.0.1", port, None, None, (), 5.0, 5.0)
        for _ in range(3):
            statuses.append((await pool.send(there, HEAD, BODY)).status)
            assert closed.wait(20)  # blocks the loop, which cannot hear of it before the next request
            closed.clear()
        return statuses

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        assert asyncio.run(main(listener.getsockname()[1])) == [200] * 3
        thread.join(20)


def test_a_request_that_is_cancelled_takes_its_connection_with_it(server: Server) -> None:
    async def main() -> None:
        server.wire = Wire((b"",), "hang")
        pool = Pool(asyncio.get_running_loop())
        asking = asyncio.ensure_future(pool.send(origin(server), HEAD, BODY))
        while not server.sent:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert pool.idle == 0

    asyncio.run(main())


def test_an_answer_that_stands_still_is_given_up(server: Server) -> None:
    async def main() -> None:
        server.wire = Wire((b"HTTP/1.1 200 OK\r\n",), "hang")
        with pytest.raises(TooSlow, match="read"):
            await Pool(asyncio.get_running_loop()).send(origin(server), HEAD, BODY, 0.05)

    asyncio.run(main())


def test_a_server_that_is_not_there_is_told_from_one_that_broke_off() -> None:
    async def main() -> None:
        with pytest.raises(NotConnected):
            await Pool(asyncio.get_running_loop()).send(
                Origin("127.0.0.1", 1, None, None, (), 5, 5), HEAD, BODY
            )

    asyncio.run(main())


def test_after_a_run_nothing_is_left_open_on_its_loop(server: Server) -> None:
    async def main() -> None:
        processor = BatchProcessor(PROMPT | openai(server.url), transport="fast", concurrency=2)
        for _ in range(2):
            await processor.abatch(ROWS)
        assert asyncio.get_running_loop() not in _pools

    asyncio.run(main())
    asyncio.run(main())  # a second loop in one process has a pool of its own


def made_up(host: str) -> tuple[bytes, bytes]:
    """A key and a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, made.public_bytes(pem)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """How a server proves who it is, and how a client that trusts it checks that."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = made_up("localhost")
    (folder / "key.pem").write_bytes(key)
    (folder / "cert.pem").write_bytes(certificate)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return serves, ssl.create_default_context(cafile=str(folder / "cert.pem"))


def test_tls_uses_the_clients_own_trust_and_nothing_less(trust: tuple[Any, Any]) -> None:
    serves, trusts = trust

    async def answers(server: Server, client: httpx2.AsyncClient) -> tuple[list[Any], dict[str, int]]:
        chain = PROMPT | openai(server.url, http_async_client=client)
        processor = BatchProcessor(chain, transport="fast", concurrency=1, retry=0, max_failures=1.0)
        async with processor.astart(ROWS) as run:
            outcomes = [outcome async for outcome in run]
        return outcomes, dict(run.report.transports)

    async def main() -> None:
        with Server(serves, wire(chat())) as server:
            async with httpx2.AsyncClient(verify=trusts) as trusting, httpx2.AsyncClient() as wary:
                good, by = await answers(server, trusting)
                bad, _ = await answers(server, wary)
        assert [outcome.status for outcome in good] == ["ok"] * len(ROWS)
        assert by["fast"] >= len(ROWS) - 1
        assert {outcome.error.type for outcome in bad} == {"OpenAIConnectionError"}

    asyncio.run(main())
