"""Anthropic's Message Batches: all lines in one request, no tag, and nothing told of a row before the batch ends."""

# ruff: noqa: ARG002 - an adapter is asked the same for every provider
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers.answer import loads, sub, text_of, written
from cottonpalm.providers.batches.adapter import Place
from cottonpalm.providers.batches.lines import Ask, BatchLimits, BatchState, Line, Page, Phase, Result
from cottonpalm.providers.batches.replies import number, stamp, text, texts, without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import Lost

VERSION: Final = "2023-06-01"  # where the live request names none
STATUS: Final = {  # what a live request that failed so would have been answered with
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
LOST: Final[dict[str, Lost]] = {"expired": "expired", "canceled": "cancelled"}
_LIVE: Final = re.compile(r"(?P<root>.*)/messages")


class AnthropicBatches:
    """Message Batches."""

    name = "anthropic"
    limits = BatchLimits(rows=100_000, file_bytes=256_000_000, line_bytes=32_000_000, queued_rows=100_000)
    tagged = False
    newest_first = True
    headers: tuple[str, ...] = ("anthropic-version", "anthropic-beta")

    def place(self, path: str, body: Mapping[str, Any]) -> Place | None:
        """See `adapter.Adapter`."""
        found, model = _LIVE.fullmatch(path), text(body.get("model"))
        return Place(found["root"], "/v1/messages", model) if found and model else None

    def refuses(self, body: Mapping[str, Any]) -> str | None:
        """See `adapter.Adapter`."""
        if body.get("stream"):
            return "its answer is streamed"
        if named := sorted({"speed", "store"} & body.keys()):
            return f"Anthropic's batches do not take {named[0]!r}"
        return None if number(body.get("max_tokens")) else "Anthropic's batches want max_tokens of at least 1"

    def line(self, lane: Lane, line: Line) -> bytes:
        """See `adapter.Adapter`."""
        return written({"custom_id": line.custom_id, "params": without(line.body, "stream")})

    def upload(self, lane: Lane, tag: str, length: int, where: str | None = None) -> None:
        """Nothing: the lines travel in `create`."""

    def uploaded(self, reply: Mapping[str, Any]) -> str:
        """Never asked."""
        return ""

    def create(self, lane: Lane, tag: str, input_file_id: str | None) -> Ask:
        """See `adapter.Adapter`."""
        headers = {"content-type": "application/json", **_headers(lane)}
        return Ask("POST", f"{lane.base}/messages/batches", headers, b'{"requests":[', b",", b"]}")

    def look(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("GET", f"{lane.base}/messages/batches/{batch_id}", _headers(lane))

    def cancel(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("POST", f"{lane.base}/messages/batches/{batch_id}/cancel", _headers(lane))

    def remove(self, lane: Lane, input_file_id: str) -> Ask:
        """Never asked: there is no file."""
        return Ask("DELETE", f"{lane.base}/{input_file_id}", _headers(lane))

    def listing(self, lane: Lane) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("GET", f"{lane.base}/messages/batches?limit=100", _headers(lane))

    def page(self, lane: Lane, reply: Mapping[str, Any], asked: Ask) -> Page:
        """See `adapter.Adapter`."""
        found = reply.get("data")
        states = tuple(self.state(batch) for batch in found) if isinstance(found, list) else ()
        last = text(reply.get("last_id"))
        if not states or not last or not reply.get("has_more"):
            return Page(states)
        url = f"{lane.base}/messages/batches?limit=100&after_id={last}"
        return Page(states, Ask("GET", url, _headers(lane)))

    def state(self, reply: Mapping[str, Any]) -> BatchState:
        """See `adapter.Adapter`. Where an ended batch ended by time or by request, its counts tell."""
        counts = {name: number(value) for name, value in sub(reply, "request_counts").items()}
        gone = reply.get("archived_at") is not None
        return BatchState(
            text_of(reply.get("id")),
            _phase(text_of(reply.get("processing_status")), counts),
            sum(counts.values()) or None,
            counts.get("succeeded", 0),
            counts.get("errored", 0),
            stamp(reply.get("created_at")),
            stamp(reply.get("ended_at")),
            results=() if gone else texts(reply.get("results_url")),
            gone=gone,
        )

    def results(self, lane: Lane, state: BatchState) -> list[Ask]:
        """See `adapter.Adapter`. The address is made anew: a reply does not say where credentials are sent to."""
        url = f"{lane.base}/messages/batches/{state.batch_id}/results"
        return [Ask("GET", url, _headers(lane))] if state.results else []

    def result(self, line: bytes) -> Result | None:
        """See `adapter.Adapter`."""
        found = loads(line)
        custom_id = text(found.get("custom_id")) if isinstance(found, dict) else None
        if custom_id is None:
            return None
        result = sub(found, "result")
        kind = text_of(result.get("type"))
        if kind == "succeeded" and (message := sub(result, "message")):
            return Result(custom_id, 200, message)
        error = sub(result, "error")
        if kind == "errored" and error:
            return Result(custom_id, STATUS.get(text_of(sub(error, "error").get("type")), 500), error)
        return Result(custom_id, 0, lost=LOST.get(kind, "failed"), why=kind)


def _headers(lane: Lane) -> dict[str, str]:
    """The version and the betas of the live request: another version might answer otherwise."""
    return {"anthropic-version": VERSION, **dict(lane.headers)}


def _phase(status: str, counts: Mapping[str, int]) -> Phase:
    if status != "ended":
        return Phase.CANCELLING if status == "canceling" else Phase.IN_PROGRESS
    if counts.get("canceled"):
        return Phase.CANCELLED
    return Phase.EXPIRED if counts.get("expired") else Phase.COMPLETED
