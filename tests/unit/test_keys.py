"""Equal questions have equal keys, in every process; others have others."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage

from cottonpalm.engine.input.keys import KEY_BYTES, content_key, id_key

pytestmark = pytest.mark.core


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: Any


class Holder:
    def __init__(self, x: Any) -> None:
        self.x = x


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def reordered(value: Any) -> Any:
    """An equal value whose dicts were filled in another order."""
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(part) for part in value] if isinstance(value, list) else value


@given(JSON)
def test_the_order_in_which_a_dict_was_filled_does_not_count(value: Any) -> None:
    assert content_key(value) == content_key(reordered(value))
    assert len(content_key(value)) == KEY_BYTES


DIFFERENT: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    -1,
    0.5,
    float("nan"),
    float("inf"),
    2**70,
    "",
    "1",
    "None",
    b"",
    b"1",
    "\ud800",
    "red",
    [],
    (),
    {},
    set(),
    [1],
    (1,),
    {1},
    [[1]],
    [1, 1],
    ["1"],
    [None],
    {"a": 1},
    {"a": 1.0},
    {"a": None},
    {"a": float("nan")},
    {"a": [1]},
    {"a": (1,)},
    {1: "a"},
    {"1": "a"},
    {"a": {"b": 1}},
    {"a": {"b": (1,)}},
    ["a", "b"],
    ["ab"],
    [["a"], "b"],
    ["a", ["b"]],
    Colour.RED,
    Decimal("1"),
    Decimal("1.0"),
    dt.date(2024, 1, 1),
    dt.datetime(2024, 1, 1),  # noqa: DTZ001
    dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "2024-01-01",
    dt.time(1),
    dt.timedelta(1),
    Point(1),
    Point(2),
    Point([1]),
    Holder(1),
    Holder(2),
    HumanMessage("a"),
    AIMessage("a"),
    HumanMessage("b"),
    [HumanMessage("a")],
    Document(page_content="a"),
    Document(page_content="a", metadata={"x": 1}),
    int,
    str,
    len,
    1j,
    range(3),
    range(4),
]


def test_values_that_a_prompt_could_tell_apart_have_different_keys() -> None:
    assert len({content_key(value) for value in DIFFERENT}) == len(DIFFERENT)


def test_configuration_and_call_arguments_are_part_of_the_question() -> None:
    keys = {
        content_key("x"),
        content_key("x", {"model": "a"}),
        content_key("x", {"model": "b"}),
        content_key("x", None, {"model": "a"}),
        content_key("x", {"model": "a"}, {"stop": ["."]}),
    }
    assert len(keys) == 5
    assert content_key("x", {}, {}) == content_key("x")


def test_equal_objects_made_twice_have_equal_keys() -> None:
    for make in (
        lambda: Point({"a": {3, 1, 2}}),
        lambda: Holder([Holder(1)]),
        lambda: {"m": [HumanMessage("x")]},
        object,
    ):
        assert content_key(make()) == content_key(make())
    assert content_key(Word.RED) == content_key(Word("red"))


def test_a_messages_drawn_id_does_not_count() -> None:
    assert content_key(AIMessage("a", id="1")) == content_key(AIMessage("a", id="2"))
    assert content_key(Document(page_content="a", id="1")) != content_key(Document(page_content="a", id="2"))


def test_shared_parts_are_as_good_as_equal_ones() -> None:
    part = [1]
    assert content_key([part, part]) == content_key([[1], [1]])
    assert content_key((part, part)) == content_key(([1], [1]))


def test_endless_and_very_deep_values_have_keys_too() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    other: list[Any] = [2]
    other.append(other)
    assert content_key(loop) != content_key(other)
    one, two = Holder(None), Holder(None)
    one.x, two.x = two, one
    content_key(one)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert content_key(deep) != content_key([deep])


def test_ids_and_contents_have_separate_keys() -> None:
    assert id_key("x") != content_key("x")
    assert id_key("1") != id_key("2")
    assert len(id_key("\ud800")) == KEY_BYTES


SCRIPT = """
import datetime as dt
from cottonpalm.engine.input.keys import content_key, id_key
values = ["x", {"b": {3, "a", None, (1, 2)}, "a": [1.5]}, frozenset("hello"), dt.date(2024, 1, 1)]
values += [{"x": b"1", 2: None}, id]
print(id_key("7").hex(), *(content_key(value).hex() for value in values))
"""


EXPECTED = [  # written down: a stored key must be found by every later version, on every Python
    "a140891bc3be51f138d3236662fd0665",
    "06ca7336b2e8c4dde3faa6b679b763c4",
    "37287b2c3afd6448f6d0092cb3de5ef7",
    "efbe1b89c7d5296d0b57a62a8aab5a5d",
    "8f807b15e676c3db9464c61e847f50eb",
    "5eac90e48b2645dfbc9154656825776b",
    "2e69d58f0f780ac29eea4738c0340df6",
]


def test_keys_do_not_depend_on_the_process_nor_on_the_version() -> None:
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert run.stdout.split() == EXPECTED
