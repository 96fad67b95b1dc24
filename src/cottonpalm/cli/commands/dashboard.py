"""`dashboard`, and the live page beside a run."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cottonpalm.cli.problems import Problem, extra
from cottonpalm.live.rules import PORTS
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.cli.screen.screen import Screen
    from cottonpalm.live.server import Dashboard


def show_dashboard(store: str, host: str, port: int | None, screen: Screen) -> Code:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: there is no such store, or the port is taken.
    """
    over = threading.Event()
    with _page(store, port, host) as page, _signals(over):
        _say(page, screen)
        over.wait()
    return Code.OK


@contextmanager
def _signals(over: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the page; afterwards both are what they were."""
    before = {
        number: signal.signal(number, lambda *_: over.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def beside(store: str, port: str | None, screen: Screen) -> Iterator[None]:
    """The page for as long as a run; `port` as it was typed, None for no page.

    Raises:
        Problem, ConfigError: it cannot be served; nothing was called yet.
    """
    if port is None:
        yield
        return
    with _page(store, port_of(port), "127.0.0.1") as page:
        _say(page, screen)
        yield


def _say(page: Dashboard, screen: Screen) -> None:
    screen.say("the live page, for whoever has this address:")
    screen.command(page.url)


def port_of(port: str | None) -> int | None:
    """The port as a number; None for any.

    Raises:
        Problem: it is none.
    """
    if port in (None, "auto"):
        return None
    if not (port.isascii() and port.isdecimal() and int(port) in PORTS):
        raise Problem(f"--dashboard {port}: give a port from 0 to {PORTS[-1]}, or none")
    return int(port)


def _page(store: str, port: int | None, host: str) -> Any:
    for module in ("starlette", "uvicorn"):
        extra(module, "dashboard", "the live page")
    from cottonpalm.live.server import Dashboard

    return Dashboard(store, port, host=host)
