"""What is known of one model object: how its requests are made, and which answers are proved to come out equal."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.request.transport.fast.template import VARIES, Template, Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.request.transport.fast.models import Speaker
    from cottonpalm.request.transport.replay import Look

MOST_KINDS: Final = 64  # of requests of one model; each further one goes by the SDK
MOST_SHAPES: Final = 256  # of answers to one kind
_LASTING: Final = ("api_key", "organization", "project", "timeout", "_base_url")
_VIEWED: Final = ("_custom_headers", "_custom_query")
_lock: Final = threading.Lock()
_lanes: Final[dict[int, tuple[weakref.ref[Any], FastLane]]] = {}


class RequestKind:
    """One kind of a model's requests.

    Attributes:
        template: how such requests are made; None while that is being learnt.
        why_not: why they go by the SDK; "" if they need not.
        equal: by outline of an answer: whether our result was equal to the SDK's.
        keeps: objects of the payload by whose identity the kind is known.
    """

    __slots__ = ("equal", "keeps", "template", "why_not")

    def __init__(self, keeps: object) -> None:
        self.template: Template | None = None
        self.why_not = "its first request"
        self.equal: dict[Any, bool] = {}
        self.keeps = keeps

    def learn(self, look: Look, payload: Mapping[str, Any]) -> None:
        """Learn how such requests are made from one that the SDK made of this payload."""
        try:
            self.template, self.why_not = Template(look, payload), ""
        except Unfit as unfit:
            self.why_not = str(unfit)


UNKNOWN: Final = RequestKind(None)


class FastLane:
    """One model object, seen at least once. It keeps neither the model nor its client alive."""

    def __init__(self, speaker: Speaker, model: Any) -> None:
        self._client: weakref.ref[Any] | None = None
        self._told: tuple[Any, ...] = ()
        try:
            client = speaker.client(model)
            self._client, self._told = weakref.ref(client), _told(client)
            self.why_not = speaker.why_not(model)
        except Exception:  # noqa: BLE001 - what is wrong with the model, it says itself when it is called
            self.why_not = "the model is not set up as it should be"
        self.kinds: dict[bytes, RequestKind] = {}

    def fits(self, speaker: Speaker, model: Any) -> bool:
        """Whether the model is set up as it was."""
        client = speaker.client(model)
        return self._client is not None and client is self._client() and _told(client) == self._told


def _told(client: Any) -> tuple[Any, ...]:
    """What its user may change on an SDK's client or its HTTP client between two rows, and all its requests have."""
    own = [getattr(client, name, None) for name in _LASTING]
    more = [dict(getattr(client, name, None) or {}) for name in _VIEWED]
    headers = getattr(getattr(client, "_client", None), "headers", None)
    return (*own, *more, getattr(headers, "raw", None))


def lane_of(speaker: Speaker, model: Any) -> FastLane | None:
    """Return what is known of a model; None the first time, since a model made anew for each row is best left alone."""
    number = id(model)
    known = _lanes.get(number)
    if known is not None and known[0]() is model and known[1].fits(speaker, model):
        return known[1]
    again = known is not None and known[0]() is model
    with _lock:
        _lanes[number] = (weakref.ref(model, lambda _: _lanes.pop(number, None)), FastLane(speaker, model))
    return _lanes[number][1] if again else None


def kind_of(lane: FastLane, payload: Mapping[str, Any]) -> tuple[bytes, RequestKind | None]:
    """Return the key of a payload's kind, and the kind if it is known.

    Raises:
        TypeError: the payload holds what cannot be told apart.
    """
    # what varies may also be missing: Anthropic's requests have a `system` only where a row has such a message
    fixed = {name: None if name in VARIES else value for name, value in payload.items()}
    key = orjson.dumps(fixed, default=_by_identity, option=orjson.OPT_NON_STR_KEYS)
    return key, lane.kinds.get(key)


def _by_identity(thing: object) -> str:
    return f"{type(thing).__qualname__} {id(thing)}"


def same(one: object, other: object) -> bool:
    """Whether two results are equal in all they hold, types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "model_fields_set") and hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return one == other
