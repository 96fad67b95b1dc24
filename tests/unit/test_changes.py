"""What a difference between two descriptions of a chain means, kind by kind of hash."""

from __future__ import annotations

from typing import Any

import pytest

from cottonpalm.stores.rules.changes import Changes, compare
from cottonpalm.stores.rules.leniently import is_newer


def uses(old: Any, new: Any) -> Changes:
    return compare({"step": {"f": {"$uses": {"WORD": old}}}}, {"step": {"f": {"$uses": {"WORD": new}}}})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a1", "b2", ["WORD, which step uses, changed"]),
        ("source:a", "source:b", ["WORD, which step uses, changed"]),
        ("3.11:a", "3.11:b", ["WORD, which step uses, changed"]),
        ("3.11:a", "3.12:b", []),
        ("3.11:a", "source:b", []),
        ("source:a", "3.11:b", []),
        ("installed:numpy 1", "installed:numpy 2", ["WORD, which step uses, changed: numpy 1 -> numpy 2"]),
        ("installed:numpy 1", "source:b", ["WORD, which step uses, changed"]),
        ("source:b", "installed:numpy 1", ["WORD, which step uses, changed"]),
        ("state:a", "state:b", ["the state of WORD, which step uses, changed"]),
        ("state:a", "source:b", ["WORD, which step uses, changed"]),
        ("source:a", "state:b", ["WORD, which step uses, changed"]),
        ("a1", None, []),
        (None, "a1", []),
        ("a1", "a1", []),
    ],
)
def test_a_value_that_code_reads_is_compared_with_its_own_kind(old: Any, new: Any, said: list[str]) -> None:
    assert uses(old, new) == Changes([], said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("source:a", "source:b", ["the code of step changed"]),
        ("3.11:a", "3.12:a", []),
        ("source:a", "3.11:b", []),
        ("source:a", {"x": 1}, ["the code of step changed"]),
        ("state:a", "state:b", ["the state of step changed (f)"]),
    ],
)
def test_code_is_compared_with_code_of_its_kind(old: Any, new: Any, said: list[str]) -> None:
    assert compare({"step": {"f": {"$code": old}}}, {"step": {"f": {"$code": new}}}) == Changes([], said)


def test_every_other_difference_is_refused_and_shown_where_it_is() -> None:
    def refused(old: Any, new: Any) -> list[str]:
        found = compare({"m": old}, {"m": new})
        assert not found.warn
        return found.refuse

    assert refused({"a": 1}, {"a": 1}) == []
    assert refused({"a": 1}, {"a": True}) == ["m: a changed: 1 -> true"]
    assert refused({"a": [1, 2]}, {"a": [1, 3]}) == ["m: a[1] changed: 2 -> 3"]
    assert refused({"a": [1]}, {"a": [1, 3]}) == ["m: a changed: [1] -> [1, 3]"]
    assert refused({"a": {"b": 1}}, {"a": {}}) == ["m: a.b changed: 1 -> nothing"]
    assert refused({"a": {"template": "x"}}, {"a": {"template": "y"}}) == [
        'the prompt changed (m): "x" -> "y"'
    ]
    assert refused({"a": {"template": 1}}, {"a": {"template": "y"}}) == ['m: a.template changed: 1 -> "y"']
    assert refused("x", "y") == ['m changed: "x" -> "y"']
    assert refused("é", {"b": 1, "a": 2}) == ['m changed: "é" -> {"a": 2, "b": 1}']
    assert compare({}, {"m": 1}).refuse == ["m was added"]
    assert compare({"m": 1}, {}).refuse == ["m is gone"]


def test_long_texts_are_shown_from_shortly_before_the_first_difference() -> None:
    [said] = compare({"m": "a" * 58}, {"m": "a" * 57 + "b"}).refuse
    assert said == f'm changed: "{"a" * 58}" -> "{"a" * 57}b"', "sixty characters are shown whole"
    [said] = compare({"m": "a" * 100 + "x" + "c" * 99}, {"m": "a" * 100 + "y" + "c" * 99}).refuse
    assert said == f"m changed: …{'a' * 20}x{'c' * 39}… -> …{'a' * 20}y{'c' * 39}…"
    [said] = compare({"m": "a" * 70}, {"m": "a" * 69}).refuse
    assert said == f'm changed: …{"a" * 20}a" -> …{"a" * 20}"'


def test_a_difference_is_shown_from_where_the_shorter_text_ends_or_else_from_the_beginning() -> None:
    assert compare({"m": {"a": 1}}, {"m": {"a": 12}}).refuse == ["m: a changed: 1 -> 12"]
    [said] = compare({"m": 10**70}, {"m": 10**71}).refuse
    assert said == f"m changed: …{'0' * 20} -> …{'0' * 21}"
    [said] = compare({"m": "a" * 40}, {"m": "a" * 40 + "b" * 60}).refuse
    assert said == f'm changed: …{"a" * 20}" -> …{"a" * 20}{"b" * 40}…', "one long text is enough"
    [said] = compare({"m": "x" + "a" * 99}, {"m": "y" + "a" * 99}).refuse
    assert said == f'm changed: "x{"a" * 58}… -> "y{"a" * 58}…'


def test_only_a_version_above_ours_is_newer_and_what_is_no_number_counts_as_one() -> None:
    assert [is_newer({"version": found}, 2) for found in (1, 2, 3, "2", None)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert not is_newer({}, 2)
