"""Which lines go into one batch: pure counting of rows, bytes and tokens, with nothing held but three numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.providers.batches.lines import BatchLimits

SLACK: Final = 0.95  # of a limit is filled: tokens are estimates, and providers count bytes in their own way
# of the tokens that may wait is put into one batch, so that a second one can wait meanwhile
SHARE: Final = 0.5
FRAME: Final = 1024  # bytes round the lines of a request: form fields, brackets


@dataclass(frozen=True, slots=True)
class Room:
    """The most that one batch may hold; None: no bound."""

    rows: int | None
    size: int
    line: int | None
    tokens: int | None


@dataclass(slots=True)
class Pack:
    """What a batch holds so far: rows, bytes with line breaks, estimated input tokens, pico-dollars set aside.

    `dearest` is the most of these pico-dollars that are set aside for one line.
    """

    rows: int = 0
    size: int = 0
    tokens: int = 0
    reserved: int = 0
    dearest: int = 0

    def fits(self, room: Room, size: int, tokens: int) -> bool:
        """Whether one more line of `size` bytes (with its line break) may go in. The first of a batch always may."""
        if not self.rows:
            return True
        return (
            (room.rows is None or self.rows < room.rows)
            and self.size + size <= room.size
            and (room.tokens is None or self.tokens + tokens <= room.tokens)
        )

    def add(self, size: int, tokens: int, reserved: int = 0) -> None:
        """Count one line."""
        self.rows += 1
        self.size += size
        self.tokens += tokens
        self.reserved += reserved
        self.dearest = max(self.dearest, reserved)


def room_in(limits: BatchLimits, *, rows: int | None = None, queued_tokens: int | None = None) -> Room:
    """How much to put into one batch.

    Args:
        limits: of the provider.
        rows: a lower number of rows, as the caller wants it.
        queued_tokens: what this account's tier lets wait, where it is known and differs.
    """
    waiting = queued_tokens if queued_tokens is not None else limits.queued_tokens
    most = [count for count in (limits.rows, limits.queued_rows, rows) if count is not None]
    return Room(
        max(1, min(most)) if most else None,
        int(limits.file_bytes * SLACK) - FRAME,
        limits.line_bytes,
        None if waiting is None else max(1, int(waiting * SHARE * SLACK)),
    )


def too_big(room: Room, size: int) -> str | None:
    """Why a line can go into no batch at all, or None."""
    most = room.size if room.line is None else min(room.line, room.size)
    return None if size <= most else f"the request has {size:,} bytes, a line of a batch at most {most:,}"


def may_wait(room: Room, waiting: int, pack: Pack) -> bool:
    """Whether a closed batch may be submitted while `waiting` tokens of others wait at the provider.

    One batch alone always may: the provider has the last word.
    """
    return not waiting or room.tokens is None or waiting + pack.tokens <= room.tokens / SHARE
