"""What LangChain says: its exceptions, Pydantic's and the SDKs' where no status tells, and which run this is."""

from __future__ import annotations

import json
import sys
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from langchain_core import exceptions as core
from langchain_core.runnables.config import var_child_runnable_config
from pydantic import ValidationError

from cottonpalm.providers.anthropic import BEDROCK
from cottonpalm.providers.used_up import says_used_up
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from uuid import UUID

_SHARPER: Final = (("ContextOverflowError", Kind.DEGRADE), ("ModelRefusalError", Kind.FAIL_ROW))
_MODEL_ERRORS: Final = (
    ("ModelAuthenticationError", Kind.STOP_RUN),
    ("ModelPermissionDeniedError", Kind.STOP_RUN),
    ("ModelNotFoundError", Kind.STOP_RUN),
    ("ModelInvalidRequestError", Kind.FAIL_ROW),
    ("ModelRateLimitError", Kind.THROTTLE),
    ("ModelConnectionError", Kind.TRANSIENT),
    ("ModelTimeoutError", Kind.TRANSIENT),
    ("ModelAPIError", Kind.TRANSIENT),
)
_OPENAI: Final = (
    ("LengthFinishReasonError", Kind.DEGRADE),
    ("ContentFilterFinishReasonError", Kind.FAIL_ROW),
)
_STREAMS: Final = (  # in the names of modules that read a provider's events
    "_streaming",
    "httpx_sse",
    "eventstream",
    "ollama._client",
    "google.genai._api_client",
)
_REASK: Final = (core.OutputParserException, ValidationError, json.JSONDecodeError)


def sharper_than_status(exc: BaseException) -> Kind | None:
    """Judge by a class that an integration chose because it knew more than the status says."""
    return _first(core, _SHARPER, exc) or _first(sys.modules.get("openai"), _OPENAI, exc)


def is_model_error(exc: BaseException) -> bool:
    """Whether an integration raised it because the model refused."""
    return _first(core, _MODEL_ERRORS, exc) is not None


def kind(exc: BaseException) -> Kind | None:
    """Judge LangChain's model errors, answers that do not parse or broke off, botocore; None for all else."""
    if (known := _first(core, _MODEL_ERRORS, exc)) is not None:
        return known
    if isinstance(exc, json.JSONDecodeError) and _of_a_stream(exc):
        return Kind.TRANSIENT
    if isinstance(exc, _REASK) or (type(exc) is ValueError and (_no_parsed_field(str(exc)) or _no_json(exc))):
        return Kind.REASK
    return _bedrock(exc)


def _of_a_stream(exc: BaseException) -> bool:
    """Whether an SDK raised it as it read an event of its stream: the line broke it, and the model is not to blame."""
    return any(
        word in frame.f_globals.get("__name__", "")
        for frame, _ in walk_tb(exc.__traceback__)
        for word in _STREAMS
    )


def _no_parsed_field(message: str) -> bool:
    """Whether this is langchain-openai's own ValueError for a structured answer with empty content."""
    return "'parsed' field" in message


def _no_json(exc: BaseException) -> bool:
    """Whether openai raised it as it put a streamed structured answer together: it is no JSON."""
    frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").startswith("openai.lib.streaming.")


def _bedrock(exc: BaseException) -> Kind | None:
    known = getattr(sys.modules.get("botocore.exceptions"), "ClientError", None)
    if known is None or not isinstance(exc, known):
        return None
    error: dict[str, Any] = exc.response.get("Error", {})
    kind, message = BEDROCK.get(str(error.get("Code"))), str(error.get("Message", ""))
    if error.get("Code") == "ValidationException" and "too long" in message:
        return Kind.DEGRADE
    return Kind.STOP_RUN if kind is Kind.THROTTLE and says_used_up(message) else kind


def _first(module: Any, table: tuple[tuple[str, Kind], ...], exc: BaseException) -> Kind | None:
    for name, kind in table:
        if (known := getattr(module, name, None)) is not None and isinstance(exc, known):
            return kind
    return None


def run_here() -> UUID | None:
    """The id of the LangChain run inside which this is: of a sequence, a graph or the like; None outside of any."""
    config = var_child_runnable_config.get()
    return None if config is None else getattr(config.get("callbacks"), "parent_run_id", None)
