"""Nothing a user can say is undocumented or untested, and the generated pages say what is so."""

from __future__ import annotations

import re
from functools import cache

import pytest
from docs.tools import coverage, reference

from tests.docs.pages import table

ANEW = "run `python -m docs.tools`"


@pytest.mark.as_shipped
def test_the_reference_is_what_the_command_line_says_of_itself() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), ANEW


@cache
def listed() -> dict[tuple[str, str], tuple[str, str]]:
    """Page and test of each name, as the table has them."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    text = coverage.PAGE.read_text(encoding="utf-8")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        owner = part.partition("\n")[0]
        for name, page, test in table(part):
            found[owner, name.strip("`")] = (re.sub(r"^\[(.*)\]\(.*\)$", r"\1", page), test.strip("`"))
    return found


def test_the_table_names_everything_and_nothing_else() -> None:
    assert list(listed()) == [(name.owner, name.name) for name in coverage.names()], ANEW


@pytest.mark.parametrize("name", coverage.names(), ids=lambda name: f"{name.owner} {name.name}")
def test_it_is_explained_on_its_page_and_used_by_its_test(name: coverage.Name) -> None:
    page, test = listed()[name.owner, name.name]
    assert page, f"no page explains {name.name}"
    assert coverage.explains(page, name), f"docs/{page} does not explain {name.name}; {ANEW}"
    users = {f"{use.path}::{use.function}" for use in coverage.uses_of(name)}
    assert users, f"no test uses {name.name}"
    assert test in users, f"{test} does not use {name.name}; {ANEW}"
