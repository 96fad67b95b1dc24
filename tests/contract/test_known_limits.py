"""What one run finds of a provider's limits, the next run of any name begins with: in every store that lasts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cottonpalm import BatchProcessor, Limits, clock
from cottonpalm.cli.commands.status import limit_in_words
from cottonpalm.store_extras import KeepsLimits
from cottonpalm.stores import open_store
from cottonpalm.stores.rules.known import HALF_S, aged
from cottonpalm.testing import FlakyTransport
from cottonpalm.types import Known, Learnt
from tests.support.lean import asks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.waits

KEY = "sk-0123456789abcdef"


class Narrow(FlakyTransport):
    """Rejects whoever is the ninth in flight or a later one; answers take 0.4 seconds."""

    def __init__(self) -> None:
        super().__init__(then=lambda _: 429 if self.in_flight > 8 else None)
        self.in_flight = self.rejected = self.peak = 0

    async def handle_async_request(self, request: Any) -> Any:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            answer = await super().handle_async_request(request)
            self.rejected += answer.status_code == 429
            await asyncio.sleep(0.4 if answer.status_code == 200 else 0.002)
            return answer
        finally:
            self.in_flight -= 1


def run(path: str, name: str, rows: int, key: str = KEY) -> Narrow:
    """What a provider saw of a run whose process knew nothing before."""
    provider = Narrow()

    async def main() -> None:
        client = httpx2.AsyncClient(transport=provider)
        processor = BatchProcessor(asks(client, key), limits=Limits(), store=path, run=name)
        await processor.abatch([f"row {n}" for n in range(rows)])

    asyncio.run(main())
    return provider


def test_the_next_run_of_another_name_begins_with_what_was_found(path: str) -> None:
    first = run(path, "one", 80)
    assert first.rejected
    again, stranger = run(path, "two", 5), run(path, "three", 30, key="sk-another-account-0000")
    assert again.rejected == 0
    assert again.peak <= 5, "seven tenths of what fitted, checked by the first requests"
    assert stranger.peak > 8, "another account has limits of its own"


def test_what_was_found_is_told_with_its_age_and_without_the_account(path: str) -> None:
    run(path, "one", 60)
    store = open_store(path)
    assert isinstance(store, KeepsLimits)
    [known] = store.known_limits()
    store.close()
    assert known.label == "api.openai.com/gpt-4o-mini"
    assert 4 <= known.learnt.in_flight <= 12, "about eight fit; how exactly that is found is tested elsewhere"
    assert 0 <= clock.wall() - known.at < 600
    assert KEY not in repr(known)
    assert "#" not in known.label


def test_a_store_that_found_nothing_says_so(path: str) -> None:
    store = open_store(path)
    assert isinstance(store, KeepsLimits)
    assert store.known_limits() == []
    store.close()


@pytest.mark.parametrize(
    ("learnt", "said"),
    [
        (Learnt(38.7, firm=True), "38 in flight fit, no more; found 5 min 00 s ago"),
        (
            Learnt(1200.0, firm=False, pace=6.94),
            "1,200 in flight fitted, perhaps more do; about 6.9/s are taken; found 5 min 00 s ago",
        ),
    ],
)
def test_limits_are_told_in_words(learnt: Learnt, said: str) -> None:
    assert limit_in_words(Known("host/model", learnt, 1000.0), 1300.0) == said


def test_half_of_what_was_found_is_believed_after_a_day_and_hardly_anything_after_a_week() -> None:
    assert aged(90, 10, 0) == 90
    assert aged(90, 10, HALF_S) == aged(90, 10, 24 * 3_600) == 50
    assert aged(2, 10, HALF_S) == 6
    assert 10 < aged(90, 10, 7 * HALF_S) < 11
    assert aged(90, 10, -HALF_S) == 90, "a clock that was set back makes nothing greater"


def test_the_account_is_not_in_the_file(tmp_path: Path) -> None:
    run(str(tmp_path / "store.db"), "one", 20)
    assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
