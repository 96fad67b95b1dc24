"""Lines on their way into a batch: written to a private temporary file, so that memory holds a block of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cottonpalm.providers.batches.lines import Line
from cottonpalm.providers.batches.packing import Pack, Room, too_big
from cottonpalm.providers.batches.scratch import BLOCK, Scratch
from cottonpalm.providers.batches.stages import custom_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.providers.batches.adapter import Adapter
    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.stages import Member


class TooBig(ValueError):
    """A request that no batch of its provider can hold; it runs live."""


@dataclass(slots=True)
class Packed:
    """A batch that is ready to be submitted: its lines are in `scratch`, a line break after each."""

    tag: str
    lane: Lane
    scratch: Scratch
    pack: Pack = field(default_factory=Pack)
    members: list[Member] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)  # of the blocks that are written
    _rest: bytearray = field(default_factory=bytearray)  # what is not

    def write(self, line: bytes) -> None:
        """Append a line."""
        self._rest += line
        while len(self._rest) >= BLOCK:
            self._flush()

    def close(self) -> None:
        """Nothing more will come."""
        if self._rest:
            self._flush()

    def _flush(self) -> None:
        self._numbers.append(self.scratch.put(self._rest[:BLOCK]))
        del self._rest[:BLOCK]

    def blocks(self, joint: bytes) -> Iterator[bytes]:
        """The lines, `joint` (one byte) between them."""
        left = self.length(joint)
        for number in self._numbers:
            block = self.scratch.get(number, min(BLOCK, left))
            left -= len(block)
            yield block if joint == b"\n" else block.replace(b"\n", joint)

    def length(self, joint: bytes) -> int:
        """How many bytes `blocks` gives: a file ends with a line break, a list does not end with a comma."""
        return self.pack.size if joint == b"\n" else max(0, self.pack.size - 1)

    def drop(self) -> None:
        """Give the room of its lines back."""
        self.scratch.free(self._numbers)
        self._numbers = []


class Spool:
    """The open batch of one lane.

    for each request: if (full := spool.add(...)): submit(full)
    at the end:       if (rest := spool.close()): submit(rest)
    """

    def __init__(self, lane: Lane, adapter: Adapter, room: Room, scratch: Scratch) -> None:
        self.lane, self.room = lane, room
        self._adapter, self._scratch = adapter, scratch
        self._packed: Packed | None = None

    def add(self, body: dict[str, Any], member: Member, tokens: int, reserved: int = 0) -> Packed | None:
        """Write one line; returns the batch that was full before it, if so.

        Args:
            body: of the live request.
            member: whose request it is.
            tokens: estimated, of its input.
            reserved: pico-dollars set aside for it.

        Raises:
            TooBig: no batch can hold it; nothing was written.
        """
        full: Packed | None = None
        packed = self._packed or self._open()
        line = self._line(packed, body)
        if not packed.pack.fits(self.room, len(line), tokens):
            full, packed = self.close(), self._open()
            line = self._line(packed, body)
        packed.write(line)
        packed.pack.add(len(line), tokens, reserved)
        packed.members.append(member)
        return full

    def _line(self, packed: Packed, body: dict[str, Any]) -> bytes:
        line = self._adapter.line(self.lane, Line(custom_id(packed.tag, packed.pack.rows), body)) + b"\n"
        if why := too_big(self.room, len(line)):
            raise TooBig(why)
        return line

    def _open(self) -> Packed:
        self._packed = Packed(secrets.token_hex(6), self.lane, self._scratch)
        return self._packed

    def close(self) -> Packed | None:
        """The open batch, or None where it holds nothing."""
        packed, self._packed = self._packed, None
        if packed is None or not packed.pack.rows:
            return None
        packed.close()
        return packed
