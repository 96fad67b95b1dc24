"""What an adapter of one provider's Batch API can do. All of it is pure: requests are built, replies are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import Ask, BatchLimits, BatchState, Line, Page, Result


class Place(NamedTuple):
    """Where the Batch API begins, the endpoint as its lines name it, and the model."""

    root: str
    endpoint: str
    model: str


class Adapter(Protocol):
    """One provider's Batch API.

    Attributes:
        name: of the provider, as in `Lane.provider`.
        limits: as documented; an account may have lower ones.
        tagged: whether a batch keeps our tag, so that it can be found again for certain.
        newest_first: the order of a listing is known.
        headers: of a live request that change what is answered.
    """

    name: str
    limits: BatchLimits
    tagged: bool
    newest_first: bool
    headers: tuple[str, ...]

    def place(self, path: str, body: Mapping[str, Any]) -> Place | None:
        """Where a live request goes in this Batch API; None where it does not serve that path."""

    def refuses(self, body: Mapping[str, Any]) -> str | None:
        """Why no line can hold this body, or None."""

    def line(self, lane: Lane, line: Line) -> bytes:
        """The line as it is sent, without a line break."""

    def upload(self, lane: Lane, tag: str, length: int, where: str | None = None) -> Ask | None:
        """Sends the file of lines, of `length` bytes; None where `create` holds the lines itself.

        A provider that first tells where to send it answers with the header `x-goog-upload-url`: `where` is its value.
        """

    def uploaded(self, reply: Mapping[str, Any]) -> str:
        """The id of the uploaded file."""

    def create(self, lane: Lane, tag: str, input_file_id: str | None) -> Ask:
        """Submits the batch: from here on it costs money."""

    def look(self, lane: Lane, batch_id: str) -> Ask:
        """Asks where a batch stands."""

    def cancel(self, lane: Lane, batch_id: str) -> Ask:
        """Asks to stop a batch; what is done stays done, and paid."""

    def remove(self, lane: Lane, input_file_id: str) -> Ask:
        """Deletes the file of lines, once its batch is collected."""

    def listing(self, lane: Lane) -> Ask:
        """Asks for the account's batches."""

    def page(self, lane: Lane, reply: Mapping[str, Any], asked: Ask) -> Page:
        """The part of a listing that `asked` was answered with."""

    def state(self, reply: Mapping[str, Any]) -> BatchState:
        """What `create`, `look` and most of `cancel` answer with."""

    def results(self, lane: Lane, state: BatchState) -> list[Ask]:
        """Ask for all files of results, each one a line a result; none where nothing came back."""

    def result(self, line: bytes) -> Result | None:
        """One line of a file of results; None where it is no result."""
