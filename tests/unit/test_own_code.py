"""Code of the user's own is told by its text and by all that it reads; a library's, by its release."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import re
import sys
from threading import Event, Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from cottonpalm.chain import installed
from cottonpalm.chain.cache_key import Untold, digest, lasting_digest
from cottonpalm.chain.code import class_code, code_of
from cottonpalm.chain.fingerprint import describe
from cottonpalm.cli.chains.prompts import RowPrompt
from cottonpalm.cli.chains.schema import AsDict
from cottonpalm.stores.rules.changes import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.core


# -- what code reads

WORD = "positive"
LABELS = ["good", "bad"]
SAID = SystemMessage("Be brief.")
FOUND = re.compile("a+")
MODEL: Any = ChatOpenAI(api_key="sk-test-0123456789", model="gpt-4o-mini")  # type: ignore[arg-type]
CALLS = 0
API_KEY = "hush-hush"


class Settings:
    def __init__(self) -> None:
        self.prompt = "Is this good?"


SETTINGS = Settings()
SELF = ModuleType("words")
SELF.WORD = "positive"  # type: ignore[attr-defined]


def direct(text: str) -> str:
    return f"{WORD} {text}"


def inner(text: str) -> str:
    return f"Is it {WORD}? {text}"


def through_another(text: str) -> str:
    return inner(text)


def from_a_list(text: str) -> str:
    return f"{LABELS} {text}"


def from_a_message(text: str) -> Any:
    return [SAID, text]


def from_a_pattern(text: str) -> str:
    return FOUND.sub("", text)


def from_an_object(text: str) -> str:
    return SETTINGS.prompt + text


def from_a_module(text: str) -> str:
    return SELF.WORD + text  # type: ignore[no-any-return, attr-defined]


def ask(text: str) -> Any:
    return MODEL.invoke(text)


def through_a_model(text: str) -> Any:
    return ask(text)


TABLE = {"first": inner}


def from_a_table(text: str) -> str:
    return TABLE["first"](text)


def shouting(function: Callable[[str], str]) -> Callable[[str], str]:
    @functools.wraps(function)
    def loud(text: str) -> str:
        return f"{WORD} {function(text)}".upper()

    return loud


@shouting
def decorated(text: str) -> str:
    return text


@functools.lru_cache
def remembered(text: str) -> str:
    return f"{WORD} {text}"


def asks_what_is_remembered(text: str) -> str:
    return remembered(text)


class Own(Runnable[str, str]):
    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return inner(input)


@tool
def looked_up(text: str) -> str:
    """Looks up."""
    return f"{WORD} {text}"


def counting(text: str) -> str:
    global CALLS  # noqa: PLW0603 - what this test is about
    CALLS += 1
    return f"{text} {len(API_KEY)}"


def changes(made: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> list[str]:
    before = describe(made())
    assert json.loads(json.dumps(before)) == before
    owner, _, attribute = name.rpartition(".")
    monkeypatch.setattr(globals()[owner] if owner else sys.modules[__name__], attribute, value)
    refuse, warn = compare(before, describe(made()))
    return refuse + warn


@pytest.mark.parametrize(
    ("function", "changed", "value", "named"),
    [
        (direct, "WORD", "negative", "WORD"),
        (through_another, "WORD", "negative", "inner.WORD"),
        (from_a_list, "LABELS", ["good"], "LABELS"),
        (from_a_message, "SAID", SystemMessage("Be long."), "SAID"),
        (from_a_pattern, "FOUND", re.compile("b+"), "FOUND"),
        (from_an_object, "SETTINGS.prompt", "Is this bad?", "SETTINGS.prompt"),
        (from_a_module, "SELF.WORD", "negative", "SELF.WORD"),
        (from_a_table, "WORD", "negative", "TABLE[first].WORD"),
        (decorated, "WORD", "negative", "WORD"),
        (asks_what_is_remembered, "WORD", "negative", "remembered.WORD"),
        (through_a_model, "MODEL", MODEL.model_copy(update={"temperature": 1}), "ask.MODEL"),
        (functools.partial(direct), "WORD", "negative", "WORD"),
    ],
)
def test_a_changed_value_that_a_function_reads_is_told_and_named(
    monkeypatch: pytest.MonkeyPatch, function: Any, changed: str, value: Any, named: str
) -> None:
    (line,) = changes(lambda: RunnableLambda(function), monkeypatch, changed, value)
    assert f"{named}, which RunnableLambda uses, changed" in line


@pytest.mark.parametrize("made", [Own, lambda: looked_up, lambda: MODEL.bind(stop=[inner])])
def test_so_is_one_that_a_class_a_tool_or_an_argument_reads(
    monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any]
) -> None:
    (line,) = changes(made, monkeypatch, "WORD", "negative")
    assert "WORD, which" in line


def test_a_changed_function_is_named_where_another_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = changes(lambda: RunnableLambda(through_another), monkeypatch, "inner", direct)
    assert lines == ["inner, which RunnableLambda uses, changed"]


def test_what_a_function_counts_is_its_state_and_a_key_it_reads_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = describe(RunnableLambda(counting))
    assert changes(lambda: RunnableLambda(counting), monkeypatch, "API_KEY", "another") == []
    (line,) = changes(lambda: RunnableLambda(counting), monkeypatch, "CALLS", 7)
    assert "the state of CALLS" in line
    assert "API_KEY" not in json.dumps(before)


def in_the_environment(text: str) -> str:
    return f"{os.environ.get('WORD')} {text}"


def test_a_variable_of_the_shell_that_a_chain_may_not_read_is_no_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = describe(RunnableLambda(in_the_environment))
    monkeypatch.setenv("SHLVL", "7")
    assert compare(before, describe(RunnableLambda(in_the_environment))) == ([], [])


def test_a_memory_in_this_process_goes_by_what_is_read_and_not_by_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def digests(function: Any, name: str, value: Any) -> set[bytes]:
        chain: Any = RunnableLambda(function)
        before = digest([chain])
        monkeypatch.setattr(sys.modules[__name__], name, value)
        return {before, digest([chain])}

    assert len(digests(direct, "WORD", "negative")) == 2
    assert len(digests(counting, "CALLS", 9)) == 1


@pytest.mark.parametrize(
    "inside",
    [
        RunnableLambda(direct),
        RunnableLambda(direct) | RunnableLambda(inner),
        (RunnableLambda(direct) | inner).with_fallbacks([RunnableLambda(inner)]),
        RunnableParallel(a=RunnableLambda(direct)),
    ],
)
def test_a_function_that_calls_a_chain_with_settings_of_its_own_is_read_to_its_end(
    inside: Runnable[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, bound in enumerate((inside, inside.with_config(tags=["a"]), inside.bind(stop=["."]))):
        asking = RunnableLambda(lambda row, chain=bound: chain.invoke(row))
        assert digest([asking]) == digest([asking])
        told = changes(lambda asking=asking: asking, monkeypatch, "WORD", f"negative {number}")
        assert "WORD, which RunnableLambda uses, changed" in told[0]


def test_a_fallback_of_a_function_whose_types_are_for_the_checker_alone_runs() -> None:
    def given(row: OnlyForTheChecker) -> OnlyForTheChecker:  # type: ignore[name-defined]  # noqa: F821
        return row

    chain = RunnableLambda(given).with_fallbacks([RunnableLambda(given)])
    assert BatchProcessor(chain).batch(["a", "b"]) == ["a", "b"]


def test_what_is_unchanged_is_not_told() -> None:
    for function in (direct, through_another, from_a_table, decorated, through_a_model, counting):
        assert compare(describe(RunnableLambda(function)), describe(RunnableLambda(function))) == ([], [])


# -- whose code it is


class Site:
    """A folder of installed packages."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.path.mkdir()
        monkeypatch.syspath_prepend(str(self.path))

    def install(self, name: str, text: str, version: str | None = "1.0", **origin: Any) -> ModuleType:
        (self.path / f"{name}.py").write_text(text)
        for old in self.path.glob(f"{name}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        if version is not None:
            about = self.path / f"{name}-{version}.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (about / "RECORD").write_text(f"{name}.py,,\n")
            if origin:
                (about / "direct_url.json").write_text(json.dumps(origin))
        sys.modules.pop(name, None)
        for cached in (self.path / "__pycache__").glob(f"{name}.*"):
            cached.unlink()
        inspect.linecache.clearcache()  # type: ignore[attr-defined]
        importlib.invalidate_caches()
        installed._release.cache_clear()
        return importlib.import_module(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(tmp_path / "site-packages", monkeypatch)
    forget_the_libraries()


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """What `pip install --target` makes, where the user's own code lies too: AWS Lambda's `/var/task`."""
    yield Site(tmp_path / "task", monkeypatch)
    forget_the_libraries()


def forget_the_libraries() -> None:
    for name in ("lib_a", "lib_b"):
        sys.modules.pop(name, None)
    installed._release.cache_clear()


def lasting(function: Any) -> bytes:
    return lasting_digest([RunnableLambda(function)], None)


CLEAN = "def clean(text):\n    return text.{}()\n"


def test_functions_of_one_name_from_two_libraries_share_no_answer(site: Site) -> None:
    one, two = site.install("lib_a", CLEAN.format("upper")), site.install("lib_b", CLEAN.format("lower"))
    assert lasting(one.clean) != lasting(two.clean)

    def using(library: ModuleType) -> Any:
        clean = library.clean
        return lambda text: clean(text + ".")

    assert lasting(using(one)) != lasting(using(two))


def test_another_version_of_a_library_is_another_chain_and_the_same_is_the_same(site: Site) -> None:
    old = lasting(site.install("lib_a", CLEAN.format("upper")).clean)
    assert lasting(site.install("lib_a", CLEAN.format("upper")).clean) == old
    assert lasting(site.install("lib_a", CLEAN.format("lower"), "1.1").clean) != old


@pytest.mark.parametrize(
    ("version", "origin"), [("1.0", {"url": "file:///own", "dir_info": {"editable": True}}), (None, {})]
)
def test_a_package_without_a_fixed_version_is_told_by_its_text(
    site: Site, version: str | None, origin: dict[str, Any]
) -> None:
    text = "WORD = '{}'\ndef clean(text):\n    return WORD + text\n"
    first = lasting(site.install("lib_a", text.format("a"), version, **origin).clean)
    assert lasting(site.install("lib_a", "# moved\n" + text.format("a"), version, **origin).clean) == first
    assert lasting(site.install("lib_a", text.format("b"), version, **origin).clean) != first


def test_a_commit_of_a_repository_is_a_version(site: Site) -> None:
    def at(commit: str) -> bytes:
        origin = {"url": "https://git.invalid", "vcs_info": {"vcs": "git", "commit_id": commit}}
        return lasting(site.install("lib_a", CLEAN.format("upper"), **origin).clean)

    assert at("a1") == at("a1") != at("b2")


def test_what_a_librarys_function_was_given_counts(site: Site) -> None:
    text = "def make(word):\n    def made(text):\n        return word + text\n    return made\n"
    make = site.install("lib_a", text).make
    assert lasting(make("a")) == lasting(make("a")) != lasting(make("b"))
    assert lasting({"x": "a"}.get) == lasting({"x": "a"}.get) != lasting({"x": "b"}.get)
    assert lasting("a".join) != lasting("b".join)
    assert lasting(re.compile("a").findall) != lasting(re.compile("b").findall)


def test_a_function_that_took_a_librarys_name_is_not_taken_for_it(site: Site) -> None:
    clean = site.install("lib_a", CLEAN.format("upper")).clean

    @functools.wraps(clean)
    def mine(text: str) -> str:
        return str(clean(text)) + "!"

    @functools.wraps(clean)
    def other(text: str) -> str:
        return str(clean(text)) + "?"

    assert len({lasting(clean), lasting(mine), lasting(other)}) == 3
    assert compare(describe(RunnableLambda(mine)), describe(RunnableLambda(other))).warn


def test_a_module_of_the_users_own_that_is_imported_in_a_call_leaves_no_lasting_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_words.py").write_text("WORD = 'a'\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def later(text: str) -> str:
        import own_words  # type: ignore[import-not-found]

        return str(own_words.WORD) + text

    def only_the_librarys(text: str) -> str:
        import json

        return json.dumps(text)

    with pytest.raises(Untold, match="module own_words"):
        lasting(later)
    assert lasting(only_the_librarys)
    before = describe(RunnableLambda(later))
    (tmp_path / "own_words.py").write_text("WORD = 'b'\n")
    assert compare(before, describe(RunnableLambda(later))).warn == [
        "import own_words, which RunnableLambda uses, changed"
    ]


def test_the_release_of_a_library_that_changed_is_told(site: Site) -> None:
    def described() -> Any:
        clean = sys.modules["lib_a"].clean
        return describe(RunnableLambda(lambda text: clean(text + ".")))

    site.install("lib_a", CLEAN.format("upper"))
    before = described()
    site.install("lib_a", CLEAN.format("lower"), "1.1")
    (line,) = compare(before, described()).warn
    assert line == (
        "clean, which RunnableLambda uses, changed: lib_a 1.0: lib_a.clean -> lib_a 1.1: lib_a.clean"
    )


def test_a_library_in_a_folder_of_any_name_is_told_by_its_release_and_own_code_beside_it_by_its_text(
    site: Site, task: Site
) -> None:
    task.install("lib_a", CLEAN.format("upper"))
    assert installed.release_of("lib_a") == "lib_a 1.0"
    first = lasting(task.install("lib_b", CLEAN.format("upper"), version=None).clean)
    assert installed.release_of("lib_b") is None
    assert lasting(task.install("lib_b", CLEAN.format("lower"), version=None).clean) != first

    site.install("lib_b", CLEAN.format("upper"))
    task.install("lib_b", CLEAN.format("upper"), version=None)
    assert installed.release_of("lib_b") is None, "another one of its name is installed elsewhere"


class MadeAtALook:
    """A part of a class that makes another name in it when it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        if name == "fget":
            self.looks += 1
            setattr(Changes, f"made_{self.looks}", self.looks)
        raise AttributeError(name)


class Changes:
    part = MadeAtALook()

    def said(self) -> str:
        return "word"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (str.upper, str.lower),
        (len, repr),
        (int, float),
        ("Is {} good?".format, "Is {} bad?".format),
        ({"a": "good"}.get, {"a": "bad"}.get),
        (functools.partial(int, base=2), functools.partial(float)),
    ],
    ids=["methods", "functions", "classes", "templates", "tables", "with arguments"],
)
def test_functions_of_pythons_own_are_told_apart_by_their_names_and_by_what_they_hold(
    one: Callable[..., Any], other: Callable[..., Any]
) -> None:
    before, after = describe(RunnableLambda(one)), describe(RunnableLambda(other))
    assert compare(before, before) == ([], [])
    assert compare(before, after).warn, "a run that began with the one goes on with the other: that is told"
    keys = [lasting_digest([RunnableLambda(function)], None) for function in (one, other, one)]
    assert keys[0] == keys[2] != keys[1]


class OfTheContext:
    """A proxy as those of Flask are: it speaks for another object, and raises where there is none."""

    def __init__(self) -> None:
        self.__dict__["held"] = None

    def __getattr__(self, name: str) -> Any:
        if self.__dict__["held"] is None:
            raise RuntimeError("Working outside of application context.")
        return getattr(self.__dict__["held"], name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        held = self.__dict__["held"]
        return OfTheContext if held is None else type(held)

    def __bool__(self) -> bool:
        return self.__dict__["held"] is not None


current_app: Any = OfTheContext()


FLASK: Any = ModuleType("flask")
FLASK.current_app = current_app


class InAContext:
    def __init__(self) -> None:
        self.app = current_app

    def says(self, text: str) -> list[Any]:
        return [text, bool(self.app)]


def in_a_context(text: str) -> list[Any]:
    return [text, bool(current_app)]


def by_its_module(text: str) -> list[Any]:
    return [text, bool(FLASK.current_app)]


@pytest.mark.parametrize(
    "function", [in_a_context, by_its_module, InAContext().says], ids=["a name", "a module's", "an object's"]
)
def test_a_proxy_of_what_the_context_holds_is_told_by_its_class_with_a_context_and_without(
    tmp_path: Path, function: Callable[[str], list[Any]]
) -> None:
    chain = RunnableLambda(function)
    kept: dict[str, Any] = {"store": tmp_path / "runs.db", "run": "in a context"}
    assert BatchProcessor(chain, **kept).batch(["a"]) == [["a", False]]
    before = describe(chain)
    current_app.__dict__["held"] = SETTINGS
    try:
        assert describe(chain) == before
        assert BatchProcessor(chain, **kept).batch(["a", "b"]) == [["a", False], ["b", True]]
    finally:
        current_app.__dict__["held"] = None


def test_what_wraps_a_function_is_told_by_the_function() -> None:
    wrapt = pytest.importorskip("wrapt")
    asks = wrapt.FunctionWrapper(direct, lambda wrapped, _instance, args, _kwargs: wrapped(*args))

    def calls(text: str) -> str:
        return str(asks(text))

    assert "asks.WORD" in json.dumps(describe(RunnableLambda(calls)))


def test_a_class_that_changes_while_its_code_is_followed_is_described() -> None:
    assert describe(RunnableLambda(lambda _: Changes().said()))
    assert Changes.part.looks


def test_a_part_of_langchains_is_named_without_a_walk_through_what_it_is_made_of() -> None:
    looks = Changes.part.looks
    parser = type("Parser", (Changes, StrOutputParser), {"__module__": "langchain_other.parsers"})
    assert describe(parser()) == {"Parser": {"class": "langchain_other.Parser"}}
    assert Changes.part.looks == looks


# -- ours


def test_our_own_classes_are_named_by_a_number_raised_by_hand_and_not_by_their_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = RowPrompt(template="{a}", columns=("a",))
    for made, cls in ((prompt, RowPrompt), (AsDict(), AsDict)):
        before, key = describe(made), lasting_digest([made], None)
        assert class_code(cls) == f"form:{cls.cottonpalm_form}"
        monkeypatch.setattr(cls, "cottonpalm_form", cls.cottonpalm_form + 1)
        assert len(compare(before, describe(made)).warn) == 1
        assert lasting_digest([made], None) != key


def test_the_text_of_no_class_of_ours_is_in_a_fingerprint() -> None:
    from cottonpalm import BatchProcessor
    from cottonpalm.testing import ScriptedChain

    for made in (BatchProcessor(RunnableLambda(inner)), ScriptedChain()):
        found = json.dumps({path: form for path, form in describe(made).items() if "Lambda" not in path})
        assert "source:" not in found


# -- while others parse


def test_a_class_is_read_while_other_threads_parse() -> None:
    wanted, over = class_code(Own), Event()

    def parse() -> None:
        text = "def f(x):\n    return [(" + "(x, [" * 30 + "x" + "])" * 30 + ")]\n"
        while not over.is_set():
            try:
                compile(text, "parsed", "exec", flags=0x400)  # to a tree, which is where Python fails
            except SystemError:
                continue

    threads = [Thread(target=parse) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert {class_code(Own) for _ in range(20)} == {wanted}
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_parser_that_fails_for_a_while_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, real = iter([SystemError("AST constructor recursion depth mismatch")] * 3), inspect.getsource

    def getsource(thing: Any) -> str:
        if (failure := next(failures, None)) is not None:
            raise failure
        return real(thing)

    wanted = code_of(inner)
    monkeypatch.setattr(inspect, "getsource", getsource)
    assert code_of(inner) == wanted
    assert next(failures, None) is None


PROMPT = "say "


def test_a_function_that_looks_a_name_up_by_text_has_no_lasting_key() -> None:
    """Another process may hold another prompt under that name, and nothing in the code says so."""

    def by_globals(row: str) -> str:
        return str(globals()["PROMPT"]) + row

    def by_eval(row: str) -> str:
        return str(eval("PROMPT")) + row

    def further_inside(row: str) -> str:
        def prompt() -> str:
            return str(vars(sys.modules[__name__])["PROMPT"])

        return prompt() + row

    def by_name(row: str) -> str:
        return PROMPT + row

    for function in (by_globals, by_eval, further_inside):
        with pytest.raises(Untold, match=function.__name__):
            lasting(function)
    assert lasting(by_name)
