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

Written by `python -m docs.tools`. Each option of each command, each parameter of `BatchProcessor`, of the ten classes
and of their methods, and each field of what is passed to them, with a page that explains it and a test that uses it:
one of this very command or method, which shows what it does and not only what is refused.
`tests/docs/test_coverage.py` checks that none is missing and that each page and each test still does what is said here.
"""
GENERATED: Final = {PAGE.name, reference.PAGE.name}
CONFIG: Final = ("AdaptiveConcurrency", "Budget", "Cache", "RateLimit", "RetryPolicy")
_SAYS_SO: Final = re.compile("refused|cannot|no_option|takes_no|must_be|can_be_pasted|is_one_line")
REFUSALS: Final = frozenset({"ConfigError", "Problem"})
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
        helpers: functions of its file, and fixtures, that it names.
        refuses: all it shows is that something is refused.
    """

    path: str
    function: str
    words: frozenset[str]
    keywords: frozenset[tuple[str, str]]
    helpers: frozenset[str]
    refuses: bool


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
    for owner in ("BatchProcessor", *CLASSES, *CONFIG):
        cls = getattr(cottonpalm, owner)
        found += [Name(owner, name, frozenset([name])) for name in _parameters(cls)]
        if owner not in CONFIG:
            found += [
                Name(f"{owner}.{method}", name, frozenset([name]))
                for method in _methods(cls)
                for name in _parameters(getattr(cls, method))
            ]
    return found


def _methods(cls: Any) -> list[str]:
    """Public methods of its own."""
    return [name for name, part in vars(cls).items() if inspect.isfunction(part) and not name.startswith("_")]


def _parameters(function: Any) -> list[str]:
    """What may be left out. What may not is in every call; what is passed on to `BatchProcessor` stands there."""
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "chain", "config")
        and (parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY)
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

    def unlikeliness(use: Use) -> tuple[bool, bool, str, str]:
        own = (name.owner, name.name) in use.keywords
        return (
            not use.function.startswith("test_"),
            not own or _names_a_refusal(use),
            use.path,
            use.function,
        )

    return sorted((use for use in uses() if does_use(use, name)), key=unlikeliness)


def does_use(use: Use, name: Name) -> bool:
    """Whether a function gives this option to this command, or this parameter to this class or method, and it works.

    `BatchProcessor` is often made by a test's own helper, under another name, or by a class that passes it on.
    """
    if use.refuses:
        return False
    if name.is_option:
        command = name.owner.rpartition(" ")[2]
        is_said = not name.spellings.isdisjoint(use.words)
        return is_said and (command == "cottonpalm" or command in words_of(use))
    if name.owner == "BatchProcessor":
        return any(keyword == name.name for _, keyword in use.keywords)
    called = name.owner.rpartition(".")[2]
    return (called, name.name) in use.keywords


def _names_a_refusal(use: Use) -> bool:
    return _SAYS_SO.search(use.function) is not None


@cache
def words_of(use: Use) -> frozenset[str]:
    """The words of a test, and of the helpers and fixtures that it names."""
    found, look, seen = set(use.words), [*use.helpers], set[str]()
    while look:
        if (helper := look.pop()) in seen:
            continue
        seen.add(helper)
        shared = f"{use.path.rpartition('/')[0]}/conftest.py"
        for one in (*_functions().get((use.path, helper), ()), *_functions().get((shared, helper), ())):
            found |= one.words
            look += one.helpers
    return frozenset(found)


@cache
def _functions() -> dict[tuple[str, str], list[Use]]:
    found: dict[tuple[str, str], list[Use]] = {}
    for use in uses():
        found.setdefault((use.path, use.function), []).append(use)
    return found


@cache
def uses() -> tuple[Use, ...]:
    """Every function under `tests`, those of the documentation's own tests aside."""
    files = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "docs"]
    return tuple(use for path in files for use in _uses_in(path))


def _uses_in(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = str(path.relative_to(ROOT))
    for node in tree.body:  # what tests share: "RUN = ('run', ...)"
        for target in node.targets if isinstance(node, ast.Assign) else ():
            words = frozenset(_words_in(node))
            yield Use(where, ast.unparse(target), words, frozenset(), frozenset(), refuses=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words, keywords = frozenset(_words_in(node)), frozenset(_keywords_in(node))
            named = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
            helpers = frozenset(named | {argument.arg for argument in node.args.args}) - {node.name}
            yield Use(where, node.name, words, keywords, helpers, _refuses(node))


def _refuses(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether all that is looked at is a refusal: a usage error, or an error of the settings."""
    text = ast.unparse(function.body)  # type: ignore[arg-type]  # a list will do
    refuses = re.search(rf"\.one_line|code == 2|raises\(\(?({'|'.join(REFUSALS)})", text) is not None
    works = (
        re.search(r"code == 0|assert .*lines\(|\.requests(?! == 0)|\.counts|== Code\.OK", text) is not None
    )
    return (refuses or _SAYS_SO.search(function.name) is not None) and not works


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
            yield from ((called, part) for key in node.keywords if not key.arg for part in _texts(key.value))


def _texts(value: ast.expr) -> Iterator[str]:
    """The keys in a `**{"ids": ...}`."""
    yield from (
        one.value for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    )


def _called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
