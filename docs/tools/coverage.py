"""Where each flag and each parameter is documented, and which test uses it; made by reading both."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from docs.tools import reference
from docs.tools.reference import ROOT, commands, flag, options

import cottonpalm
from cottonpalm import presets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "coverage.md"
HEAD: Final = """# What is documented and tested where

Written by `python -m docs.tools`. Each option of the command line, each parameter of `BatchProcessor` and of the ten
classes, with a page that explains it and a test that uses it. `tests/docs/test_coverage.py` checks that none is missing
and that each page and each test still does what is said here.
"""
GENERATED: Final = {PAGE.name, reference.PAGE.name}
CLASSES: Final = [name for name in presets.__all__ if inspect.isclass(getattr(presets, name))]


class Name(NamedTuple):
    """Something a user can say: an option of a command, or a parameter of a class.

    Attributes:
        owner: the command or the class.
        name: the longest spelling.
        spellings: all of them.
    """

    owner: str
    name: str
    spellings: frozenset[str]

    @property
    def is_option(self) -> bool:
        return self.name.startswith("--")


class Use(NamedTuple):
    """A test, or a function that tests use, and what is said in it.

    Attributes:
        words: of command lines: options without their values, and the names of commands.
        keywords: what is called, and a keyword it is called with.
    """

    path: str
    function: str
    words: frozenset[str]
    keywords: frozenset[tuple[str, str]]


def names() -> list[Name]:
    """Everything, in the order of the pages."""
    found = [
        Name(
            "cottonpalm" if command == "cottonpalm" else f"cottonpalm {command}",
            flag(option),
            frozenset([*option.opts, *option.secondary_opts]),
        )
        for command in commands()
        for option in options(command)
    ]
    for owner in ("BatchProcessor", *CLASSES):
        found += [Name(owner, name, frozenset([name])) for name in _parameters(getattr(cottonpalm, owner))]
    return found


def _parameters(cls: Any) -> list[str]:
    """Those of its constructor; the chain, and what is passed on to `BatchProcessor`, aside."""
    return [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.name != "chain" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def page() -> str:
    """The whole page; a cell is empty where nothing was found."""
    lines, owner = [HEAD], ""
    for name in names():
        if name.owner != owner:
            owner = name.owner
            lines += [f"\n## {owner}\n", "| name | documented in | used by |", "|---|---|---|"]
        documented = f"[{said}]({said})" if (said := page_of(name)) else ""
        tested = next((f"`{use.path}::{use.function}`" for use in uses_of(name)), "")
        lines.append(f"| `{name.name}` | {documented} | {tested} |")
    return "\n".join(lines) + "\n"


# -- pages


def page_of(name: Name) -> str | None:
    """The page that explains it best: the first, in the order of trust, that names it."""
    return next((page for page in pages(name) if explains(page, name)), None)


def pages(name: Name) -> list[str]:
    """Where it may be explained, the likeliest page first."""
    first = {True: ["command-line.md"], False: ["python-api.md", "from-the-source-document.md"]}[
        name.is_option
    ]
    others = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    return [*first, *(page for page in others if page not in GENERATED and page not in first)]


def explains(page: str, name: Name) -> bool:
    """Whether a page names it in code: an option by itself, a parameter alone, before `=`, or in a call."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if name.is_option:
        return re.search(rf"`{re.escape(name.name)}[`\s]", text) is not None
    return re.search(rf"(`|\(|, ){re.escape(name.name)}(`|=|\()", text) is not None


# -- tests


def uses_of(name: Name) -> list[Use]:
    """The functions that use it, the likeliest first: tests, those of this very command or class, in order of path."""
    command = name.owner.rpartition(" ")[2]

    def unlikeliness(use: Use) -> tuple[bool, bool, str, str]:
        own = command in use.words or (name.owner, name.name) in use.keywords
        return (not use.function.startswith("test_"), not own, use.path, use.function)

    return sorted((use for use in uses() if does_use(use, name)), key=unlikeliness)


def does_use(use: Use, name: Name) -> bool:
    """Whether a function gives this option to a command, or this parameter to this class.

    `BatchProcessor` is often made by a test's own helper, under another name, or by a class that passes it on.
    """
    if name.is_option:
        return not name.spellings.isdisjoint(use.words)
    if name.owner == "BatchProcessor":
        return any(keyword == name.name for _, keyword in use.keywords)
    return (name.owner, name.name) in use.keywords


@cache
def uses() -> tuple[Use, ...]:
    """Every function under `tests`, those of the documentation's own tests aside."""
    files = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "docs"]
    return tuple(use for path in files for use in _uses_in(path))


def _uses_in(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Use(where, node.name, frozenset(_words_in(node)), frozenset(_keywords_in(node)))


def _words_in(function: ast.AST) -> Iterator[str]:
    """Texts that may be a word of a command, without what follows a `=`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (word.partition("=")[0] for word in node.value.split(" "))


def _keywords_in(function: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = _called(node.func)
            yield from ((called, keyword.arg) for keyword in node.keywords if keyword.arg)


def _called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
