"""Chat models whose requests are known, where nobody listens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.globals import get_llm_cache
from langchain_core.language_models import chat_models
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import LC_ID_PREFIX
from langchain_core.utils.uuid import uuid7

from cottonpalm.chain.traits import has_only_sync_client
from cottonpalm.engine.chain_call.unheard.step import Heard, Step, waiting
from cottonpalm.engine.chain_call.unheard.texts import is_langchains
from cottonpalm.request.transport.fast import door

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.language_models import BaseLanguageModel

_normalized: Any = chat_models._normalize_messages  # type: ignore[attr-defined]  # noqa: SLF001
_metadata_of: Any = getattr(chat_models, "_gen_info_and_msg_metadata", None)  # LangChain's own affair
_SAME: Final = ("ainvoke", "agenerate", "agenerate_prompt", "_agenerate_with_cache", "_convert_input")
_TOLD: Final = ("ls_structured_output_format", "structured_output_format", "stop")


class Nobody:
    """In place of a run manager: no handlers, and an id for each message that asks for one."""

    __slots__ = ()
    handlers: Final = ()

    @property
    def run_id(self) -> UUID:
        """A new id."""
        return uuid7()


NOBODY: Final = Nobody()


def model(asked: BaseLanguageModel[Any], kwargs: dict[str, Any], *, threads: bool) -> Step:
    """A step that asks a model, with the keywords that are bound to it.

    Raises:
        Heard: it does not come to the fast transport's door, or somebody listens to it.
    """
    kind = type(asked)
    if (
        not isinstance(asked, BaseChatModel)
        or not door.is_ours(asked)
        or has_only_sync_client(asked)
        or (threads and not is_langchains(asked))
    ):
        raise Heard
    if any(getattr(kind, name) is not getattr(BaseChatModel, name) for name in _SAME):
        raise Heard
    if asked.callbacks or asked.verbose or asked.cache or asked.rate_limiter:
        raise Heard
    if getattr(asked, "streaming", False) or kwargs.get("stream"):
        raise Heard
    return waiting(_Model(asked, kwargs))


class _Model:
    __slots__ = ("_kwargs", "_model", "_stop", "_whole")

    def __init__(self, model: BaseChatModel, kwargs: dict[str, Any]) -> None:
        self._whole = model.output_version == "v1" or _metadata_of is None
        self._model, self._stop = model, kwargs.get("stop")
        self._kwargs = {name: value for name, value in kwargs.items() if name not in _TOLD}

    async def __call__(self, value: Any) -> Any:
        """Return the model's message."""
        model: Any = self._model
        messages = _normalized(model._convert_input(value).to_messages())  # noqa: SLF001
        if self._whole or get_llm_cache() is not None:
            asked = model._agenerate_with_cache  # noqa: SLF001
            result = await asked(messages, stop=self._stop, run_manager=NOBODY, **self._kwargs)
            return result.generations[0].message
        result = await model._agenerate(  # noqa: SLF001
            messages, stop=self._stop, run_manager=NOBODY, **self._kwargs
        )
        generation = result.generations[0]  # what follows is the end of `_agenerate_with_cache`
        message, metadata = generation.message, _metadata_of(generation)
        if message.id is None:
            message.id = f"{LC_ID_PREFIX}-{NOBODY.run_id}-0"
        if len(result.generations) == 1 and result.llm_output is not None:
            metadata = {**result.llm_output, **metadata}
        message.response_metadata = metadata
        return message
