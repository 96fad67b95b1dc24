"""The reference is complete: no parameter, field, option, command, method or exit code is missing or invented."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING

import pytest

import cottonpalm
from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Cache, Outcome, RetryPolicy, Stats
from cottonpalm.shell import Code
from cottonpalm.types import Kind
from tests.docs import options
from tests.docs.pages import ROOT, section, table

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core

API = ROOT / "docs" / "python-api.md"
COMMANDS = ROOT / "docs" / "command-line.md"
FAULTS = ROOT / "docs" / "faults.md"


def first_cells(page: Path, heading: str) -> list[str]:
    return [row[0].strip("`") for row in table(section(page, heading))]


@pytest.mark.as_shipped
def test_every_parameter_of_the_processor_is_in_the_table_with_its_default() -> None:
    parameters = list(inspect.signature(BatchProcessor).parameters.values())[1:]  # the chain has its own line
    rows = {
        row[0].strip("`"): row[-1].strip("`") for row in table(section(API, "Parameters of BatchProcessor"))
    }
    assert list(rows) == [parameter.name for parameter in parameters]
    assert rows == {parameter.name: shown(parameter.default) for parameter in parameters}


def shown(default: object) -> str:
    return f'"{default}"' if isinstance(default, str) else repr(default)


@pytest.mark.parametrize("settings", [RetryPolicy, AdaptiveConcurrency, Budget, Cache])
def test_every_field_of_the_settings_is_in_its_table_with_its_default(settings: type) -> None:
    rows = {row[0].strip("`"): row[-1].strip("`") for row in table(section(API, settings.__name__))}
    fields = dataclasses.fields(settings)  # type: ignore[arg-type]
    assert rows == {
        field.name: "required" if field.default is dataclasses.MISSING else shown(field.default)
        for field in fields
    }


@pytest.mark.parametrize("values", [Outcome, Stats])
def test_every_field_of_what_a_run_tells_is_in_its_table(values: type) -> None:
    fields = [field.name for field in dataclasses.fields(values)]  # type: ignore[arg-type]
    extra = ["cost_usd"] if values is Outcome else []
    assert sorted(first_cells(API, values.__name__)) == sorted(fields + extra)


def test_every_public_name_is_on_the_page() -> None:
    text = API.read_text(encoding="utf-8") + FAULTS.read_text(encoding="utf-8")
    assert [name for name in cottonpalm.__all__ if f"`{name}" not in text] == []


def test_every_public_method_of_the_processor_is_on_the_page() -> None:
    text = API.read_text(encoding="utf-8")
    own = [name for name in vars(BatchProcessor) if not name.startswith("_") and name[0].islower()]
    assert [name for name in own if f"`{name}" not in text] == []


def test_every_command_has_its_section_and_all_its_options_in_it() -> None:
    for command in options.commands():
        heading = "Everywhere" if command == "cottonpalm" else f"cottonpalm {command}"
        rows = [row[0] for row in table(section(COMMANDS, heading)) if row[0].startswith("`-")]
        documented = [sorted(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)) for row in rows]
        wanted = list(options.spellings(command).values())
        assert sorted(documented) == sorted(wanted), command


def test_every_kind_of_fault_is_explained() -> None:
    assert first_cells(FAULTS, "Kinds") == [kind.value for kind in Kind]


def test_every_exit_code_is_explained() -> None:
    assert first_cells(FAULTS, "Exit codes") == [str(code.value) for code in Code]
