"""The second door into `attempts`: it wraps `_agenerate` of the chat models whose requests and results are known.

Under a row of a run that wants it, the model's own `_get_request_payload` says what to send, a lean client sends it,
and LangChain's own code makes the result. The SDK is asked three times only: to make the first request of its kind,
which is learnt from and not sent; to make a result of each new shape of answer, to compare; and for whatever is not a
plain answer, which it is given as the response it was, so that it raises what it always raises.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.providers.answer import loads
from cottonpalm.request.attempt.attempts import attempts
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.transport.client_loops import has_run
from cottonpalm.request.transport.drivers import walk
from cottonpalm.request.transport.fast.lanes import (
    MOST_KINDS,
    MOST_SHAPES,
    UNKNOWN,
    RequestKind,
    kind_of,
    lane_of,
    same,
)
from cottonpalm.request.transport.fast.models import Anthropic, NotLean, OpenAI, told_elsewhere
from cottonpalm.request.transport.fast.sender import FastSender, again
from cottonpalm.request.transport.http1.reader import Answered
from cottonpalm.request.transport.replay import LOOK, REPLAY, Look, Looked
from cottonpalm.request.transport.sender import INSIDE
from cottonpalm.request.transports import BY_SDK, StockCall
from cottonpalm.runtime.signal_handlers import raised_anew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cottonpalm.request.attempt.steps import Done
    from cottonpalm.request.transport.fast.lanes import FastLane
    from cottonpalm.request.transport.fast.models import Speaker

_SPEAKERS: Final[dict[str, Callable[[], Speaker]]] = {
    "langchain_openai.chat_models.base": OpenAI,
    "langchain_anthropic.chat_models": Anthropic,
}
_installed: Final[dict[str, type]] = {}
_lock: Final = threading.Lock()


def install() -> None:
    """Wrap `_agenerate` of the known chat models, each once, if its integration is imported."""
    with _lock:
        for name, made in _SPEAKERS.items():
            if name in _installed or name not in sys.modules:
                continue
            try:
                speaker = made()
                base: Any = speaker.base  # type: ignore[attr-defined]
                base._agenerate = _wrapped(base._agenerate, speaker)  # noqa: SLF001
            except (ImportError, AttributeError):  # another version: its own transport serves
                continue
            _installed[name] = base


def is_ours(model: Any) -> bool:
    """Whether calls of this model's `_agenerate` come to this door first."""
    return getattr(type(model)._agenerate, "speaker", None) is not None  # noqa: SLF001


def _wrapped(original: Callable[..., Awaitable[Any]], speaker: Speaker) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def _agenerate(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        row = ROW.get()
        if row is None or not row.run.transports.wanted or _elsewhere(row):
            return await original(self, messages, stop=stop, run_manager=run_manager, **kwargs)

        def stock() -> Awaitable[Any]:
            return original(self, messages, stop=stop, run_manager=run_manager, **kwargs)

        return await _Call(speaker, self, row, stock, kwargs).answered(messages, stop)

    _agenerate.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # LangChain asks each time
    _agenerate.speaker = speaker  # type: ignore[attr-defined]
    return _agenerate


def _elsewhere(row: RowAccount) -> bool:
    """Whether this row's requests are not to be sent now, or cannot be sent from here."""
    run = row.run
    return run.look is not None or not run.flow.hooked or INSIDE.get() or not has_run()


class _Call:
    """One call of one model."""

    __slots__ = ("_kwargs", "_model", "_row", "_speaker", "_stock")

    def __init__(
        self,
        speaker: Speaker,
        model: Any,
        row: RowAccount,
        stock: Callable[[], Awaitable[Any]],
        kwargs: dict[str, Any],
    ) -> None:
        self._speaker, self._model, self._row, self._stock, self._kwargs = speaker, model, row, stock, kwargs

    async def answered(self, messages: Any, stop: Any) -> Any:
        """Return the model's result."""
        speaker, model = self._speaker, self._model
        lane = lane_of(speaker, model)
        if lane is None or lane.why_not:
            return await self._by_sdk("the model's first request" if lane is None else lane.why_not)
        if why := speaker.patched(model):
            return await self._by_sdk(why)
        payload = model._get_request_payload(messages, stop=stop, **self._kwargs)  # noqa: SLF001
        kind, body = await self._prepared(lane, payload)
        if isinstance(body, str):
            return await self._by_sdk(body)
        return await self._sent(kind, payload, body)

    async def _prepared(self, lane: FastLane, payload: dict[str, Any]) -> tuple[RequestKind, bytes | str]:
        """Return the kind of this request and its body; or why it goes by the SDK."""
        unfit, kind = self._speaker.unfit, UNKNOWN
        try:
            key, known = kind_of(lane, payload)
            if known is not None and known.template is not None:  # its like was looked at before
                return known, known.template.body(payload)
            if why := unfit(self._model, payload):
                return UNKNOWN, why
            kind = known or await self._learnt(lane, key, payload)
            return kind, kind.why_not if kind.template is None else kind.template.body(payload)
        except (TypeError, ValueError):
            return kind, unfit(self._model, payload) or "its payload is not plain JSON"

    async def _by_sdk(self, why: str) -> Any:
        call = StockCall(self._row.run.transports, why)
        if self._row.recording is not None:  # a batch will send it
            call.sends()
        token = BY_SDK.set(call)
        try:
            return await self._stock()
        finally:
            BY_SDK.reset(token)

    async def _learnt(self, lane: FastLane, key: bytes, payload: dict[str, Any]) -> RequestKind:
        """Learn a new kind of requests from the SDK."""
        kind = RequestKind(payload)
        if len(lane.kinds) >= MOST_KINDS:
            kind.why_not = "too many kinds of requests"
            return kind
        lane.kinds[key] = kind
        look = Look()
        token = LOOK.set(look)
        learnt = False
        try:
            await self._stock()  # raises what the SDK has to say of such a request before it sends any
        except Looked:
            kind.learn(look, payload)
            learnt = True
        finally:
            LOOK.reset(token)
            if not learnt:
                lane.kinds.pop(key, None)
        return kind

    async def _sent(self, kind: RequestKind, payload: dict[str, Any], body: bytes) -> Any:
        row, like = self._row, kind.template
        assert like is not None
        if (client := like.client()) not in row.run.clients:
            row.run.clients.add(client)
        sender = FastSender(like, body)
        try:
            call = like.call(payload, body)
            if row.recording is not None:  # it is known by, and goes out as, what the SDK would have sent
                call.request, call.body = like.request, orjson.loads(body)
            done = await walk(row, call, sender, attempts(row, call))
        except Exception as error:  # noqa: BLE001 - the SDK raises it as it would have
            return await self._replayed(_raising(error))
        finally:
            row.run.transports.fast += sender.sent or row.recording is not None
        result, outline = self._lean(kind, payload, done)
        if result is not None and kind.equal.get(outline):
            return result
        stock = await self._replayed(again(done))
        if outline is not None and len(kind.equal) < MOST_SHAPES:
            kind.equal[outline] = result is not None and same(result, stock)
        return stock

    def _lean(self, kind: RequestKind, payload: dict[str, Any], done: Done) -> tuple[Any, Any]:
        """Return our result and the outline of the answer; None for what cannot be made."""
        try:
            body = _said(done)  # what is no JSON has no outline
            outline = self._speaker.outline(body)
            unequal = kind.equal.get(outline) is False  # a list where a word should be is no key
        except Exception:  # noqa: BLE001 - whatever it is, the SDK knows what to say
            return None, None
        if unequal:
            return None, None
        try:
            return self._speaker.result(self._model, payload, self._kwargs, body), outline
        except Exception:  # noqa: BLE001 - as above
            return None, None

    async def _replayed(self, replay: Callable[[Any, Any], Any]) -> Any:
        """Let the SDK end the call, with this in place of an exchange."""
        token = REPLAY.set(replay)
        try:
            return await self._stock()
        finally:
            REPLAY.reset(token)


def _said(done: Done) -> Any:
    """What a plain answer says, off the wire or out of a batch.

    Raises:
        NotLean: the SDK has to look at it.
    """
    raw, kept = done.raw, done.kept
    if kept is not None and kept.status == 200:
        return loads(kept.content)
    if isinstance(raw, Answered) and raw.status == 200 and not told_elsewhere(raw):
        return raw.json
    raise NotLean


def _raising(error: Exception) -> Callable[[Any, Any], Any]:
    def replay(_http: Any, request: Any) -> Any:
        if hasattr(error, "request"):
            error.request = request
        raise raised_anew(error)

    return replay
