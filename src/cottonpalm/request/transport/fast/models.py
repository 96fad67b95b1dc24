"""What the fast transport knows of each chat model: whether it may stand in, and how LangChain makes a result.

LangChain's own code makes every result. Here is only what it expects of the SDK's objects.
"""
# ruff: noqa: SLF001, PLC0415 - that code is private, and its libraries are imported where they are in use

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.request.transport.fast.untouched import patched
from cottonpalm.request.transports import STREAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cottonpalm.request.transport.http1.reader import Answered

_GATEWAY: Final = "langsmith"  # in a header's name: LangChain takes more than the body from such an answer
_LONGER: Final = "its results hold more than the answer"
_TELL: Final = ("_api_key_provider", "_azure_ad_token", "_azure_ad_token_provider", "_workload_identity_auth")
_TELL_ANTHROPIC: Final = ("auth_token", "credentials", "_token_cache", "custom_auth")


class NotLean(Exception):
    """The SDK has to make a result of this answer itself."""


class Speaker(Protocol):
    """One chat model's integration."""

    def client(self, model: Any) -> Any:
        """Return the SDK's client, the same one as long as it is set up alike."""

    def why_not(self, model: Any) -> str:
        """Say why this model's requests go by its SDK; "" if they need not."""

    def patched(self, model: Any) -> str:
        """Say what others have put in the way of this model's requests; "" if nothing."""

    def unfit(self, model: Any, payload: Mapping[str, Any]) -> str:
        """Say why this payload's request goes by the SDK; "" if it need not."""

    def outline(self, body: Mapping[str, Any]) -> Any:
        """Return a key that is equal for answers of one shape.

        Raises:
            NotLean: the answer has no shape that we know.
        """

    def result(
        self, model: Any, payload: Mapping[str, Any], kwargs: Mapping[str, Any], body: dict[str, Any]
    ) -> Any:
        """Return LangChain's result.

        Raises:
            Exception: of whatever kind: the SDK has to make it.
        """


def told_elsewhere(answered: Answered) -> bool:
    """Whether LangChain reads more than the body of this answer."""
    return any(_GATEWAY in name for name in answered.headers)


def _through_gateway(model: Any) -> bool:
    """Whether LangChain adds what a gateway says of each request. Its older versions know of no gateway."""
    return bool(getattr(model, "_uses_gateway", False))


def _kinds(value: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*value, *map(type, value.values()))


class OpenAI:
    """`ChatOpenAI`, `AzureChatOpenAI`, and subclasses that leave their results alone."""

    def __init__(self) -> None:
        import openai
        from langchain_openai.chat_models.azure import AzureChatOpenAI
        from langchain_openai.chat_models.base import BaseChatOpenAI, ChatOpenAI
        from openai.types import CompletionUsage

        self.base: type = BaseChatOpenAI
        self._clients = (openai.AsyncOpenAI, openai.AsyncAzureOpenAI)
        self._results = {one._create_chat_result for one in (BaseChatOpenAI, ChatOpenAI, AzureChatOpenAI)}
        self._usage: Callable[[Any], Any] = CompletionUsage.model_validate

    def client(self, model: Any) -> Any:
        """See `Speaker`."""
        return model.root_async_client

    def why_not(self, model: Any) -> str:
        """See `Speaker`."""
        client = model.root_async_client
        if type(model)._create_chat_result not in self._results:
            return f"{type(model).__name__} makes results in a way of its own"
        if type(client) not in self._clients or model.async_client is not client.chat.completions:
            return "the model was given a client of the user's own"
        if any(getattr(client, name, None) is not None for name in (*_TELL, "custom_auth")):
            return "its key comes from a token provider"
        return _LONGER if model.include_response_headers or _through_gateway(model) else ""

    def patched(self, model: Any) -> str:
        """See `Speaker`."""
        return patched(model.root_async_client, model.async_client)

    def unfit(self, model: Any, payload: Mapping[str, Any]) -> str:
        """See `Speaker`."""
        if "messages" not in payload or (
            "response_format" not in payload and model._use_responses_api(payload)
        ):
            return "the Responses API"
        return STREAMED if payload.get("stream") else ""

    def outline(self, body: Mapping[str, Any]) -> Any:
        """See `Speaker`."""
        choices = body.get("choices")
        if not choices or not isinstance(choices, list) or body.get("error"):
            raise NotLean
        parts: list[Any] = [*_kinds(body)]
        for choice in choices:
            message = choice["message"]
            if choice.get("logprobs") is not None or message.get("audio") is not None:
                raise NotLean  # deep, and filled by the SDK
            parts += (*_kinds(choice), *_kinds(message), choice.get("finish_reason"))
            parts += _kinds(message.get("function_call") or {})
            for call in message.get("tool_calls") or ():
                parts += (*_kinds(call), *_kinds(call["function"]), call.get("type"))
        if usage := body.get("usage"):
            parts += _kinds(usage)
            for value in usage.values():
                if type(value) is dict:
                    parts += _kinds(value)
        return tuple(parts)

    def result(
        self,
        model: Any,
        payload: Mapping[str, Any],
        kwargs: Mapping[str, Any],  # noqa: ARG002
        body: dict[str, Any],
    ) -> Any:
        """See `Speaker`. The SDK's objects have fields that a body may leave out, as None."""
        body = {"system_fingerprint": None, "service_tier": None, **body}
        if usage := body.get("usage"):
            body["usage"] = self._usage(usage).model_dump()
        body["choices"] = choices = [{"logprobs": None, **choice} for choice in body["choices"]]
        message = choices[0]["message"]
        parsed = self._parsed(payload["response_format"], choices) if "response_format" in payload else None
        result = model._create_chat_result(body, {})
        more = result.generations[0].message.additional_kwargs
        if "response_format" in payload:
            more["parsed"] = parsed
        more["refusal"] = message.get("refusal")
        return result

    @staticmethod
    def _parsed(wanted: Any, choices: list[dict[str, Any]]) -> Any:
        """What the SDK's `parse` makes of the answer."""
        for choice in choices:
            if choice.get("finish_reason") in ("length", "content_filter") or choice["message"].get(
                "tool_calls"
            ):
                raise NotLean
        message = choices[0]["message"]
        if not isinstance(wanted, type) or not message.get("content") or message.get("refusal"):
            return None
        if len(choices) > 1:
            raise NotLean
        return wanted.model_validate_json(message["content"])  # type: ignore[attr-defined]


class Anthropic:
    """`ChatAnthropic`. Its results are made of the SDK's own objects."""

    def __init__(self) -> None:
        import anthropic
        from anthropic._models import construct_type
        from anthropic.types import Message
        from anthropic.types.beta import BetaMessage
        from langchain_anthropic import ChatAnthropic

        self.base: type = ChatAnthropic
        self._known = (ChatAnthropic._format_output, ChatAnthropic._acreate)
        self._client_class, self._construct = anthropic.AsyncAnthropic, construct_type
        self._messages = (Message, BetaMessage)

    def client(self, model: Any) -> Any:
        """See `Speaker`."""
        return model._async_client

    def why_not(self, model: Any) -> str:
        """See `Speaker`."""
        kind, client = type(model), model._async_client
        if (kind._format_output, kind._acreate) != self._known:
            return f"{kind.__name__} makes results in a way of its own"
        if type(client) is not self._client_class:
            return "the model was given a client of the user's own"
        if any(getattr(client, name, None) is not None for name in _TELL_ANTHROPIC):
            return "its key comes from a token provider"
        return _LONGER if _through_gateway(model) else ""

    def patched(self, model: Any) -> str:
        """See `Speaker`."""
        client = model._async_client
        return patched(client, client.messages, client.beta.messages)

    def unfit(self, model: Any, payload: Mapping[str, Any]) -> str:  # noqa: ARG002
        """See `Speaker`."""
        return STREAMED if payload.get("stream") else ""

    def outline(self, body: Mapping[str, Any]) -> Any:
        """See `Speaker`."""
        content = body.get("content")
        if not isinstance(content, list) or body.get("type") != "message":
            raise NotLean
        parts: list[Any] = [*_kinds(body), body.get("stop_reason")]
        for block in content:
            parts += (*_kinds(block), block.get("type"))
        for value in (usage := body["usage"]).values():
            if type(value) is dict:
                parts += _kinds(value)
        return (*parts, *_kinds(usage))

    def result(
        self, model: Any, payload: Mapping[str, Any], kwargs: Mapping[str, Any], body: dict[str, Any]
    ) -> Any:
        """See `Speaker`."""
        data = self._construct(value=body, type_=self._messages["betas" in payload])
        return model._format_output(data, generation_info={}, **kwargs)
