"""Records looked at without being rebuilt, values as text, and what counts as the same."""

from __future__ import annotations

import datetime as dt
import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from pydantic import BaseModel, ConfigDict, Field

from cottonpalm.errors import CannotStore
from cottonpalm.stores.codec.as_json import dumped, text_of
from cottonpalm.stores.codec.equality import classes_in, same
from cottonpalm.stores.codec.glances import about, glances, tries
from cottonpalm.stores.codec.kinds import qualified
from cottonpalm.stores.codec.records import has_input, pack, unpack
from cottonpalm.stores.codec.values import check, decode
from cottonpalm.types import ErrorRecord, Kind, Outcome, Try, Usage

pytestmark = pytest.mark.core


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: Any


class Other(BaseModel):
    x: Any


class Pair(NamedTuple):
    a: Any
    b: Any


# -- a record at a glance


def test_a_glance_shows_what_a_row_took_cost_and_met() -> None:
    ok = Outcome(0, "ok", "yes", attempts=2, usage=Usage(30, 4), cost_pico=7, latency_s=1.5)
    error = ErrorRecord(Kind.THROTTLE, "RateLimit", "slow down", retryable=True)
    failed = Outcome(1, "failed", attempts=3, error=error)
    bare = Outcome(2, "ok", "yes")
    records = [
        (at, pack(outcome, keep_input=False, types={})) for at, outcome in ((5, ok), (6, failed), (9, bare))
    ]
    first, second, third = glances(records)
    assert tuple(first) == (5, 1.5, 7, 34, 2, None)
    assert tuple(second) == (6, 0.0, None, 0, 3, ("throttle", "RateLimit", "slow down"))
    assert tuple(third) == (9, 0.0, None, 0, 0, None)


def test_the_tries_of_a_failed_row_are_read_and_what_is_none_is_left_out() -> None:
    met = (Try(0.0, 1.0, "429 throttle"), Try(2.0, 0.5, "500 transient"))
    error = ErrorRecord(Kind.THROTTLE, "RateLimit", "slow down", tries=met)
    record = pack(Outcome(1, "failed", error=error), keep_input=False, types={})
    assert tries(record) == met
    kept = unpack(record, 1, {}).error
    assert kept is not None
    assert kept.tries == met
    assert tries(pack(Outcome(1, "ok", "yes"), keep_input=False, types={})) == ()


def test_an_input_is_there_only_where_it_was_kept() -> None:
    outcome = Outcome(0, "ok", "yes", id="seven", input={"text": "hello"})
    kept, bare = (pack(outcome, keep_input=keep, types={}) for keep in (True, False))
    assert (has_input(kept), has_input(bare)) == (True, False)
    assert "hello" in about(kept)
    assert ("seven" in about(bare), "hello" in about(bare)) == (True, False)
    assert about(pack(Outcome(0, "ok", "yes"), keep_input=False, types={})) == ""


# -- as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("as it is", "as it is"),
        ('"quoted"', '"quoted"'),
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal("1.50"), "1.50"),
        (dt.timedelta(days=1, seconds=5), "1 day, 0:00:05"),
        (AIMessage("said"), "said"),
        (Colour.RED, "red"),
        (b"ab", "YWI="),
        (7, "7"),
        (True, "true"),
        (float("nan"), ""),
        (float("-inf"), "-inf"),
        ({"b": 1, "a": [None]}, '{"b":1,"a":[null]}'),
        ((1, "x"), '[1,"x"]'),
        ({3, 1}, "[1,3]"),
        (Point(x=1), '{"x":1}'),
        (np.array([1, 2]), "[1,2]"),
        (Document("page", metadata={"n": 1}), '{"page_content":"page","metadata":{"n":1}}'),
    ],
)
def test_a_value_is_text_as_json_without_quotes_round_a_string(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_what_json_cannot_hold_in_the_quick_way_is_exact_in_the_slow_one() -> None:
    assert json.loads(dumped({"n": 10**30, "s": "\ud800"})) == {"n": 10**30, "s": "\ud800"}


def test_a_message_with_calls_of_tools_shows_them() -> None:
    call = {"name": "add", "args": {"a": 1}, "id": "c1"}
    said = AIMessage("", tool_calls=[{**call, "type": "tool_call"}])
    assert json.loads(text_of(said)) == {"content": "", "tool_calls": [call]}


# -- what is the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ("a", b"a"),
        ([1, 2], [1]),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": True}),
        ({1: "a"}, {True: "a"}),
        ({1}, {True}),
        ({1, 2}, {1}),
        (Decimal("1.0"), Decimal("1.00")),
        (Point(x=1), Other(x=1)),
        (Point(x=1), Point(x=True)),
        (Colour.RED, "red"),
        (np.array([1]), np.array([1.0])),
        (np.array([1, 2]), np.array([[1, 2]])),
        (np.array([1, 2]), np.array([1, 3])),
        (AIMessage("a"), AIMessage("b")),
    ],
)
def test_these_are_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)


@pytest.mark.parametrize(
    "made",
    [
        lambda: float("nan"),
        lambda: [float("nan"), {"a": (1, {2, 3})}],
        lambda: Point(x=[1]),
        lambda: Decimal("1.0"),
        lambda: np.array([1, 2]),
        lambda: AIMessage("a"),
        lambda: frozenset({1, "a"}),
        lambda: Colour.RED,
    ],
)
def test_and_these_are(made: Any) -> None:
    assert same(made(), made())


def test_the_classes_in_a_value_are_those_that_its_reader_must_know() -> None:
    nest = {"a": [Point(x=1), (Colour.RED,)], ("k",): {Pair(1, 2)}}
    assert classes_in(nest) == {Point, Colour, Pair}
    assert classes_in(AIMessage("a", additional_kwargs={"p": Point(x=1)})) == {Point}
    assert classes_in([1, "a", None]) == set()
    deep: Any = Point(x=1)
    for _ in range(20):
        deep = [deep]
    assert classes_in(deep) == {Point}
    assert classes_in([deep]) == set(), "nobody nests so deep, but a value in itself"


def test_what_holds_itself_is_looked_through_to_an_end() -> None:
    ring: list[Any] = [Decimal(1)]
    ring.append(ring)
    circle: dict[str, Any] = {"a": 1}
    circle["b"] = circle
    assert classes_in(ring) == classes_in(circle) == set()


class Named(BaseModel):
    """A model whose field has another name outside."""

    model_config = ConfigDict(populate_by_name=True)
    count: int = Field(alias="theCount")


def test_a_model_is_stored_under_its_fields_own_names_and_without_a_word(
    recwarn: pytest.WarningsRecorder,
) -> None:
    types = {qualified(Named): Named}
    stored = check(Named(theCount=3), types)
    assert stored["v"] == {"count": 3}
    assert decode(stored, types) == Named(theCount=3)
    with pytest.raises(CannotStore):
        check(Named.model_construct(count="no number"), types)
    assert [str(each.message) for each in recwarn] == []
