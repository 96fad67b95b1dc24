"""`--model google:NAME`: Gemini through langchain-google-genai, on HTTP clients whose requests our hook sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def gemini(name: str, url: str | None, options: dict[str, Any]) -> BaseChatModel:
    """Make the chat model. Its requests go through httpx even if aiohttp is installed, which Google's SDK prefers.

    Args:
        name: the model's name.
        url: another server, or None.
        options: options of `ChatGoogleGenerativeAI`.
    """
    import httpx
    from google.genai import Client
    from google.genai.types import HttpOptions
    from langchain_google_genai import ChatGoogleGenerativeAI

    if url is not None:
        options["base_url"] = url
    # 1 means one try; 0 would mean the SDK's own number of tries
    model = ChatGoogleGenerativeAI(model=name, max_retries=1, **options)
    if (key := model.google_api_key) is not None:  # else it is Vertex AI, which has its own credentials
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        model.client = Client(
            api_key=key.get_secret_value(),
            http_options=HttpOptions(
                base_url=url,
                api_version=model.api_version,
                headers=model.additional_headers,
                httpx_client=httpx.Client(limits=limits, timeout=None),  # noqa: S113 - the run's timeout holds
                httpx_async_client=httpx.AsyncClient(limits=limits, timeout=None),  # noqa: S113
            ),
        )
    return model
