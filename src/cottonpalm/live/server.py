"""Serves the live page of a store on a thread, for as long as it is open."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from cottonpalm.errors import ConfigError, StoreError
from cottonpalm.live.reading import Reading, Refused
from cottonpalm.live.rules import PORTS, host_name
from cottonpalm.stores import database_of, shown
from cottonpalm.stores.sql.store import SqlStore

if TYPE_CHECKING:
    from typing import Self

    from cottonpalm.stores.sql.database import Database

PORT: Final = 8765
LOOPBACK: Final = "127.0.0.1"
BUSY_S: Final = 5.0  # an order waits so long for whoever locks the store; a person waits for what comes of it
GRACE_S: Final = 1  # open streams get so long to end


class Dashboard:
    """The live page of a store: `with Dashboard("reviews.db") as page: print(page.url)`.

    It shows every run of the store, whichever process works on it, and brings orders to it. Needs the extra
    `dashboard`: `pip install "cottonpalm[dashboard]"`.

    Args:
        store: the store's file or address, which must exist.
        port: 0 takes any free one; None takes 8765, or any free one where that is taken.
        host: the address to listen at. Only this machine can reach the default.

    Attributes:
        url: the address to open, with the token of this start.

    Raises:
        ConfigError: there is no such store, the port is taken or none, or the address is none of this machine.
        ImportError: the extra is not installed.
    """

    def __init__(self, store: str | Path, port: int | None = None, *, host: str = LOOPBACK) -> None:
        try:  # here, as the name alone can be had without the extra: `from cottonpalm import *`
            import uvicorn

            from cottonpalm.live.app import Live, application
            from cottonpalm.live.connections import Connection
            from cottonpalm.live.guard import TOKEN, Guard
        except ImportError as missing:
            raise ImportError(
                f"the live page needs {missing.name}: pip install 'cottonpalm[dashboard]'"
            ) from missing
        self._database = _existing(store)
        with ExitStack() as opened:
            self._store = SqlStore(self._database, busy_s=BUSY_S)
            opened.callback(self._store.close)
            self._socket = _listening(host, port)
            opened.pop_all()  # from here on, `close` is what closes both
        token = secrets.token_urlsafe(24)
        self.port: int = self._socket.getsockname()[1]
        name = f"[{host}]" if ":" in host else {"0.0.0.0": LOOPBACK}.get(host, host)  # noqa: S104 - as it was asked
        self.url = f"http://{name}:{self.port}/?{urlencode({TOKEN: token})}"
        self._ready, self._over = threading.Event(), asyncio.Event()
        reading = Reading(self._store, check=self._check)
        live = Live(reading, _name(shown(store)), shown(store), self._over)
        names = frozenset(found for each in (host, socket.gethostname()) if (found := host_name(each)))
        guard = Guard(application(live), token, names, f"cottonpalm-{self.port}")
        config = uvicorn.Config(
            guard,
            http=Connection,
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
            date_header=False,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="cottonpalm-dashboard", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _check(self) -> None:
        """A file that was deleted can still be read, but no run of the new one is in it, and no order reaches one."""
        try:
            self._database.check()
        except StoreError:
            raise Refused("the store was deleted or replaced; start this page again") from None

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()  # the socket listens already
        await self._server.serve([self._socket])  # beside the main thread it leaves the signals alone

    def close(self) -> None:
        """Serve no more; when this returns, the port and the store are free."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join()
        self._socket.close()
        self._store.close()

    def _end(self) -> None:
        self._over.set()
        self._server.should_exit = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _existing(store: str | Path) -> Database:
    """The database of a store that is there.

    Raises:
        ConfigError: there is none.
    """
    database = database_of(store)
    if database is None:
        raise ConfigError("a store in memory has no page; give the runs a file as their store")
    if not database.exists():
        raise ConfigError(
            f"there is no store {shown(store)} here for a page to show; the first run in it makes it, in Python "
            f"also open_store({shown(store)!r}).close()"
        )
    return database


def _name(address: str) -> str:
    """A file by its name, a database by its address."""
    return address if "://" in address else Path(address).name


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the port is taken or none, or the address is none of this machine.
    """
    if not host:
        raise ConfigError(
            "host='' would let every machine reach the live page; where that is meant, say '0.0.0.0'"
        )
    if port is not None and (type(port) is not int or port not in PORTS):
        raise ConfigError(f"port={port!r}: a port is a whole number from 0 to {PORTS[-1]}, or None")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (PORT, 0) if port is None else (port,):
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(64)
        except OSError as error:
            made.close()
            trouble = error
        else:
            return made
    of_the_port = trouble.errno in (errno.EADDRINUSE, errno.EACCES)
    where, what = (f"{host}:{port}", "another port") if of_the_port else (host, "an address of this machine")
    raise ConfigError(f"the live page cannot listen at {where}: {trouble.strerror or trouble}; name {what}")
