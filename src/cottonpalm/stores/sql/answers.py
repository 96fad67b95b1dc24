"""The disk tier of the cache: answers by key, in a store that several processes use at once.

One thread with its own connection does all the work. It handles everything in its queue in one transaction. Other
processes see at once what it writes, even if this process crashes after that. A power cut may lose the last answers,
which are then asked for again.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from cottonpalm import clock
from cottonpalm.runtime import process_end
from cottonpalm.stores.sql import claims
from cottonpalm.stores.sql.claims import AnswerOnDisk, Claimant, Question
from cottonpalm.stores.sql.database import BUSY_S, Turnwise, in_transaction, through_cuts
from cottonpalm.stores.sql.lease import BEAT_S
from cottonpalm.types import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.errors import StoreError
    from cottonpalm.stores.sql.database import Database, Home

T = TypeVar("T")
Reply: TypeAlias = "tuple[Callable[[Any], None], Any]"  # a callback, and the value to call it with
log = logging.getLogger("cottonpalm")
FIRST_LOOK_S: Final = 0.02  # seconds until the first look at a question that another process asks...
LAST_LOOK_S: Final = 0.3  # ...the pauses between looks then grow up to this
_AT_ONCE: Final = 512  # the most jobs in one transaction


class Answers:
    """The answers in one file. All methods may be called from any thread; replies come on the thread of this object.

    If the file cannot be used any more, this is logged once, and the caller must ask every question itself: a cache
    that fails costs money, but never a row.
    """

    def __init__(self, database: Database, ttl_s: float | None = None, *, busy_s: float = BUSY_S) -> None:
        """Open or make the store.

        Raises:
            StoreError: it is foreign, newer than this version, locked, read-only, or cannot be made.
        """
        self._database, self._ttl_s = database, ttl_s
        database.prepare(busy_s)
        try:
            self._worker = _Worker(database, ttl_s, busy_s)
        except database.errors as exc:
            raise database.explained(exc) from exc
        self._finish = weakref.finalize(self, _end, database.home, self._worker)

    def ask(
        self, key: bytes, read: Callable[[AnswerOnDisk], Any], reply: Callable[[Any], None], *, claim: bool
    ) -> None:
        """Call `reply` with what `read` returns for the answer, or with whose turn it is to ask.

        Args:
            key: the key of the question.
            read: converts what was kept. If it raises, the answer is dropped as if it had never been there.
            reply: called once.
            claim: True: if there is no answer, this process claims the question until `put` or `release`.
        """
        self._worker.add(Question(key, read, reply, claim=claim))

    def watch(self, key: bytes, read: Callable[[AnswerOnDisk], Any], heard: Callable[[Any], None]) -> None:
        """Call `heard` with the answer when another process has it, or with None when no process asks any more."""
        self._worker.add(Question(key, read, heard, watch=True))

    def put(self, key: bytes, body: bytes, born: float) -> None:
        """Keep an answer that came at `born` (wall-clock time), and give the claim back."""
        self._worker.add(partial(claims.put, key=key, kept=AnswerOnDisk(body, born)))

    def release(self, key: bytes) -> None:
        """Give the claim back: there is no answer."""
        self._worker.add(partial(claims.release, key=key))

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return which of these questions have an answer, including answers put before this call. It blocks.

        Raises:
            StoreError: the file cannot be read.
        """
        self.settle()
        database = self._database
        try:
            db = database.connect()
            try:
                return claims.present(database, db, keys, self._ttl_s)
            finally:
                database.let_go(db)
        except database.errors as exc:
            raise database.explained(exc) from exc

    @property
    def failure(self) -> StoreError | None:
        """Why nothing is kept any more; None: all is."""
        return self._worker.failure

    def settle(self) -> None:
        """Wait until all that was put before this call is written, or cannot be."""
        written = threading.Event()
        # Its reply comes after those of all earlier jobs.
        self.ask(b"", lambda _: None, lambda _: written.set(), claim=False)
        written.wait()

    def close(self) -> None:
        """Write what is queued, give all claims back, close the file."""
        self._finish()
        if self._database.home.here:
            self._worker.join()


def _end(home: Home, worker: _Worker) -> None:
    if home.here:
        worker.end()
        if process_end.is_here():
            worker.join()


class _Worker:
    """The thread, and the state that only this thread touches."""

    def __init__(self, database: Database, ttl_s: float | None, busy_s: float) -> None:
        self._database, self._ttl_s = database, ttl_s
        self._jobs: deque[Question | Callable[[Claimant], None]] = deque()
        self._watched: list[Question] = []
        self._look_s = FIRST_LOOK_S
        self._wake = threading.Condition()
        self._closing = False
        self.failure: StoreError | None = None  # why the file cannot be used any more
        self._db = database.connect(busy_s, durable=False)
        try:
            self._claimant = claims.enter(database, self._db, ttl_s)
        except BaseException:
            database.let_go(self._db)
            raise
        self._last_beat = clock.now()
        self._thread = threading.Thread(target=self._work, name="cottonpalm-cache", daemon=True)
        self._thread.start()

    def add(self, job: Question | Callable[[Claimant], None]) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    def end(self) -> None:
        """Tell the thread that nothing more will come. It waits for nobody, as a finalizer must not."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def join(self) -> None:
        """Wait until it has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while self._turn():
            pass
        with suppress(*self._database.errors):
            self._in_transaction(self._claimant.leave)
        self._claimant.lease.unlock()
        self._database.let_go(self._db)

    def _turn(self) -> bool:
        """Do what there is to do; False: nothing will come any more. While it waits, the thread keeps no job alive."""
        if (jobs := self._next()) is None:
            return False
        try:
            replies = [] if self.failure else self._done(jobs)
        except Exception as exc:  # noqa: BLE001 - whatever it is: rows must not wait for it
            self._give_up(exc)
        if self.failure:
            replies = self._without_disk(jobs)
        for reply, found in replies:
            reply(found)
        return True

    def _next(self) -> list[Any] | None:
        """Return the queued jobs; an empty list if it is time to look at watched questions; None at the end."""
        with self._wake:
            if not self._jobs and not self._closing:
                self._wake.wait(self._look_s if self._watched else BEAT_S)
            if not self._jobs and self._closing:
                return None
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), _AT_ONCE))]

    def _done(self, jobs: list[Any]) -> list[Reply]:
        """Do all jobs in one transaction; return the replies to make."""
        new = [job for job in jobs if isinstance(job, Question) and job.watch]
        self._watched += new
        self._look_s = FIRST_LOOK_S if new else min(LAST_LOOK_S, self._look_s * 1.5)
        beat = clock.now() - self._last_beat > BEAT_S
        if not (jobs or self._watched or beat):
            return []
        if beat:
            self._last_beat = clock.now()
        # To ask, to keep and to give back once more comes to the same, also where it had taken effect.
        again = partial(self._in_transaction, partial(self._all, jobs, beat))
        replies, heard = through_cuts(self._database, again)
        self._watched = [question for question in self._watched if id(question) not in heard]
        return replies + list(heard.values())

    def _all(self, jobs: list[Any], beat: bool) -> tuple[list[Reply], dict[int, Reply]]:
        claimant, replies = self._claimant, []
        claimant.lease.keep(self._db)
        if claimant.lease.lost:  # somebody held us for dead while the connection was broken
            claimant.lease.enter(self._db)
        if beat:
            claimant.lease.beat(self._db)
        for job in jobs:
            if not isinstance(job, Question):
                job(claimant)
            elif not job.watch:
                replies.append((job.reply, claims.ask(claimant, job)))
        return replies, claims.heard(claimant, self._watched)

    def _in_transaction(self, work: Callable[[], T]) -> T:
        return in_transaction(self._database, self._db, work, Turnwise.CACHE)

    # -- used when the file cannot be used any more

    def _give_up(self, exc: Exception) -> None:
        self.failure = self._database.explained(exc)
        log.warning("the cache on disk is off from now on, rows are asked for: %s", self.failure)

    def _without_disk(self, jobs: list[Any]) -> list[Reply]:
        questions = {id(job): job for job in [*jobs, *self._watched] if isinstance(job, Question)}
        self._watched = []
        return [(asked.reply, None if asked.watch else Turn.MINE) for asked in questions.values()]
