"""Mistral's batch jobs: OpenAI's files and lines, with words of its own for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from cottonpalm.providers.answer import sub, text_of
from cottonpalm.providers.batches.lines import Ask, BatchFault, BatchLimits, BatchState, Page, Phase
from cottonpalm.providers.batches.openai import MB, TAG, Dialect, OpenAIBatches
from cottonpalm.providers.batches.replies import number, stamp, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.lanes import Lane

MISTRAL: Final = Dialect("mistral", BatchLimits(rows=100_000, file_bytes=512 * MB), full_lines=False)
PHASES: Final = {
    "QUEUED": Phase.VALIDATING,
    "RUNNING": Phase.IN_PROGRESS,
    "SUCCESS": Phase.COMPLETED,
    "FAILED": Phase.FAILED,
    "TIMEOUT_EXCEEDED": Phase.EXPIRED,
    "CANCELLATION_REQUESTED": Phase.CANCELLING,
    "CANCELLED": Phase.CANCELLED,
}
_PAGE: Final = 100


class MistralBatches(OpenAIBatches):
    """Files and batch jobs."""

    batches: ClassVar[str] = "/batch/jobs"

    def __init__(self) -> None:
        super().__init__(MISTRAL)
        self.newest_first = False

    def create(self, lane: Lane, tag: str, input_file_id: str | None) -> Ask:
        """See `adapter.Adapter`."""
        body = {
            "input_files": [input_file_id],
            "endpoint": lane.endpoint,
            "model": lane.model,
            "metadata": {TAG: tag},
            "timeout_hours": 24,
        }
        return self._post(lane, body)

    def listing(self, lane: Lane) -> Ask:
        """See `adapter.Adapter`."""
        return self._numbered(lane, 0)

    def _numbered(self, lane: Lane, page: int) -> Ask:
        return Ask("GET", f"{lane.base}{self.batches}?page_size={_PAGE}&page={page}")

    def page(self, lane: Lane, reply: Mapping[str, Any], asked: Ask) -> Page:
        """See `adapter.Adapter`. Pages are counted from 0; a full one may not be the last."""
        found = reply.get("data")
        states = tuple(self.state(job) for job in found) if isinstance(found, list) else ()
        page = int(asked.url.rpartition("=")[2])
        return Page(states, self._numbered(lane, page + 1) if len(states) == _PAGE else None)

    def state(self, reply: Mapping[str, Any]) -> BatchState:
        """See `adapter.Adapter`."""
        files, errors = reply.get("input_files"), reply.get("errors")
        faults = [sub(error) for error in errors] if isinstance(errors, list) else []
        return BatchState(
            text_of(reply.get("id")),
            PHASES.get(text_of(reply.get("status")), Phase.IN_PROGRESS),
            number(reply.get("total_requests")) or None,
            number(reply.get("succeeded_requests")),
            number(reply.get("failed_requests")),
            stamp(reply.get("created_at")),
            stamp(reply.get("completed_at")),
            text(sub(reply, "metadata").get(TAG)),
            text(files[0]) if isinstance(files, list) and files else None,
            texts(reply.get("output_file"), reply.get("error_file")),
            tuple(BatchFault("failed", text_of(fault.get("message"))) for fault in faults),
        )
