"""A program of its own that runs rows with duplicates over a cache on disk, and says what came of it.

`python -m tests.engine.sharing URL PATH SEED COUNT` asks the loopback server at URL; 30 % of the rows are duplicates,
and programs with different seeds ask the same questions in different orders.
"""

from __future__ import annotations

import json
import sys
from random import Random
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Cache, RetryPolicy


def chain_of(url: str) -> Any:
    model = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini")
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def texts(seed: int, count: int) -> list[str]:
    """`count` questions, 30 % of them asked twice, in an order of its own."""
    distinct = count * 7 // 10
    numbers = [*range(distinct), *(Random(0).randrange(distinct) for _ in range(count - distinct))]
    Random(seed).shuffle(numbers)
    return [f"row {number}" for number in numbers]


def main(url: str, path: str, seed: str, count: str, in_flight: str = "50") -> None:
    most = int(in_flight)
    processor = BatchProcessor(
        chain_of(url),
        cache=Cache(max_entries=int(count), path=path),
        concurrency=AdaptiveConcurrency(initial=most, minimum=most, maximum=most),
        retry=RetryPolicy(retries=0),
    )
    asked = texts(int(seed), int(count))
    answers = processor.batch([{"x": text} for text in asked], return_exceptions=True)
    good = [(text, answer) for text, answer in zip(asked, answers, strict=True) if isinstance(answer, str)]
    counts = processor.last_run.stats.cache
    said = {
        "answered": sorted({text for text, _ in good}),
        "failed": len(answers) - len(good),
        "wrong": sum(answer != f"answer to: {text}" for text, answer in good),
        "hits": counts.hits,
        "misses": counts.misses,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
