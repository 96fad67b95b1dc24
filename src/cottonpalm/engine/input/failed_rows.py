"""The failed rows of a stored run, each with its place in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.engine.input.keys import content_key
from cottonpalm.engine.input.known_by import part_of
from cottonpalm.engine.input.reader import Again, row_keys
from cottonpalm.errors import ConfigError
from cottonpalm.protocols import FAILED, RETRYABLE
from cottonpalm.stores.codec.records import has_input, unpack
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cottonpalm.protocols import RunStore
    from cottonpalm.types import Outcome

PAGE: Final = 1_000  # stored rows that are read in one go


def failed_rows(run: RunStore, types: Mapping[str, type]) -> Iterator[Again]:
    """Read the rows that failed, with what was asked then; `types` rebuild what was stored.

    Raises:
        ConfigError: the store does not keep all that the rows were asked with.
    """
    after, last, part = -1, run.last_slot(), part_of(run)
    while page := [found for found in run.scan(after, PAGE) if found.slot <= last]:
        after = page[-1].slot
        failed = {found.slot: found for found in page if found.status in (RETRYABLE, FAILED)}
        for slot, record in run.read(list(failed)).items():
            kept = unpack(record, slot, types)
            if _never_read(failed[slot].content, kept):
                continue  # a row that could not be read holds no question; the user must give it again
            if not has_input(record):
                raise ConfigError(
                    f"the store keeps no inputs of run {run.name!r} (store_inputs=False): give the rows to retry"
                )
            if row_keys(part, kept.input)[1] != failed[slot].content:
                raise ConfigError(
                    f"{numbered(slot)} of run {run.name!r} was asked with a config or keywords that the store "
                    "does not keep: give retry the rows, with the same config and keywords"
                )
            yield Again(failed[slot], kept.input, kept.id)


def _never_read(content: bytes, kept: Outcome) -> bool:
    """Whether this stored failure belongs to a row that the source could not read (see `Reader.item`)."""
    return kept.error is not None and content == content_key(["cottonpalm: unreadable", kept.error.message])
