"""What the bare chain gives, a processor round it gives: every form by every method, over the shapes of config."""

from __future__ import annotations

import gc
import re
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cottonpalm import BatchProcessor
from tests.differential.calls import MANY, SHAPES, SINGLE, is_async, see
from tests.differential.deliberate import ALLOWED, DIFFERENT, ELSEWHERE
from tests.differential.forms import FORMS, SET_OUTSIDE, Form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.differential.seen import Seen

# LangChain's own abatch leaves coroutines and tasks behind when a row fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
    pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
EACH = "one for each row"
ALL_SHAPES = ("lambda", "async sequence", "prompt, model, parser")  # the others: the richest, and two in turn


@pytest.fixture(autouse=True)
def _streams_are_closed_between_the_tests() -> Iterator[None]:
    """LangChain leaves streams of failed rows to the garbage collector, and closing one submits to a pool of threads.

    Where Python collects while a pool begins a thread, that waits for the lock which its own thread holds, for ever.
    """
    gc.disable()
    yield
    gc.collect(0)  # all that the test has made is young, as nothing was collected meanwhile
    gc.enable()


class Case(NamedTuple):
    shape: str
    rows: list[Any]
    more: dict[str, Any]


def shapes_of(name: str, form: Form, turn: int) -> list[str]:
    fitting = [shape for shape, what in SHAPES.items() if what.threaded or not form.threaded]
    if name in ALL_SHAPES:
        return fitting
    others = [shape for shape in fitting if shape != EACH]
    return [EACH, *(others[(turn + step) % len(others)] for step in range(min(2, len(others))))]


def cases(name: str, method: str, turn: int) -> list[Case]:
    form, found = FORMS[name], []
    many, good = method in MANY, FORMS[name].rows()
    for shape in shapes_of(name, form, turn):
        if not form.fails:
            found.append(Case(shape, good, {}))
        elif not many:
            found.append(Case(shape, [good[0], form.bad()], {}))
        else:
            rows = [good[0], form.bad(), *good[1:]]
            found += [Case(shape, good, {}), Case(shape, rows, {})]
            found.append(Case(shape, rows, {"return_exceptions": True}))
    return found


def differences(bare: Seen, ours: Seen, form: Form, method: str, case: Case) -> list[str]:
    """What is not the same, line by line. Where rows fail, what ran beside the failing step is chance."""
    raised = bare.raised is not None or ours.raised is not None
    if (raised and method in MANY) or (form.parallel and (raised or case.more)):
        bare, ours = bare._replace(told=[]), ours._replace(told=[])
    return [line[:300] for line in unified_diff(_lines(bare), _lines(ours), n=0)] if bare != ours else []


def _lines(seen: Seen) -> list[str]:
    return [str(part) for part in (*seen.gave, seen.raised, *seen.told)]


PAIRS = [
    (name, method)
    for name, form in FORMS.items()
    for method in (*MANY, *SINGLE)
    if is_async(method) or not form.asynchronous
]


@pytest.mark.parametrize(("name", "method"), PAIRS, ids=lambda part: part.replace(" ", "-"))
def test_a_processor_gives_raises_and_tells_what_the_bare_chain_does(name: str, method: str) -> None:
    SET_OUTSIDE.set("set")
    form, different = FORMS[name], []
    for case in cases(name, method, PAIRS.index((name, method))):
        shape = SHAPES[case.shape]
        bare = see(method, form, form.make(), case.rows, shape, **case.more)
        ours = see(method, form, BatchProcessor(form.make()), case.rows, shape, **case.more)
        different += [(case.shape, line) for line in differences(bare, ours, form, method, case)]
    if (name, method) in DIFFERENT:
        assert different, f"no longer so: {DIFFERENT[name, method]}"
    else:
        assert not different, "\n".join(f"{shape}: {line}" for shape, line in different)


def test_the_deliberate_differences_are_exactly_those_of_the_documents_page() -> None:
    page = Path(__file__).parents[2] / "docs" / "differences.md"
    told = re.findall(r"^### (.+)$", page.read_text(), re.MULTILINE)
    assert sorted(told) == sorted({*DIFFERENT.values(), *ALLOWED, *ELSEWHERE})


def test_the_suite_has_thousands_of_cases_of_every_form_method_and_shape() -> None:
    number = sum(len(cases(name, method, turn)) for turn, (name, method) in enumerate(PAIRS))
    print(
        f"{len(FORMS)} forms x {len(MANY) + len(SINGLE)} methods, {len(SHAPES)} shapes of config: {number} cases"
    )
    assert len(FORMS) >= 40
    assert number >= 2_000
    assert {case.shape for turn, pair in enumerate(PAIRS) for case in cases(*pair, turn)} == set(SHAPES)
