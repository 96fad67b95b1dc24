"""A look at a run that another process works on: its rows as they are durable now. Nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cottonpalm.protocols import Slot, Spent, StoredRow, StoredRows

PAGE: Final = 4096


class Glimpse:
    """Takes the place of a `RunStore` whose lease another process holds.

    Args:
        name: the run's.
        rows: as they are now.
        meta: the run's facts, as they were a moment ago.
    """

    created = False

    def __init__(self, name: str, rows: StoredRows, meta: Mapping[str, Any]) -> None:
        self.name, self._rows, self._meta = name, rows, dict(meta)
        self._slots: dict[bytes, list[Slot]] | None = None
        self._last = -1

    def scan(self, after: int, limit: int) -> list[Slot]:
        """See `RunStore`, as for all that follow."""
        return self._rows.scan(after, limit)

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """Records."""
        return self._rows.read(slots)

    def find(self, key: bytes) -> list[Slot]:
        """Rows with a key."""
        return self._known().get(key, [])

    def last_slot(self) -> int:
        """The highest slot."""
        self._known()
        return self._last

    def counts(self) -> dict[int, int]:
        """Rows per status."""
        status = [slot.status for slots in self._known().values() for slot in slots]
        return {kind: status.count(kind) for kind in sorted(set(status))}

    def _known(self) -> dict[bytes, list[Slot]]:
        """All rows by key, read once: so what is exported is of one moment."""
        if self._slots is None:
            self._slots, after = {}, -1
            while page := self._rows.scan(after, PAGE):
                for slot in page:
                    self._slots.setdefault(slot.key, []).append(slot)
                self._last = after = page[-1].slot
        return self._slots

    def last_seq(self) -> int:
        """None: the file is not kept up to date."""
        return -1

    def newer(self, seq: int, after: int, limit: int) -> list[tuple[int, int]]:  # noqa: ARG002
        """None, for the same reason."""
        return []

    def meta(self) -> dict[str, Any]:
        """The run's facts."""
        return dict(self._meta)

    def set_meta(self, **values: Any) -> None:
        """Remember for this look alone."""
        self._meta.update(values)

    def spent(self) -> Spent:
        """Refuse: a look spends nothing."""
        raise StoreError(f"run {self.name!r} is only looked at")

    def write(
        self,
        rows: Sequence[StoredRow],
        done: Callable[[BaseException | None], None],
        spent: Spent | None = None,
    ) -> None:
        """Refuse: the run belongs to another process."""
        del rows, done, spent
        raise StoreError(f"run {self.name!r} is only looked at")

    def close(self) -> None:
        """Do nothing: nothing is held."""
