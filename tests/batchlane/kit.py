"""What the tests of the batch lane share: chains at a loopback provider, and processors that send them in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from cottonpalm import BatchLane, BatchProcessor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

PRICES = {
    "gpt-test": (2.0, 8.0),
    "gpt-other": (4.0, 16.0),
    "claude-test": (6.0, 30.0),
    "claude-other": (0.5, 2.5),
    "gemini-test": (1.0, 4.0),
    "gemini-other": (3.0, 12.0),
    "mistral-test": (2.0, 6.0),
    "mistral-other": (0.5, 1.5),
}

PICO_PRICES = {name: (int(into * 1e6), int(out * 1e6)) for name, (into, out) in PRICES.items()}


def rows(count: int) -> list[dict[str, str]]:
    return [{"text": f"row {number}"} for number in range(count)]


def openai(server: BatchProvider, model: str = "gpt-test", **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    model_class: Any = ChatOpenAI
    more = {"api_key": "sk-test", **more}
    return model_class(model=model, base_url=server.openai_url, max_retries=0, **more)


def anthropic(server: BatchProvider, model: str = "claude-test", **more: Any) -> Any:
    from langchain_anthropic import ChatAnthropic

    model_class: Any = ChatAnthropic
    return model_class(
        model=model,
        base_url=server.anthropic_url,
        api_key="sk-ant-x",
        max_retries=0,
        **{"max_tokens": 99, **more},
    )


def mistral(server: BatchProvider, model: str = "mistral-test", **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    model_class: Any = ChatOpenAI
    return model_class(
        model=model, base_url=server.mistral_url, api_key="key-of-mistral", max_retries=0, **more
    )


def gemini(server: BatchProvider, model: str = "gemini-test", **more: Any) -> Any:
    from langchain_google_genai import ChatGoogleGenerativeAI

    model_class: Any = ChatGoogleGenerativeAI
    return model_class(
        model=model, base_url=server.gemini_url, google_api_key="AIza-test", max_retries=1, **more
    )


def simple(server: BatchProvider, **more: Any) -> Any:
    """prompt | ChatOpenAI | parser."""
    return ChatPromptTemplate.from_template("About: {text}") | openai(server, **more) | StrOutputParser()


def lane(server: BatchProvider, **more: Any) -> BatchLane:
    """Looks every few milliseconds."""
    return BatchLane(hosts=server.hosts, **{"poll_s": 0.01, "listing_wait_s": 0.2, **more})


def batched(chain: Any, server: BatchProvider, folder: Path, **more: Any) -> BatchProcessor:
    """A processor in the batch lane, with a store."""
    options = {"mode": "batch", "store": folder / "s.db", "run": "r", "prices": PRICES, "lane": lane(server)}
    return BatchProcessor(chain, **{**options, **more})


def live(chain: Any, **more: Any) -> BatchProcessor:
    return BatchProcessor(chain, **{"prices": PRICES, **more})
