"""Gemini's batches: an uploaded file of lines, a long-running operation, and a file of responses."""

# ruff: noqa: ARG002 - an adapter is asked the same for every provider
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import loads, sub, text_of, written
from cottonpalm.providers.batches.adapter import Place
from cottonpalm.providers.batches.lines import (
    Ask,
    BatchFault,
    BatchLimits,
    BatchState,
    Line,
    Page,
    Phase,
    Result,
)
from cottonpalm.providers.batches.replies import number, stamp, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.lanes import Lane

PHASES: Final = {
    "PENDING": Phase.VALIDATING,
    "QUEUED": Phase.VALIDATING,
    "PAUSED": Phase.IN_PROGRESS,
    "RUNNING": Phase.IN_PROGRESS,
    "UPDATING": Phase.IN_PROGRESS,
    "SUCCEEDED": Phase.COMPLETED,
    "PARTIALLY_SUCCEEDED": Phase.COMPLETED,
    "FAILED": Phase.FAILED,
    "CANCELLING": Phase.CANCELLING,
    "CANCELLED": Phase.CANCELLED,
    "EXPIRED": Phase.EXPIRED,
}
CODES: Final = {  # of google.rpc.Status: the HTTP status and the name of a live error
    1: (499, "CANCELLED"),
    2: (500, "UNKNOWN"),
    3: (400, "INVALID_ARGUMENT"),
    4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"),
    7: (403, "PERMISSION_DENIED"),
    8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"),
    11: (400, "OUT_OF_RANGE"),
    12: (501, "UNIMPLEMENTED"),
    13: (500, "INTERNAL"),
    14: (503, "UNAVAILABLE"),
    16: (401, "UNAUTHENTICATED"),
}
_LIVE: Final = re.compile(r"(?P<root>.*)/models/(?P<model>[^/:]+):generateContent")
_STATE: Final = re.compile(r"(?:BATCH|JOB)_STATE_")


class GeminiBatches:
    """Files and batchGenerateContent."""

    name = "gemini"
    limits = BatchLimits(rows=None, file_bytes=2_000_000_000)
    tagged = True
    newest_first = False
    headers: tuple[str, ...] = ()

    def place(self, path: str, body: Mapping[str, Any]) -> Place | None:
        """See `adapter.Adapter`."""
        found = _LIVE.fullmatch(path)
        return Place(found["root"], "generateContent", found["model"]) if found else None

    def refuses(self, body: Mapping[str, Any]) -> str | None:
        """See `adapter.Adapter`."""
        return None

    def line(self, lane: Lane, line: Line) -> bytes:
        """See `adapter.Adapter`."""
        return written({"key": line.custom_id, "request": line.body})

    def upload(self, lane: Lane, tag: str, length: int, where: str | None = None) -> Ask:
        """See `adapter.Adapter`. The first request names the file, the second holds it."""
        if where is not None:
            headers = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
            return Ask("POST", where, headers, joint=b"\n")
        headers = {
            "content-type": "application/json",
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(length),
            "x-goog-upload-header-content-type": "application/jsonl",
        }
        named = written({"file": {"display_name": f"cottonpalm-{tag}", "mime_type": "application/jsonl"}})
        return Ask("POST", f"{lane.origin}/upload{lane.root}/files", headers, named)

    def uploaded(self, reply: Mapping[str, Any]) -> str:
        """See `adapter.Adapter`."""
        return text_of(sub(reply, "file").get("name"))

    def create(self, lane: Lane, tag: str, input_file_id: str | None) -> Ask:
        """See `adapter.Adapter`. Our tag is the name that a batch is shown by."""
        batch = {"displayName": f"cottonpalm-{tag}", "inputConfig": {"fileName": input_file_id}}
        url = f"{lane.base}/models/{lane.model}:batchGenerateContent"
        return Ask("POST", url, {"content-type": "application/json"}, written({"batch": batch}))

    def look(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`. An id is `batches/...`."""
        return Ask("GET", f"{lane.base}/{batch_id}")

    def cancel(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("POST", f"{lane.base}/{batch_id}:cancel")

    def remove(self, lane: Lane, input_file_id: str) -> Ask:
        """See `adapter.Adapter`. The id begins with `files/`."""
        return Ask("DELETE", f"{lane.base}/{input_file_id}")

    def listing(self, lane: Lane) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("GET", f"{lane.base}/batches?pageSize=100")

    def page(self, lane: Lane, reply: Mapping[str, Any], asked: Ask) -> Page:
        """See `adapter.Adapter`."""
        found, token = reply.get("operations"), text(reply.get("nextPageToken"))
        states = tuple(self.state(batch) for batch in found) if isinstance(found, list) else ()
        more = Ask("GET", f"{lane.base}/batches?pageSize=100&pageToken={token}") if token else None
        return Page(states, more)

    def state(self, reply: Mapping[str, Any]) -> BatchState:
        """See `adapter.Adapter`."""
        about = sub(reply, "metadata")
        stats, error = sub(about, "batchStats"), sub(reply, "error")
        state = PHASES.get(_STATE.sub("", text_of(about.get("state"))), Phase.IN_PROGRESS)
        name = text_of(about.get("displayName"))
        return BatchState(
            text_of(reply.get("name")),
            Phase.FAILED if error and state not in (Phase.CANCELLED, Phase.EXPIRED) else state,
            number(stats.get("requestCount")) or None,
            number(stats.get("successfulRequestCount")),
            number(stats.get("failedRequestCount")),
            stamp(about.get("createTime")),
            stamp(about.get("endTime")),
            name.removeprefix("cottonpalm-") if name.startswith("cottonpalm-") else None,
            text(sub(about, "inputConfig").get("fileName")),
            texts(_responses(reply)),
            (_fault(error),) if error else (),
        )

    def results(self, lane: Lane, state: BatchState) -> list[Ask]:
        """See `adapter.Adapter`."""
        return [Ask("GET", f"{lane.base}/{file}:download?alt=media") for file in state.results]

    def result(self, line: bytes) -> Result | None:
        """See `adapter.Adapter`."""
        found = loads(line)
        key = text(found.get("key")) if isinstance(found, dict) else None
        if key is None:
            return None
        if response := sub(found, "response"):
            return Result(key, 200, response)
        error = sub(found, "error")
        status, name = CODES.get(number(error.get("code")), (500, "UNKNOWN"))
        if not error or status == 499:
            return Result(key, 0, lost="cancelled" if error else "failed", why=text_of(error.get("message")))
        said = {"code": status, "message": text_of(error.get("message")), "status": name}
        return Result(key, status, {"error": said})


def _responses(reply: Mapping[str, Any]) -> object:
    """Which file holds the responses: both places are documented."""
    of_batch = sub(reply, "metadata", "output").get("responsesFile")
    return of_batch or sub(reply, "response").get("responsesFile")


def _fault(error: Mapping[str, Any]) -> BatchFault:
    _, name = CODES.get(number(error.get("code")), (500, "UNKNOWN"))
    return BatchFault(name, text_of(error.get("message")))
