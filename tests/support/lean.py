"""A chain that asks a model without an SDK: the same request over the same HTTP library, at a fifth of its work.

For long runs on a virtual clock that are about the requests, their limits and their money; what an SDK makes of an
answer or an error is tested with real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from langchain_core.runnables import Runnable


def asks(
    client: httpx2.AsyncClient,
    key: str,
    *,
    url: str = "https://api.openai.com/v1",
    says: Callable[[Any], str] = str,
) -> Runnable[Any, str]:
    """A row in, the text of the answer to what it `says` out."""
    headers = {"authorization": f"Bearer {key}"}

    async def ask(row: Any) -> str:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": says(row)}]}
        response = await client.post(f"{url}/chat/completions", json=body, headers=headers)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])

    return RunnableLambda(ask)
