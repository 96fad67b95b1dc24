"""Every value comes back equal, in type too, or is refused when it is written."""

from __future__ import annotations

import datetime as dt
import json
import math
import struct
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.agents import AgentAction
from langchain_core.documents import Document
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import PromptTemplate
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator

from cottonpalm.errors import CannotStore, StoredError
from cottonpalm.stores.codec.as_json import dumped
from cottonpalm.stores.codec.equality import same
from cottonpalm.stores.codec.kinds import data_classes, qualified
from cottonpalm.stores.codec.records import NOT_KEPT, InputText, has_input, pack, stored_input, unpack
from cottonpalm.stores.codec.values import check, decode, encode
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage

pytestmark = pytest.mark.core


class Colour(Enum):
    RED = "r"
    PAIR = (1, 2)


class Level(IntEnum):
    LOW = 1


class Label(StrEnum):
    GOOD = "good"


class Inner(BaseModel):
    when: dt.date
    colour: Colour


class Review(BaseModel):
    label: Label
    inner: list[Inner] = []
    extra: Any = None
    score: Annotated[float, Field(alias="theScore")] = 0.5


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    tags: set[str]
    when: dt.datetime


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Private(BaseModel):
    _hidden: int = PrivateAttr(default=0)


class Numbers(RootModel[list[int]]):
    pass


@dataclass
class Point:
    x: int
    y: tuple[int, ...] = ()


class Pair(NamedTuple):
    a: int
    b: Any


class Text(str):
    """As LangChain's own parsers return."""


CLASSES = (Colour, Level, Label, Review, Strict, Open, Private, Numbers, Point, Pair)
TYPES = {qualified(cls): cls for cls in CLASSES}


def there_and_back(value: Any) -> Any:
    return decode(orjson.loads(orjson.dumps(encode(value))), TYPES)


def form(value: Any) -> Any:  # noqa: C901 - one case a kind
    """A value spelled out to its last bit, by rules of this file alone: equal forms are equal values of equal types."""
    kind = type(value).__name__
    if isinstance(value, Enum):
        return kind, value.name
    if isinstance(value, str):  # a subclass comes back as plain text
        return "str", [ord(letter) for letter in value]
    if isinstance(value, float):
        return kind, "nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, dict):
        return kind, [(form(name), form(part)) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return kind, [form(part) for part in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(form, value), key=repr)
    if isinstance(value, BaseModel):
        private = value.__pydantic_private__ or {}
        return kind, form(vars(value)), form(value.__pydantic_extra__ or {}), form(private)
    if is_dataclass(value):
        return kind, [(each.name, form(getattr(value, each.name))) for each in fields(value)]
    if isinstance(value, dt.datetime | dt.time):
        return kind, repr(value.replace(tzinfo=None)), value.fold, value.utcoffset()
    return kind, repr(value)


ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))  # lone surrogates and control characters included
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([*Colour])
)
HASHABLE = (
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.just("$") | st.just("lc"), inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_nest_of_the_known_kinds_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert form(there_and_back(value)) == form(value)
    assert form(decode(orjson.loads(orjson.dumps(check(value, TYPES))), TYPES)) == form(value)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        [Level.LOW, Label.GOOD, {"k": Level.LOW}],
        "\ud83d\ude00",  # two lone halves stay two
        "\x00\x1f\u2028",
        2**70,
        -(2**63) - 1,
        float("nan"),
        [math.inf, -math.inf, -0.0],
        {"$": "tuple", "v": [1]},
        {"$": {"$": 1}},
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", "AIMessage"],
            "kwargs": {},
        },
        {"__lc_escaped__": {"lc": 1}},
        {"\ud800": 1},
        {1: "int", "1": "text", None: 0, (1, 2): []},
        (1, [2, (3,)]),
        pytest.param({frozenset({1}), (2, "x")}, id="a set of a frozenset and a tuple"),
        Decimal("1.10"),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        UUID(int=5),
        Point(1, (2, 3)),
        Pair(1, {"b"}),
        Colour.PAIR,
        Document(page_content="x", metadata={"lc": 1, "when": dt.date(2024, 1, 1), "tags": {"a"}}),
        AIMessage("hi", id="1", response_metadata={"nan": float("nan"), "t": (1, 2)}),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": {"$": 1}}, "id": "c", "type": "tool_call"}]),
        AIMessage(
            [{"type": "text", "text": "x"}],
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        ),
        [HumanMessage("a"), AIMessageChunk("b"), ToolMessage("c", tool_call_id="1", artifact={"x": b"y"})],
        ChatPromptValue(messages=[HumanMessage("x"), AIMessage("y", id="z")]),
        ChatGeneration(message=AIMessage("x"), generation_info={"a": (1,)}),
        AgentAction(tool="t", tool_input={"a": (1,)}, log="l"),
        AIMessageChunk(
            "a",
            tool_call_chunks=[{"name": "f", "args": "{}", "id": "i", "index": 0, "type": "tool_call_chunk"}],
        ),
        AIMessage(
            "x",
            invalid_tool_calls=[
                {"name": "f", "args": "{", "id": "i", "error": "e", "type": "invalid_tool_call"}
            ],
        ),
        ChatMessage(role="r", content="x", id="1", name="n"),
        AIMessage("x", additional_kwargs={"parsed": Review(label=Label.GOOD, theScore=1.0)}),
        {"raw": AIMessage("x"), "parsed": Review(label=Label.GOOD, theScore=2.0), "parsing_error": None},
        Review(label=Label.GOOD, inner=[Inner(when=dt.date(2024, 1, 1), colour=Colour.RED)], theScore=1.0),
        Review(label=Label.GOOD, extra=(1, {"set"}), theScore=float("nan")),
        Strict(tags={"a"}, when=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        Open(a=1, b=[2]),  # type: ignore[call-arg]
        Numbers([1, 2]),
    ],
    ids=repr,
)
def test_these_come_back_equal_too(value: Any) -> None:
    packed = pack(Outcome(0, "ok", output=value), keep_input=False, types=TYPES)
    assert form(unpack(packed, 0, TYPES).output) == form(value)


def test_a_model_comes_back_knowing_which_fields_were_set() -> None:
    review = Review(label=Label.GOOD, theScore=1.0)
    assert there_and_back(review).model_fields_set == {"label", "score"}


def test_text_of_a_subclass_comes_back_as_plain_text() -> None:
    packed = pack(Outcome(0, "ok", output={"a": Text("x")}), keep_input=False, types={})
    assert type(unpack(packed, 0, {}).output["a"]) is str
    packed = pack(Outcome(0, "ok", output=Text("x\ud800")), keep_input=False, types={})
    assert unpack(packed, 0, {}).output == "x\ud800"


@pytest.mark.parametrize("value", [Review(label=Label.GOOD), Colour.RED, Point(1), {"deep": [Pair(1, 2)]}])
def test_an_object_whose_class_is_unknown_is_refused_naming_the_remedy(value: Any) -> None:
    with pytest.raises(CannotStore, match=r"output_type=(Review|Colour|Point|Pair)") as caught:
        check(value, {})
    assert caught.value.text == repr(value)


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Worse:
    def __repr__(self) -> str:
        raise RuntimeError


def answered(text: str, **more: Any) -> AIMessage:
    metadata = {"model_name": "small", "finish_reason": "stop", **more}
    usage = {
        "input_tokens": 3,
        "output_tokens": 4,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 1},
    }
    return AIMessage(text, id="run-1", response_metadata=metadata, usage_metadata=usage)


def test_what_one_answer_has_proved_holds_for_those_of_the_same_shape_alone() -> None:
    def comes_back(value: AIMessage) -> bool:
        return same(value, decode(orjson.loads(orjson.dumps(check(value, {}))), {}))

    assert comes_back(answered("first"))
    assert comes_back(answered("second", seed="x"))
    for wrong in (5, None, ["a list", 7]):
        other = answered("third")
        other.content = wrong  # type: ignore[assignment]
        with pytest.raises(CannotStore):
            check(other, {})
    other = answered("fourth")
    other.usage_metadata["input_tokens"] = "three"  # type: ignore[index,typeddict-item]
    with pytest.raises(CannotStore):
        check(other, {})
    other = answered("fifth")
    other.usage_metadata["input_token_details"]["cache_read"] = "one"  # type: ignore[index,typeddict-item]
    with pytest.raises(CannotStore):
        check(other, {})


def test_a_models_own_checks_run_once_more_when_its_answer_is_stored() -> None:
    seen: list[str] = []

    class Checked(BaseModel):
        name: str
        parts: list[float] = []

        @field_validator("name")
        @classmethod
        def look(cls, name: str) -> str:
            seen.append(name)
            return name

    value = Checked(name="a", parts=[0.1, -0.0])
    types = {qualified(Checked): Checked}
    record = pack(Outcome(0, "ok", value), keep_input=False, types=types)
    assert seen == ["a", "a"]
    assert same(unpack(record, 0, types).output, value)


def test_a_model_is_refused_where_its_name_stands_for_another_class() -> None:
    review = Review(label=Label.GOOD)
    with pytest.raises(CannotStore, match="Review cannot be stored"):
        check(review, {qualified(Review): Inner})


def test_a_status_that_langchain_does_not_know_is_refused_whatever_was_stored_before() -> None:
    assert check(ToolMessage("fine", tool_call_id="1", status="error"), {})
    wrong = ToolMessage("fine", tool_call_id="1", status="error")
    wrong.status = "unheard of"  # type: ignore[assignment]
    with pytest.raises(CannotStore):
        check(wrong, {})


def test_what_has_no_faithful_form_is_refused_and_its_text_kept() -> None:
    private = Private()
    private._hidden = 5
    for value in (
        Odd(),
        {"a": [Odd()]},
        PromptTemplate.from_template("{x}"),
        private,
        {1, Odd()},
    ):
        with pytest.raises(CannotStore) as caught:
            pack(Outcome(0, "ok", output=value), keep_input=False, types=TYPES)
        assert caught.value.text == repr(value)
    with pytest.raises(CannotStore) as caught:
        check(Worse(), {})
    assert "Worse" in caught.value.text


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_exception_in_an_answer_comes_back_as_what_it_said() -> None:
    found = [
        OutputParserException("no JSON", llm_output="{"),
        KeyError("a"),
        Broken(),
        ValueError("half \ud83d"),
    ]
    back = there_and_back({"parsed": None, "parsing_error": found})["parsing_error"]
    assert {type(one) for one in back} == {StoredError}
    assert [one.type for one in back] == ["OutputParserException", "KeyError", "Broken", "ValueError"]
    assert [str(one) for one in back] == [
        str(found[0]),
        "'a'",
        "<Broken without a readable text>",
        "half \ud83d",
    ]
    assert check(found, {}) == check(back, {}), "what came back can be kept again"
    assert not same(found[1], back[0])
    assert "sk-proj-" not in str(check(ValueError("key sk-proj-0123456789abcdef"), {}))
    assert orjson.loads(dumped({"error": found[1]})) == {"error": "KeyError: 'a'"}


def test_nesting_without_end_is_refused_not_a_crash() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CannotStore, match="nested"):
        check(loop, {})
    deep: Any = None
    for _ in range(300):
        deep = [deep]
    with pytest.raises(CannotStore, match="nested"):
        check(deep, {})


def test_a_record_cannot_make_the_reader_build_what_is_not_data() -> None:
    for name in ("PromptTemplate", "ChatOpenAI", "RunnableLambda", "__class__"):
        with pytest.raises(CannotStore, match=name):
            decode({"$": "lc", "c": name, "v": {"template": "x", "input_variables": []}}, {})
    with pytest.raises(CannotStore, match="does not know"):
        decode({"$": "os.system", "v": "x"}, {})


def test_only_langchains_classes_that_hold_data_are_rebuilt() -> None:
    names = data_classes().keys()
    assert {
        "AIMessage",
        "AIMessageChunk",
        "ToolMessage",
        "Document",
        "ChatPromptValue",
        "AgentAction",
    } <= names
    assert not [
        name for name in names if "Template" in name or "Runnable" in name or name.startswith("ChatOpen")
    ]


def test_without_its_class_a_model_reads_as_its_data() -> None:
    packed = pack(Outcome(0, "ok", output=Review(label=Label.GOOD)), keep_input=False, types=TYPES)
    assert unpack(packed, 0, {}).output["label"] == "good"


FULL = Outcome(
    7,
    "failed",
    output={"partial": ["x"]},
    id="row\ud800-7",
    error=ErrorRecord(Kind.REASK, "ValueError", "no \udfff good", retryable=True),
    attempts=3,
    usage=Usage(1, 2, 3, 4, 5),
    cost_pico=2**60,
    cost_source="estimated",
    latency_s=1.25,
    cached=True,
    lane="batch",
    model="gpt",
    truncated=True,
    input={"text": "a", "n": (1, 2)},
)


def test_an_outcome_comes_back_whole() -> None:
    assert unpack(pack(FULL, keep_input=True, types={}), 7, {}) == FULL
    bare = Outcome(0, "ok", output=None)
    assert unpack(pack(bare, keep_input=False, types={}), 0, {}) == bare


def test_a_record_is_one_json_object_that_any_reader_can_read() -> None:
    record = json.loads(pack(Outcome(0, "ok", output={"a": [1, 2.5]}), keep_input=False, types={}))
    assert record["o"] == {"a": [1, 2.5]}


def test_inputs_are_kept_only_if_asked_and_one_that_cannot_be_is_kept_as_text() -> None:
    kept = pack(Outcome(0, "ok", input=[HumanMessage("x")]), keep_input=True, types={})
    assert (has_input(kept), stored_input(kept, {})) == (True, [HumanMessage("x")])
    none = pack(Outcome(0, "ok", input=None), keep_input=True, types={})
    assert (has_input(none), stored_input(none, {})) == (True, None)
    left_out = pack(Outcome(0, "ok", input="x"), keep_input=False, types={})
    assert (has_input(left_out), stored_input(left_out, {})) == (False, NOT_KEPT)
    for value in (Odd(), Review(label=Label.GOOD)):
        shown = pack(Outcome(0, "ok", input=value), keep_input=True, types={})
        assert not has_input(shown)
        assert stored_input(shown, {}) == repr(value)
        assert type(unpack(shown, 0, {}).input) is InputText


def test_a_path_is_not_stored_as_text() -> None:
    with pytest.raises(CannotStore, match="PurePosixPath"):
        check(PurePosixPath("/x"), {})


UNLIKE = [
    (1, True), (1, 1.0), ("1", 1), (None, False), ([1], (1,)), ({1}, frozenset({1})), ({"a": 1}, {"a": 1.0}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (Level.LOW, 1), (Label.GOOD, "good"), (Colour.RED, Label.GOOD), ([1, 2], [1]),
    (Decimal("1.1"), 1.1), (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)), (Pair(1, 2), (1, 2)),
    (Point(1), Point(2)), (0.0, -0.0), (Decimal("1.0"), Decimal("1.00")), (Decimal("0"), Decimal("-0")),
    ({0.0, 1}, {-0.0, 1}), (frozenset({1, 2}), frozenset({True, 2})), ({-0.0: 1}, {0.0: 1}),
    (Open(a=1), Open(a=2)), (AIMessage("a"), HumanMessage("a")), (AIMessage("a"), AIMessage("b")),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_what_reads_back_as_another_value_or_type_is_not_taken_for_the_same(one: Any, other: Any) -> None:
    """The comparison that refuses an output before it is written."""
    assert form(one) != form(other)
    assert not same(one, other)
    assert not same(other, one)
    assert not same([one], [other])
    assert not same({"k": one}, {"k": other})
    assert same(one, one)


def answer_that_counts(**counts: Any) -> AIMessage:
    answer = AIMessage("yes")
    answer.usage_metadata = counts  # type: ignore[assignment]  # as a model sets it: unchecked
    return answer


@pytest.mark.parametrize("held", [lambda answer: answer, lambda answer: {"raw": answer, "parsed": [1]}])
def test_an_answer_whose_usage_has_fractions_of_tokens_is_kept_in_whole_ones(held: Any) -> None:
    details = {"cache_read": 0.5, "audio": math.nan}
    answer = answer_that_counts(
        input_tokens=1.5, output_tokens=2, total_tokens=math.inf, input_token_details=details
    )
    output = held(answer)
    outcome = unpack(pack(Outcome(0, "ok", output), keep_input=False, types={}), 0, {})
    assert outcome.output == output
    assert answer.usage_metadata == {
        "input_tokens": 2,
        "output_tokens": 2,
        "total_tokens": 0,
        "input_token_details": {"cache_read": 1, "audio": 0},
    }


def test_a_fraction_after_a_float_that_is_whole_can_be_read_again() -> None:
    for tokens in (7.0, 1.5):
        answer = answer_that_counts(input_tokens=tokens, output_tokens=2.0, total_tokens=tokens + 2)
        record = pack(Outcome(0, "ok", answer), keep_input=False, types={})
        assert unpack(record, 0, {}).output == answer
