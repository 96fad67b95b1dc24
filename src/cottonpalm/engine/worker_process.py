"""The program of a worker process: it has one end of a socket pair, and ends when the other end is closed."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import sys
from contextlib import closing
from typing import NoReturn

from cottonpalm.engine.executors.workers.links import cannot_begin
from cottonpalm.engine.executors.workers.pipe import Pipe


async def serve(end: socket.socket) -> None:
    """Work for the run at the other end until it is over, or gone."""
    with closing(await Pipe.over(end)) as pipe:
        await _work(pipe)


async def _work(pipe: Pipe) -> None:
    try:
        begin = await pipe.receive()
    except (EOFError, ConnectionError):
        _end_after_the_run()  # it was killed as it began
    from cottonpalm.engine.worker import Worker  # noqa: PLC0415 - while garbage is not looked for

    try:
        worker = Worker(begin)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the modules of a chain do when they are imported
        await pipe.send(cannot_begin(exc))
        return
    gc.freeze()
    gc.enable()
    hearing = asyncio.create_task(_hear(pipe, worker))
    try:
        while True:
            heard = await worker.hear()
            try:
                await pipe.send(heard)
            except OSError:
                # `_hear` has not seen the end yet, and to leave by it would wait for a row's thread, perhaps for ever.
                _end_after_the_run()
            if heard.over is not None:
                return
    finally:
        hearing.cancel()
        await worker.close()


async def _hear(pipe: Pipe, worker: object) -> None:
    try:
        while True:
            await worker.tell(await pipe.receive())  # type: ignore[attr-defined]
    except (EOFError, OSError):
        _end_after_the_run()  # nobody wants what is under way


def _end_after_the_run() -> NoReturn:
    """End at once, and remove the folder that the run has for its workers: a run that was killed cannot."""
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def main() -> None:
    """Take over the socket whose number was given, for a run that may have a folder, which is given after it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which tells us
    gc.disable()  # until the chain is there: what is loaded stays, and to look through it costs a tenth of loading it
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
