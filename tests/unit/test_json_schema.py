"""Which schemas can be asked for, and which answers fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.cli.chains.json_schema import flaws, misuse
from tests.support.shapes import instance

pytestmark = pytest.mark.core


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "no JSON object"),
        ({}, "must describe an object"),
        ({"type": "array", "items": {}}, "must describe an object"),
        (of(), "must describe an object"),
        (of(a="text"), "a is no JSON object"),
        (of(a={"type": "text"}), "a has the type 'text'; JSON Schema knows object, array, string"),
        (of(a=of(b={"type": ["string", "none"]})), "a.b has the type 'none'"),
        (of(a={"$ref": "#/$defs/X"}), "a refers to '#/$defs/X', which is not in the file"),
        (of(a={"$ref": "other.json"}), "a refers to 'other.json'"),
        (of(a={"pattern": "("}), "a has a 'pattern' that is no regular expression"),
        (of(a={"minimum": "1"}), "a has a 'minimum' that is no number"),
        (of(a={"enum": []}), "a has a 'enum' that is no list of values"),
        ({**of(a={}), "required": "a"}, "the schema has a 'required' that is no list of names"),
        (of(a={"items": {"type": "x"}}), "a.items has the type 'x'"),
        (of(a={"anyOf": [{"type": "x"}]}), "a.anyOf has the type 'x'"),
    ],
)
def test_a_schema_that_cannot_be_asked_for_says_where_it_is_wrong(schema: Any, said: str) -> None:
    assert said in (misuse(schema) or "")


def test_a_schema_may_hold_what_only_annotates() -> None:
    assert misuse({**of(a={"title": "A", "format": "date", "x-mine": 1}), "$schema": "https://…"}) is None


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "string"}, 1, "is not of type string"),
        ({"type": "integer"}, True, "is not of type integer"),
        ({"type": "integer"}, 1.5, "is not of type integer"),
        ({"type": ["string", "null"]}, 1, "is not of type string or null"),
        ({"enum": ["a", "b"]}, "c", "is none of 'a', 'b'"),
        ({"enum": [1]}, True, "is none of 1"),
        ({"const": 1}, 2, "is not 1"),
        ({"minimum": 1}, 0, "is below 1"),
        ({"maximum": 1}, 2, "is above 1"),
        ({"exclusiveMinimum": 1}, 1, "is not above 1"),
        ({"exclusiveMaximum": 1}, 1, "is not below 1"),
        ({"minLength": 2}, "a", "is shorter than 2"),
        ({"maxLength": 2}, "abc", "is longer than 2"),
        ({"minItems": 1}, [], "has fewer items than 1"),
        ({"maxItems": 1}, [1, 2], "has more items than 1"),
        ({"pattern": "^a"}, "b", "does not match '^a'"),
        ({"items": {"type": "string"}}, ["a", 1], "[1] is not of type string"),
        ({"required": ["b"]}, {}, "lacks 'b'"),
        ({"properties": {"b": {}}, "additionalProperties": False}, {"c": 1}, "c must not be there"),
        ({"additionalProperties": {"type": "string"}}, {"c": 1}, "c is not of type string"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "fits none of the forms"),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3, "exactly one of the forms"),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 3, "is above 2"),
        ({"not": {"type": "string"}}, "a", "must not have"),
        ({"$ref": "#/$defs/Name"}, 1, "is not of type string"),
    ],
)
def test_where_an_answer_does_not_fit_is_said(schema: Any, value: Any, said: str) -> None:
    root = {**of(a=schema), "$defs": {"Name": {"type": "string"}}}
    assert misuse(root) is None
    [flaw] = flaws({"a": value}, root)
    assert flaw.startswith("a")
    assert said in flaw


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 2.0),
        ({"type": "number"}, 10**400),
        ({"type": "integer"}, 10**400),
        ({"minLength": 2}, 1),
        ({"minimum": 2}, "a"),
        ({"items": {"type": "string"}}, {"no": "list"}),
        (True, object()),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 1),
    ],
)
def test_a_rule_says_nothing_of_what_it_does_not_concern(schema: Any, value: Any) -> None:
    assert list(flaws(value, schema)) == []


def test_a_schema_that_refers_to_itself_ends() -> None:
    tree = of(children={"type": "array", "items": {"$ref": "#"}}, loop={"$ref": "#/properties/loop"})
    assert misuse(tree) is None
    assert list(flaws({"children": [{"children": []}], "loop": 1}, tree)) == []
    assert list(flaws({"children": [{"children": 1}]}, tree)) == ["children[0].children is not of type array"]


SCHEMAS = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]),
    lambda inner: st.one_of(
        inner.map(lambda part: {"type": "array", "items": part}),
        st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3).map(
            lambda parts: {**of(), "properties": parts, "required": list(parts)}
        ),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.text())
def test_a_value_made_from_a_schema_fits_it(schema: Any, text: str) -> None:
    root = of(answer=schema)
    assert misuse(root) is None
    assert list(flaws(instance(root, text, root), root)) == []


@given(SCHEMAS, st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_answer_makes_the_check_fail(schema: Any, value: Any) -> None:
    assert all(isinstance(flaw, str) for flaw in flaws(value, of(answer=schema)))
    list(flaws({"answer": value}, of(answer=schema)))
