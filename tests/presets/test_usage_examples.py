"""The document's usage examples as they stand there, on the chain that it means."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

import cottonpalm
from cottonpalm import (
    AdaptiveBatchProcessor,
    CachedBatchProcessor,
    ChunkedBatchProcessor,
    CostAwareBatchProcessor,
    HybridBatchProcessor,
    PriorityBatchProcessor,
    ProfilingBatchProcessor,
    ResumableBatchProcessor,
    SmartRetryBatch,
    StreamingBatchProcessor,
)
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.core
inputs = [{"topic": topic} for topic in ("cotton", "palm", "batch", "chain", "row")]
ANSWERS = [f"answer to: One line on {row['topic']}" for row in inputs]


@pytest.fixture(autouse=True)
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def chain() -> Any:
    prompt = ChatPromptTemplate.from_template("One line on {topic}")
    return prompt | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser()


def test_streaming(chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        processor = StreamingBatchProcessor(chain)

        async for idx, chunk in processor.stream_batch(inputs):
            print(f"[{idx}] {chunk}", flush=True)

    asyncio.run(main())
    said = capsys.readouterr().out.splitlines()
    for number, answer in enumerate(ANSWERS):
        mark = f"[{number}] "
        assert "".join(line.removeprefix(mark) for line in said if line.startswith(mark)) == answer


def test_priorities(chain: Any) -> None:
    processor = PriorityBatchProcessor(chain)
    results = processor.batch(
        inputs,
        priorities=[1, 5, 3, 2, 4],
        max_concurrency=10,
    )
    assert results == ANSWERS


def test_hybrid(chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    processor = HybridBatchProcessor(chain)

    results = processor.batch(inputs, use_batch_api=False)
    assert results == ANSWERS

    results = processor.batch(inputs, use_batch_api=True)
    assert results == ANSWERS


def test_the_others_by_position_and_by_keyword(chain: Any) -> None:
    for made in (AdaptiveBatchProcessor(chain, 10), AdaptiveBatchProcessor(chain, initial_concurrency=10)):
        assert made.batch(inputs) == ANSWERS
    for retrying in (SmartRetryBatch(chain, 3), SmartRetryBatch(chain, max_retries=3)):
        assert retrying.batch_with_smart_retry(inputs) == ANSWERS
    for paying in (
        CostAwareBatchProcessor(chain, 10.0),
        CostAwareBatchProcessor(chain, budget_per_hour=10.0),
    ):
        assert paying.batch(inputs) == ANSWERS
    for caching in (CachedBatchProcessor(chain, 1000), CachedBatchProcessor(chain, cache_size=1000)):
        assert caching.batch(inputs) == ANSWERS
    for chunked in (ChunkedBatchProcessor(chain, 100), ChunkedBatchProcessor(chain, chunk_size=100)):
        assert chunked.batch(inputs, 10) == ANSWERS
    for keeping in (
        ResumableBatchProcessor(chain, "c.pkl"),
        ResumableBatchProcessor(chain, checkpoint_file="c.pkl"),
    ):
        assert keeping.batch(inputs, 10, 10) == ANSWERS
        assert keeping.batch(inputs, max_concurrency=10, checkpoint_interval=10) == ANSWERS
    assert ProfilingBatchProcessor(chain=chain).batch(inputs, max_concurrency=10) == ANSWERS


SIGNATURES = {
    "AdaptiveBatchProcessor": {
        "__init__": "chain, initial_concurrency=10",
        "batch": "inputs",
        "adjust_concurrency": "",
    },
    "SmartRetryBatch": {
        "__init__": "chain, max_retries=3",
        "classify_error": "error",
        "batch_with_smart_retry": "inputs",
    },
    "StreamingBatchProcessor": {"__init__": "chain", "stream_batch": "inputs, max_concurrency=10"},
    "CostAwareBatchProcessor": {
        "__init__": "chain, budget_per_hour=10.0",
        "estimate_cost": "input_text, output_text",
        "check_budget": "",
        "batch": "inputs",
    },
    "CachedBatchProcessor": {"__init__": "chain, cache_size=1000", "batch": "inputs"},
    "ChunkedBatchProcessor": {"__init__": "chain, chunk_size=100", "batch": "inputs, max_concurrency=10"},
    "PriorityBatchProcessor": {"__init__": "chain", "batch": "inputs, priorities=None, max_concurrency=10"},
    "ResumableBatchProcessor": {
        "__init__": "chain, checkpoint_file='batch_checkpoint.pkl'",
        "save_checkpoint": "results, processed_count",
        "load_checkpoint": "",
        "batch": "inputs, max_concurrency=10, checkpoint_interval=10",
    },
    "ProfilingBatchProcessor": {
        "__init__": "chain",
        "batch": "inputs, max_concurrency=10",
        "print_report": "total_inputs, total_duration",
    },
    "HybridBatchProcessor": {"__init__": "chain", "batch": "inputs, use_batch_api=False, max_concurrency=10"},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_the_document_s(name: str) -> None:
    for method, wanted in SIGNATURES[name].items():
        given = inspect.signature(getattr(getattr(cottonpalm, name), method)).parameters
        shown = {
            parameter.name: None if parameter.default is parameter.empty else repr(parameter.default)
            for parameter in given.values()
            if parameter.name not in ("self", "options")
        }
        arguments = ast.parse(f"f({wanted})", mode="eval").body
        assert isinstance(arguments, ast.Call)
        listed = {ast.unparse(argument): None for argument in arguments.args}
        listed |= {str(keyword.arg): ast.unparse(keyword.value) for keyword in arguments.keywords}
        assert shown == listed, f"{name}.{method}"


def test_the_classes_take_every_keyword_of_the_processor_and_refuse_others(chain: Any) -> None:
    for name in SIGNATURES:
        made = getattr(cottonpalm, name)(chain, timeout=5, progress=False, validate=None)
        assert isinstance(made.processor, cottonpalm.BatchProcessor)
        assert made.chain is chain
        with pytest.raises(TypeError, match="takes no keyword 'retries'"):
            getattr(cottonpalm, name)(chain, retries=3)


def test_an_unknown_keyword_is_answered_with_each_of_those_that_can_be_given(chain: Any) -> None:
    with pytest.raises(
        TypeError, match="takes no keyword 'qqq'; it takes chunk_size, concurrency, "
    ) as refused:
        cottonpalm.ChunkedBatchProcessor(chain, qqq=3)  # type: ignore[call-arg]
    named = str(refused.value).partition("it takes ")[2].split(", ")
    assert len(named) == len(set(named))
    assert not {"self", "chain"} & set(named)


def test_importing_the_package_loads_none_of_them() -> None:
    program = "import sys, cottonpalm; print([m for m in sys.modules if 'presets' in m or 'langchain' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
