"""What holds in virtual time holds over real sockets: the same provider, behind HTTP on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.promptcache.kit import run, run_over_sockets
from tests.support.prompt_caching import ANTHROPIC, GEMINI, GROQ, MISTRAL, OPENAI, OPENAI_NEW

if TYPE_CHECKING:
    from tests.support.prompt_caching import Vendor


@pytest.mark.parametrize(
    ("vendor", "mode"),
    [
        (OPENAI, "auto"),
        (OPENAI_NEW, "on"),
        (ANTHROPIC, "on"),
        (MISTRAL, "auto"),
        (GROQ, "auto"),
        (GEMINI, "auto"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_over_sockets_as_much_is_read_from_the_cache_and_paid_as_in_virtual_time(
    vendor: Vendor, mode: str
) -> None:
    virtual, real = run(vendor, mode, 40), run_over_sockets(vendor, mode, 40)
    assert [outcome.status for outcome in real.outcomes] == ["ok"] * 40
    assert real.provider.bill == virtual.provider.bill


def test_without_it_more_is_paid_over_sockets_too() -> None:
    off, ours = (run_over_sockets(OPENAI, mode, 20, latency_s=0.5) for mode in ("off", "auto"))
    assert off.provider.bill.usd > ours.provider.bill.usd
