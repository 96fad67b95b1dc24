"""Chains that travel, over the loopback server."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI

MODEL = "gpt-4o-mini"


def asking(url: str, max_tokens: int | None = 50, model: str = MODEL) -> Any:
    """A prompt, a model at this address, text."""
    more = {} if max_tokens is None else {"max_tokens": max_tokens}
    asked = ChatOpenAI(base_url=url, api_key="none", model=model, **more)  # type: ignore[arg-type]
    return ChatPromptTemplate.from_template("{x}") | asked | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {number}"} for number in range(count)]


def _checked(number: int) -> int:
    if number % 10 == 3:
        raise ValueError(f"{number} is refused")
    return number * 2


def computing() -> Any:
    """No requests; every tenth row fails."""
    return RunnableLambda(_checked)


def held_until_told(folder: str) -> Any:
    """A step that says in this folder which answers it holds, until it finds "go on" there."""

    async def held(answer: str) -> str:
        (Path(folder) / answer.replace(":", "")).touch()
        while not (Path(folder) / "go on").exists():
            await asyncio.sleep(0.01)
        return answer

    return RunnableLambda(held)


def blocked(folder: str) -> Any:
    """A step that says in this folder that it has begun, and waits in a thread for ever."""

    async def wait(row: dict[str, str]) -> None:
        (Path(folder) / "begun").touch()
        await asyncio.to_thread(threading.Event().wait)

    return RunnableLambda(wait)


def deadly(at: int | None = 7) -> Any:
    """A step that ends its process at a row; None: at each."""

    def step(row: dict[str, str]) -> str:
        if at is None or row["x"] == f"row {at}":
            os._exit(9)
        return row["x"]

    return RunnableLambda(step)


def _where(_: Any) -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


where = RunnableLambda(_where)  # the cluster in which a row is answered


class Upper(Runnable[dict[str, Any], str]):
    """As little work a row as a chain can be."""

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return str(input["text"]).upper()

    async def ainvoke(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> str:
        return str(input["text"]).upper()


upper = Upper()
