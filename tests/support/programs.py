"""Programs that are forked from a server which has imported what they need: a life of one takes as long as its work."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import chdir
from multiprocessing import connection, forkserver, reduction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.loopback import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# What the server imports before it forks.
WARM = ("tests.batchlane.warm", "tests.batchlane.agent", "tests.cli.warm")


def programs() -> Any:
    """What makes programs: a server, itself single-threaded, that has imported everything and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*WARM])
    with chdir(ROOT):  # the server finds what it imports there
        forkserver.ensure_running()
    return context


def at_end(process: Any, call: Callable[[], object]) -> None:
    """Call this when the program has ended."""

    def wait() -> None:
        connection.wait([process.sentinel])
        call()

    threading.Thread(target=wait, daemon=True).start()


class Program(subprocess.Popen[Any]):
    """`python -m MODULE WORDS` as a process of its own, with the options of `Popen`, that is loaded when it begins.

    Args:
        words: the module's name, and its arguments, which become text.
        options: `stdin`, `stdout`, `stderr`, `cwd`, `env`, `text`, `start_new_session`, and `preexec_fn`, a function
            that can be pickled.
    """

    def __init__(self, words: Sequence[object], **options: Any) -> None:
        super().__init__(list(map(str, words)), **options)

    def _execute_child(self, args: list[str], *given: Any) -> None:  # type: ignore[override,unused-ignore]
        _, first, _, _, cwd, env = given[:6]
        ours, session = given[9:15], given[20]
        streams = [
            _Passed(number if fd == -1 else fd) for number, fd in enumerate((ours[0], ours[3], ours[5]))
        ]
        env = dict(os.environ if env is None else env)
        begins = Beginning(args, os.fspath(cwd or Path.cwd()), env, streams, session, first)
        self._process = programs().Process(target=_become, args=(begins,))
        self._process.start()
        self.pid = self._process.pid
        self._child_created = True  # type: ignore[attr-defined,unused-ignore]
        self._close_pipe_fds(*ours)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        self._ended(0)
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        ended = self._ended(0 if flags else None)
        return (self.pid, self._status) if ended else (0, 0)

    def _ended(self, timeout_s: float | None) -> bool:
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is not None:
            self.returncode, self._status = code, code << 8 if code >= 0 else -code
        return code is not None


class Cottonpalm(Program):
    """`cottonpalm WORDS`."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        super().__init__(["cottonpalm", *words], **options)


def run(words: Sequence[str], *, given: Any = None, **options: Any) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of a `Cottonpalm`; `given` goes to its standard input."""
    if given is not None:
        options["stdin"] = subprocess.PIPE
    with Cottonpalm(words, **options) as process:
        out, err = process.communicate(given)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


class _Passed:
    """A descriptor on its way to a program, where it is a number again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> Any:
        return _arrived, (reduction.DupFd(self._fd),)


def _arrived(passed: Any) -> int:
    return int(passed.detach())


class Beginning(NamedTuple):
    """How a program begins; of its streams, their descriptors."""

    args: list[str]
    folder: str
    environment: Mapping[str, str]
    streams: Sequence[Any]
    session: bool
    first: Callable[[], object] | None


def _become(begins: Beginning) -> None:
    """What the fork does: it is the program from here on."""
    assert all(name in sys.modules for name in WARM), "the server could not import what is used"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal...
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ...and not under `nohup`, as the tests may be
    if begins.session:
        os.setsid()
    for number, fd in enumerate(begins.streams):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(begins.environment)
    os.chdir(begins.folder)
    if begins.first is not None:
        begins.first()
    sys.stdin, sys.stdout, sys.stderr = _opened(0, "r"), _opened(1, "w"), _opened(2, "w", buffering=1)
    sys.path.insert(0, begins.folder)
    sys.argv = begins.args
    try:
        runpy.run_module(begins.args[0], run_name="__main__", alter_sys=True)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, AttributeError):  # nobody reads it, or it was closed from the beginning
            sys.stdout = sys.stderr = None  # type: ignore[assignment]  # what is left would change the exit code


def _opened(fd: int, mode: str, **how: Any) -> Any:
    """A standard stream as Python makes it: None where it is closed."""
    try:
        return open(fd, mode, closefd=False, **how)
    except OSError:
        return None
