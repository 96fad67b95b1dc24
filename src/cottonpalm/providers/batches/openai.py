"""OpenAI's Batch API: a file of lines and a batch made of it. Azure, Groq and Together speak it as well."""

# ruff: noqa: ARG002 - an adapter is asked the same for every provider
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

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
from cottonpalm.providers.batches.replies import number, stamp, text, texts, without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import Lost

TAG: Final = "cottonpalm"  # the name of our tag in a batch's metadata
LOST: Final[dict[str, Lost]] = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
REFUSED: Final = {"model_not_found": 404, "parse_error": 400, "invalid_request": 400}  # a line's own fault
MB: Final = 1_000_000
_BOUNDARY: Final = "cottonpalm-part-boundary-7f1f6d0c"  # a line is JSON on one line: this never begins one
_LIVE: Final = re.compile(r"(?P<root>.*)(?P<end>/chat/completions|/responses)")
_AZURE: Final = re.compile(
    r"(?P<root>.*/openai)(?:/v1|/deployments/(?P<model>[^/]+))?(?P<end>/chat/completions|/responses)"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what a provider differs, as data.

    Attributes:
        name: of the provider.
        limits: as documented.
        live: the paths of live requests: `root`, `end` and, where the path names it, `model`.
        endpoints: what a line calls the path that ends so.
        purpose: of an uploaded file.
        upload: where files are sent to, behind the root.
        fields: more fields that an upload must have.
        full_lines: lines say method and path, not only the body.
        tagged: batches keep metadata.
    """

    name: str
    limits: BatchLimits
    live: re.Pattern[str] = _LIVE
    endpoints: tuple[tuple[str, str], ...] = (("/chat/completions", "/v1/chat/completions"),)
    purpose: str = "batch"
    upload: str = "/files"
    fields: tuple[tuple[str, str], ...] = ()
    full_lines: bool = True
    tagged: bool = True


OPENAI: Final = Dialect(
    "openai",
    BatchLimits(rows=50_000, file_bytes=200 * MB),
    endpoints=(("/chat/completions", "/v1/chat/completions"), ("/responses", "/v1/responses")),
)
AZURE: Final = Dialect(
    "azure",
    BatchLimits(rows=50_000, file_bytes=200 * MB),
    live=_AZURE,
    endpoints=(("/chat/completions", "/chat/completions"), ("/responses", "/v1/responses")),
)
GROQ: Final = Dialect("groq", BatchLimits(rows=50_000, file_bytes=200 * MB))
TOGETHER: Final = Dialect(
    "together",
    BatchLimits(rows=50_000, file_bytes=100 * MB, queued_tokens=30_000_000_000),
    purpose="batch-api",
    upload="/files/upload",
    fields=(("file_type", "jsonl"),),
    full_lines=False,
    tagged=False,
)


class OpenAIBatches:
    """Files and Batches."""

    headers: tuple[str, ...] = ()
    listed: ClassVar[str] = "/batches?limit=100"
    batches: ClassVar[str] = "/batches"

    def __init__(self, dialect: Dialect = OPENAI) -> None:
        self.dialect = dialect
        self.name, self.limits, self.tagged = dialect.name, dialect.limits, dialect.tagged
        self.newest_first = True

    def place(self, path: str, body: Mapping[str, Any]) -> Place | None:
        """See `adapter.Adapter`."""
        found = self.dialect.live.fullmatch(path)
        endpoint = dict(self.dialect.endpoints).get(found["end"]) if found else None
        if found is None or endpoint is None:
            return None
        named = found.groupdict().get("model") or text(body.get("model"))
        root = found["root"] + "/v1" if self.dialect is AZURE else found["root"]
        return Place(root, endpoint, named) if named else None

    def refuses(self, body: Mapping[str, Any]) -> str | None:
        """See `adapter.Adapter`."""
        return "its answer is streamed" if body.get("stream") else None

    def line(self, lane: Lane, line: Line) -> bytes:
        """See `adapter.Adapter`. The price of a batch is its own: a tier of service has no place in it."""
        body = {**without(line.body, "stream", "stream_options", "service_tier"), "model": lane.model}
        if not self.dialect.full_lines:
            return written({"custom_id": line.custom_id, "body": body})
        return written({"custom_id": line.custom_id, "method": "POST", "url": lane.endpoint, "body": body})

    def upload(self, lane: Lane, tag: str, length: int, where: str | None = None) -> Ask:
        """See `adapter.Adapter`. The file's name holds our tag, so that a stray one can be told."""
        name = f"cottonpalm-{tag}.jsonl"
        fields = [("purpose", self.dialect.purpose), *self.dialect.fields]
        if self.dialect.fields:
            fields.append(("file_name", name))
        form = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields
        )
        file = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        return Ask(
            "POST",
            lane.base + self.dialect.upload,
            {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
            (form + file).encode(),
            b"\n",
            f"\r\n--{_BOUNDARY}--\r\n".encode(),
        )

    def uploaded(self, reply: Mapping[str, Any]) -> str:
        """See `adapter.Adapter`."""
        return text_of(reply.get("id"))

    def create(self, lane: Lane, tag: str, input_file_id: str | None) -> Ask:
        """See `adapter.Adapter`."""
        body: dict[str, Any] = {
            "input_file_id": input_file_id,
            "endpoint": lane.endpoint,
            "completion_window": "24h",
        }
        if self.tagged:
            body["metadata"] = {TAG: tag}
        return self._post(lane, body)

    def look(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("GET", f"{lane.base}{self.batches}/{batch_id}")

    def cancel(self, lane: Lane, batch_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("POST", f"{lane.base}{self.batches}/{batch_id}/cancel")

    def remove(self, lane: Lane, input_file_id: str) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("DELETE", f"{lane.base}/files/{input_file_id}")

    def listing(self, lane: Lane) -> Ask:
        """See `adapter.Adapter`."""
        return Ask("GET", lane.base + self.listed)

    def page(self, lane: Lane, reply: Mapping[str, Any], asked: Ask) -> Page:
        """See `adapter.Adapter`."""
        found = reply.get("data")
        states = tuple(self.state(batch) for batch in found) if isinstance(found, list) else ()
        if not states or not reply.get("has_more"):
            return Page(states)
        return Page(states, Ask("GET", f"{lane.base}{self.listed}&after={states[-1].batch_id}"))

    def state(self, reply: Mapping[str, Any]) -> BatchState:
        """See `adapter.Adapter`. Together wraps what it created, and writes statuses in capitals."""
        batch = sub(reply, "job") or reply
        counts = sub(batch, "request_counts")
        ends = ("completed_at", "expired_at", "cancelled_at", "failed_at")
        return BatchState(
            text_of(batch.get("id")),
            phase(batch.get("status")),
            number(counts.get("total")) or None,
            number(counts.get("completed")),
            number(counts.get("failed")),
            stamp(batch.get("created_at")),
            next((at for end in ends if (at := stamp(batch.get(end)))), None),
            text(sub(batch, "metadata").get(TAG)),
            text(batch.get("input_file_id")),
            texts(batch.get("output_file_id"), batch.get("error_file_id")),
            _faults(batch),
            share=_share(batch.get("progress")),
        )

    def results(self, lane: Lane, state: BatchState) -> list[Ask]:
        """See `adapter.Adapter`. Answers and errors come in two files, of which either may be missing."""
        return [Ask("GET", f"{lane.base}/files/{file}/content") for file in state.results]

    def result(self, line: bytes) -> Result | None:
        """See `adapter.Adapter`. The line tells what became of it, not the file that it stands in."""
        found = loads(line)
        custom_id = text(found.get("custom_id")) if isinstance(found, dict) else None
        if custom_id is None:
            return None
        response, body = sub(found, "response"), sub(found, "response", "body")
        status = number(response.get("status_code"))
        if not status or not body:
            return _without_answer(custom_id, sub(found, "error"))
        return Result(custom_id, status, body)

    def _post(self, lane: Lane, body: dict[str, Any]) -> Ask:
        return Ask("POST", lane.base + self.batches, {"content-type": "application/json"}, written(body))


def phase(status: object) -> Phase:
    """An unknown status is taken for one that will change."""
    try:
        return Phase(text_of(status).lower())
    except ValueError:
        return Phase.IN_PROGRESS


def _share(percent: object) -> float:
    """What Together says in place of counts."""
    return min(1.0, max(0.0, percent / 100)) if isinstance(percent, int | float) else 0.0


def _faults(batch: Mapping[str, Any]) -> tuple[BatchFault, ...]:
    found = sub(batch, "errors").get("data")
    if isinstance(found, list):
        rows = [sub(fault) for fault in found]
        return tuple(
            BatchFault(text_of(row.get("code")), text_of(row.get("message")), number(row.get("line")) or None)
            for row in rows
        )
    return (BatchFault("failed", said),) if (said := text(batch.get("error"))) else ()


def _without_answer(custom_id: str, error: Mapping[str, Any]) -> Result:
    code, why = text_of(error.get("code")), text_of(error.get("message"))
    if status := REFUSED.get(code):
        said = {"message": why, "type": "invalid_request_error", "param": None, "code": code}
        return Result(custom_id, status, {"error": said})
    return Result(custom_id, 0, lost=LOST.get(code, "failed"), why=f"{code}: {why}".strip(": "))
