"""A connection that is never made is given up within seconds, by either transport, and the reason is said."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from cottonpalm.request.transport.sender import CONNECT_S, connecting_soon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that lets everybody connect and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_the_time_for_a_connection_is_bounded_unless_the_client_has_one_of_its_own() -> None:
    assert connecting_soon(None) == {"connect": CONNECT_S}
    assert connecting_soon({"connect": 600, "read": 600, "pool": 600}) == {
        "connect": CONNECT_S, "read": 600, "pool": 600,
    }  # fmt: skip
    assert connecting_soon({"connect": 3, "read": 3}) == {"connect": 3, "read": 3}
    for own in (2.0, 30.0):
        assert connecting_soon({"connect": own, "read": 600}) == {"connect": own, "read": 600}


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_a_server_that_is_silent_where_tls_is_spoken_is_named_as_such(silent: str, transport: str) -> None:
    model = ChatOpenAI(
        model="m", api_key="x", base_url=f"https://{silent}/v1", timeout=httpx.Timeout(60, connect=0.05)
    )
    processor = BatchProcessor(model, transport=transport, retry=0)
    with processor.start(["a"]) as run:
        [outcome] = run
        assert outcome.status == "failed"
        assert run.stats.trouble == (
            f"no connection in time (with https://: does the server speak TLS?) at {silent}"
        )


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_a_key_that_no_header_can_carry_fails_its_row_at_once_and_costs_nothing(
    silent: str, transport: str
) -> None:
    model = ChatOpenAI(model="gpt-4o-mini", base_url=f"http://{silent}", api_key="from-a-file\n")  # type: ignore[arg-type]
    processor = BatchProcessor(model, transport=transport)  # type: ignore[arg-type]
    processor.batch(["a"], return_exceptions=True)
    [outcome] = processor.last_run.outcomes()
    assert "Illegal header value" in outcome.error.message
    assert outcome.error.kind == "fail_row"
    assert (outcome.attempts, processor.last_run.stats.uncertain_usd) == (1, 0)
