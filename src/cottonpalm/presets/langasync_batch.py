"""The batch of a call by langasync: what is kept of it, whether an earlier call has made it, the wait until it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import httpx

from cottonpalm import clock
from cottonpalm.errors import CottonpalmError
from cottonpalm.providers.batches.lanes import whose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cottonpalm.config import BatchLane

log = logging.getLogger("cottonpalm")
_GONE: Final = 404
_PASSING: Final = frozenset({_GONE, 408, 409, 429})
_PAGES: Final = 100  # of the list of batches
_CLOCKS_DIFFER_S: Final = 86_400.0  # the provider's and ours, at most
_LONGEST: Final = 20  # times the shortest wait between two looks


def not_taken(file: Path) -> bool:
    """Whether an earlier call has raised what the parser said of an answer of this batch."""
    return file.exists() and bool(json.loads(file.read_text()).get("not_taken"))


def note_not_taken(file: Path) -> None:
    """A parser did not take an answer of this batch: the call raises that."""
    _write(file, {**json.loads(file.read_text()), "not_taken": True})


def _write(file: Path, kept: Mapping[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(kept))
    part.replace(file)


class Job:
    """What is kept of the batch, in place of langasync's own job files."""

    def __init__(self, file: Path, rows: int, key: str) -> None:
        self._file, self.rows, self._key = file, rows, key
        kept = json.loads(file.read_text()) if file.exists() else {}
        self.id: str | None = kept.get("id")
        self.input_file: str | None = kept.get("input_file")
        self.since: float | None = kept.get("since")
        self._whose: str | None = kept.get("whose")
        self.created_at: Any = None

    def begin(self, input_file: str) -> None:
        """It is about to be made of this file."""
        self.input_file, self.since = input_file, clock.wall()
        self._whose = self._who(input_file)
        self._write()

    def check_key(self) -> None:
        """What the provider does not have may be there all the same for another key.

        Raises:
            CottonpalmError: it was made with another one.
        """
        if self.input_file is not None and self._whose not in {None, self._who(self.input_file)}:
            raise CottonpalmError(
                f"the provider does not know batch {self.id or 'of ' + self.input_file} with this key, and it was"
                " made with another one. Nothing was asked anew: make the same call with that key, or delete"
                f" {self._file} to give the batch up"
            )

    def _who(self, input_file: str) -> str:
        return whose({"authorization": self._key}, input_file)

    def forget(self) -> None:
        """It was surely not made."""
        self.input_file = self.since = None
        self._file.unlink(missing_ok=True)

    def made(self, id_: str) -> None:
        """It was made."""
        self.id = id_
        self._write()

    async def get(self, _job_id: str) -> SimpleNamespace:
        """What langasync marks as finished. It warns where there is nothing to mark."""
        return SimpleNamespace()

    async def save(self, _job: SimpleNamespace) -> None:
        """Do not keep the mark: the caller ends the batch, when the answers are safe."""

    def _write(self) -> None:
        kept = {"input_file": self.input_file, "since": self.since, "id": self.id, "whose": self._whose}
        _write(self._file, kept)


async def found(job: Job, adapter: Any, lane: BatchLane) -> bool:
    """Whether a batch that may have been made by an earlier call is there. It bears no mark: its file tells."""
    if job.since is None or job.input_file is None:
        return False
    # Only the other clock outlives a process, and it may have been set back: then it is counted from now on.
    since_s = clock.now() - max(0.0, clock.wall() - job.since)
    looks = _Looks(None, lane.listing_wait_s)
    while True:
        asked_s = clock.now()
        try:
            id_ = await _made_of(job.input_file, job.since, adapter)
        except Exception as exc:  # noqa: BLE001 - raised again, where it does not pass
            looks.failed(exc)
        else:
            looks.well()
            if id_ is not None:
                job.made(id_)
                return True
            if asked_s - since_s >= lane.listing_wait_s:
                job.check_key()
                job.forget()
                return False
        await asyncio.sleep(lane.poll_s)


async def _made_of(input_file: str, since: float, adapter: Any) -> str | None:
    """The batch that was made of this file since then. Others may have made hundreds meanwhile."""
    after: dict[str, str] = {}
    for _ in range(_PAGES):
        asked = {"limit": 100, **after}
        response = await adapter._client.get(f"{adapter.base_url}/batches", params=asked)  # noqa: SLF001 - it has no pages
        response.raise_for_status()
        page = response.json()
        batches = page.get("data") or [{}]  # newest first
        for batch in batches:
            if batch.get("input_file_id") == input_file:
                return str(batch["id"])
        old = (batches[-1].get("created_at") or 0) < since - _CLOCKS_DIFFER_S
        if old or not page.get("has_more"):
            break
        after = {"after": batches[-1]["id"]}
    return None


async def ended(handle: Any, job: Job, lane: BatchLane) -> Any:
    """Wait for the batch; return what it brought, or None: it is no longer kept."""
    from langasync.providers.interface import FINISHED_STATUSES  # noqa: PLC0415

    wait_s, looks = lane.poll_s, _Looks(job.id, lane.listing_wait_s, job.check_key)
    while True:
        try:
            found = await handle.get_results()
        except Exception as exc:  # noqa: BLE001 - raised again, where it does not pass
            if looks.failed(exc):
                return None
        else:
            looks.well()
            if found.status_info.status in FINISHED_STATUSES:
                return found
        await asyncio.sleep(wait_s)
        wait_s = min(1.5 * wait_s, _LONGEST * lane.poll_s)


class _Looks:
    """Looks fail for a while: as long as a listing may lag, that may pass.

    Args:
        id_: the batch that is looked at; None: the list of batches.
        wait_s: how long a listing may lag.
        gone: called before a batch counts as no longer kept; may raise.
    """

    def __init__(self, id_: str | None, wait_s: float, gone: Callable[[], None] = lambda: None) -> None:
        self._id, self._wait_s, self._gone = id_, wait_s, gone
        self._since_s: float | None = None

    def well(self) -> None:
        """One did not fail."""
        self._since_s = None

    def failed(self, exc: Exception) -> bool:
        """Whether the batch is no longer kept. False: look again.

        Raises:
            Exception: it does not pass.
        """
        cause = _cause(exc)
        if not _may_pass(cause):
            raise exc
        self._since_s = self._since_s or clock.now()
        if clock.now() - self._since_s < self._wait_s:
            return False
        gone = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == _GONE
        if gone and self._id is not None:
            self._gone()
            log.warning(
                "batch %s is no longer kept, and may have been paid for: its rows are asked again", self._id
            )
            return True
        what = "the list of batches" if self._id is None else f"batch {self._id}"
        raise CottonpalmError(
            f"{what} could not be looked at for {self._wait_s / 60:.0f} minutes ({exc}):"
            " the same call again goes on with it, and asks no row anew"
        ) from exc


def refused(exc: BaseException) -> bool:
    """Whether the request that makes the batch was refused."""
    cause = _cause(exc)
    return isinstance(cause, httpx.HTTPStatusError) and cause.response.is_client_error


def _may_pass(cause: httpx.HTTPStatusError | httpx.RequestError | None) -> bool:
    """Whether the same look may succeed a little later: a batch, too, may not be found for a moment."""
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code in _PASSING or cause.response.is_server_error
    return cause is not None


def _cause(exc: BaseException | None) -> httpx.HTTPStatusError | httpx.RequestError | None:
    """What went wrong with a request, behind an exception of langasync, which keeps only its text."""
    while exc is not None and not isinstance(exc, httpx.HTTPStatusError | httpx.RequestError):
        exc = exc.__cause__ or exc.__context__
    return exc
