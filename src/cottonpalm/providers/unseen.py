"""Finds the error answer behind an exception of a chat model whose requests we do not see.

Such a model sends by requests, aiohttp, urllib, or an SDK of its own, and each has another class for an error answer.
All of them name its status. An exception counts only where a model raised it: that of a search, say, tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import words_of
from cottonpalm.providers.answer import loads, status_of, sub

if TYPE_CHECKING:
    from types import FrameType

_NVIDIA: Final = re.compile(r"\[([45][0-9]{2})\] ")  # of a bare Exception of langchain-nvidia-ai-endpoints
_MODELS: Final = ("langchain_core.language_models.chat_models", "langchain_core.language_models.llms")


@dataclass(slots=True)
class ErrorAnswer:
    """What an exception still has of an error answer; its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: object


def frames_in_model(exc: BaseException) -> list[FrameType]:
    """Return the frames through which it passed below LangChain's call of a model; none: no model raised it."""
    frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
    known = (at for at, frame in enumerate(frames) if frame.f_globals.get("__name__") in _MODELS)
    at = next(known, None)
    return [] if at is None else frames[at:]


def error_answer(exc: BaseException, frames: list[FrameType]) -> ErrorAnswer | None:
    """Return the error answer of which a model's exception tells, itself or by the one that the model made it of."""
    origin = exc.__context__
    links = [exc] if origin is None or not _was_caught_in(origin, frames) else [exc, origin]
    for link in links:
        if (status := next(_statuses(link), None)) is not None:
            return ErrorAnswer(status, headers_of(link), body_of(link))
    return _of_nvidia(exc, frames)


def _of_nvidia(exc: BaseException, frames: list[FrameType]) -> ErrorAnswer | None:
    """What the package says on an event loop: nothing but words is left of the answer there."""
    where = frames[-1].f_globals.get("__name__", "")
    found = _NVIDIA.match(words_of(exc)) if where.startswith("langchain_nvidia_ai_endpoints.") else None
    return None if found is None else ErrorAnswer(int(found[1]), {}, None)


def _was_caught_in(exc: BaseException, frames: list[FrameType]) -> bool:
    return exc.__traceback__ is not None and exc.__traceback__.tb_frame in frames


def _statuses(exc: BaseException) -> Iterator[int]:
    response = getattr(exc, "response", None)
    places = ((exc, "status_code"), (response, "status_code"), (exc, "status"), (exc, "code"))
    found = (getattr(place, name, None) for place, name in places)  # lazily: aiohttp warns of `code`
    of_aws = sub(response, "ResponseMetadata").get("HTTPStatusCode") if isinstance(response, dict) else None
    for value in chain((of_aws,), found):
        if (status := status_of(value)) is not None and 400 <= status < 600:
            yield status


def headers_of(exc: BaseException) -> dict[str, str]:
    """Return the headers of the error answer that an exception carries, in lower case; empty where it has none."""
    found: Any = getattr(getattr(exc, "response", None), "headers", None) or getattr(exc, "headers", None)
    if not isinstance(found, Mapping) and not hasattr(found, "items"):
        return {}
    return {str(name).lower(): str(value) for name, value in found.items()}


def body_of(exc: BaseException) -> object:
    """Return the body of the error answer that an exception carries, as JSON; None where it is none, or not there.

    OpenAI's SDK keeps what stands at `error`. Where that is a mere text (xAI, TGI), the code stands beside it, and the
    exception says neither.
    """
    body = getattr(exc, "body", None)
    if isinstance(body, dict | list):
        return body
    try:
        content = getattr(getattr(exc, "response", None), "content", None)
    except Exception:  # noqa: BLE001 - of a stream that was not read
        return body
    found = loads(content) if isinstance(content, bytes) else None
    return body if found is None else found
