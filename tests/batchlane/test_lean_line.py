"""In the batch lane, too, a call of a model that qualifies goes by the lean line, and nothing else changes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

from tests.batchlane.chains import CHAINS, PROMPT
from tests.batchlane.kit import batched, lane, openai, rows
from tests.fast.cases import Case, all_cases
from tests.fast.equal import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.core]
ROWS = 6
FIRST = "stock: the model's first request"
FORMS = (  # of the equality cases: what a request may hold beside text
    "text, parameters",
    "text, extra_body",  # which the provider refuses
    "message, model_kwargs",
    "message, reasoning model",
    "message, v1 content",
    "the model alone",
    "a plain template",
    "bound tools",
    "bound stop",
    "bound log bias",
    "json mode",
    "a schema",
    "strict",
    "with the raw message",
    "JSON parser, no JSON",
    "Pydantic parser",
    "assign",
    "two requests",
    "fallback",
    "a conversation",
    "an image",
    "text that breaks lines",
    "a variable missing",
    "Claude, tools",
    "Claude, betas",
    "Claude, by schema",
    "a conversation, Claude",
    "an image, Claude",
)
CASES = {case.name: case for case in all_cases() if case.name in FORMS}
FIELDS = (
    "status output error usage cost_pico attempts model truncated lane".split()  # noqa: SIM905
)


def run_by(
    transport: str, chain: Any, server: BatchProvider, folder: Path, given: Sequence[Any]
) -> tuple[Any, list[tuple[str, bytes]], dict[str, int]]:
    """What the rows came to, the lines of all batches, and by which transport the calls went."""
    server.jobs.clear()
    how = {"transport": transport, "retry": 0, "max_failures": 1.0, "concurrency": 1}
    processor = batched(chain, server, folder, run=transport, lane=lane(server, quiet_s=0.1), **how)
    processor.batch(given, return_exceptions=True)
    run = processor.last_run
    assert run is not None
    outcomes = sorted(run.outcomes(), key=lambda outcome: outcome.index)
    lines = [(job.path, orjson.dumps(row.body)) for job in server.jobs.values() for row in job.rows]
    fields = [{name: plain(getattr(outcome, name)) for name in FIELDS} for outcome in outcomes]
    return fields, sorted(lines), dict(run.report.transports)


def check_equal(chain: Any, server: BatchProvider, folder: Path, given: Sequence[Any]) -> dict[str, int]:
    """The same lines and outcomes either way; returns how the calls went where the lean line was wanted."""
    general, lines, _ = run_by("stock", chain, server, folder, given)
    lean, same_lines, ways = run_by("fast", chain, server, folder, given)
    assert same_lines == lines
    assert lean == general
    assert lines
    return ways


@pytest.mark.parametrize("name", sorted({*CHAINS} - {"openai-responses"}))
def test_a_chain_asks_and_answers_by_the_lean_line_what_it_does_by_the_general_path(
    server: BatchProvider, tmp_path: Path, name: str
) -> None:
    ways = check_equal(CHAINS[name](server), server, tmp_path, rows(ROWS))
    assert ways["fast"] > sum(ways.values()) / 2, ways


def test_what_does_not_qualify_for_the_lean_line_takes_the_general_path(
    server: BatchProvider, tmp_path: Path
) -> None:
    client = httpx2.AsyncClient(event_hooks={"request": [_noted]})
    for number, (model, why) in enumerate(
        (
            (openai(server, use_responses_api=True), "stock: the Responses API"),
            (openai(server, http_async_client=client), "stock: its HTTP client has event hooks"),
        )
    ):
        (folder := tmp_path / str(number)).mkdir()
        ways = check_equal(PROMPT | model, server, folder, rows(ROWS))
        assert ways.keys() == {FIRST, why}


async def _noted(request: Any) -> None:
    """Somebody's hook."""


@pytest.mark.parametrize("name", FORMS)
def test_whatever_a_request_holds_the_lean_line_writes_it_as_the_sdk_does(
    server: BatchProvider, tmp_path: Path, name: str
) -> None:
    case: Case = CASES[name]
    chain = case.make(server.url("anthropic" if "Claude" in name else "openai"))
    assert check_equal(chain, server, tmp_path, case.rows).get("fast")
