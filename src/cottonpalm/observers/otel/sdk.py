"""Measures many values at once with OpenTelemetry's SDK, whose API takes one at a time.

At each measurement the API cleans and hashes the attributes: ten times the work of adding the value up. So values are
kept, and handed over by the hundred and before each collection: the first of them by the API, which makes the place
where they are added up and may keep an exemplar, the others straight there, into a histogram all at once.
All go by the API where an instrument has several readers or views, or where the SDK is another one, or not made as the
one that is known here (1.30 to 1.45).
"""

from __future__ import annotations

import operator
import threading
from inspect import signature
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakMethod

from cottonpalm.observers.measures.bounded import in_buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


_BUCKETS: Final = "_ExplicitBucketHistogramAggregation"


def measure_all(measure: Any, attributes: dict[str, Any], values: Sequence[float]) -> None:
    """Measure values of 0 or more. `measure` is a counter's `add` or a histogram's `record`."""
    for at, value in enumerate(values):
        if at == 1 and _added_up(measure, attributes, values[1:]):
            return
        measure(value, attributes)


class _Value:
    """As much of a measurement as is added up."""

    __slots__ = ("value",)
    value: float


def _added_up(measure: Any, attributes: Mapping[str, Any], values: Sequence[float]) -> bool:
    """Add values up where the SDK has put one already; False where that is not the one place that is known here."""
    try:
        instrument, consumer = _inside(measure)
        if not getattr(instrument, "_is_enabled", lambda: True)():
            return False
        [reader] = consumer._reader_storages.values()  # noqa: SLF001 - see above
        [match] = reader._instrument_view_instrument_matches[instrument]  # noqa: SLF001
        kept = match._view._attribute_keys  # noqa: SLF001
        shown = {name: value for name, value in attributes.items() if kept is None or name in kept}
        with match._lock:  # noqa: SLF001 - a collection of differences begins anew with all
            [place] = [
                place
                for place in match._attributes_aggregation.values()  # noqa: SLF001
                if place._attributes == shown  # noqa: SLF001
            ]
            add = _spread if type(place).__name__ == _BUCKETS else _one_by_one
            add(place, values)
    except (AttributeError, KeyError, TypeError, ValueError):  # many, none, or not the SDK that is known here
        return False
    return True


def _spread(place: Any, values: Sequence[float]) -> None:
    """Add values up in buckets, all at once: what `aggregate` does with each."""
    ordered = sorted(values)
    with place._lock:  # noqa: SLF001 - see above
        held = place._value or place._get_empty_bucket_counts()  # noqa: SLF001
        total, least, most = place._sum + sum(ordered), place._min, place._max  # noqa: SLF001
        if place._record_min_max:  # noqa: SLF001
            least, most = min(least, ordered[0]), max(most, ordered[-1])
        counts = list(map(operator.add, held, in_buckets(ordered, place._boundaries)))  # noqa: SLF001
        place._value, place._sum, place._min, place._max = counts, total, least, most  # noqa: SLF001


def _one_by_one(place: Any, values: Sequence[float]) -> None:
    if "should_sample_exemplar" not in signature(place.aggregate).parameters:
        raise TypeError(place)
    one, add = _Value(), place.aggregate
    for one.value in values:
        add(one, False)


def _inside(measure: Any) -> tuple[Any, Any]:
    """The SDK's instrument of a bound method, behind its proxy, and what takes its measurements."""
    instrument = getattr(measure.__self__, "_real_instrument", None) or measure.__self__
    return instrument, instrument._measurement_consumer  # noqa: SLF001


class _Collections:
    """Where the SDK expects an instrument that is asked at each collection: it has others hand over what they keep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tell: list[WeakMethod[Callable[[], None]]] = []

    def add(self, tell: Callable[[], None]) -> None:
        with self._lock:
            self._tell = [each for each in self._tell if each() is not None] + [WeakMethod(tell)]

    def callback(self, _: object) -> Iterable[Any]:
        with self._lock:
            all_ = [tell for each in self._tell if (tell := each()) is not None]
        for tell in all_:
            tell()
        return ()


_lock = threading.Lock()
_of_consumers: WeakKeyDictionary[Any, _Collections] = WeakKeyDictionary()


def before_collections(measure: Any, tell: Callable[[], None]) -> bool:
    """Call a method before each collection from the instrument's provider; False where there is no way to be asked."""
    try:
        _, consumer = _inside(measure)
        with _lock:
            if (collections := _of_consumers.get(consumer)) is None:
                collections = _of_consumers[consumer] = _Collections()
                consumer.register_asynchronous_instrument(collections)
    except (AttributeError, TypeError):
        return False
    collections.add(tell)
    return True
