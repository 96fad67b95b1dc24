"""A setting is declared once; the signature and the docstring of `BatchProcessor` say the same."""

from __future__ import annotations

import inspect
import re
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchLane, BatchProcessor, Budget, Cache, ConfigError, RetryPolicy
from cottonpalm.settings import Settings, hows

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.core

CHAIN = RunnableLambda(str)
PARAMETERS = dict(list(inspect.signature(BatchProcessor).parameters.items())[1:])  # without the chain
KEYWORDS = {how.keyword: how for how in hows().values()}


def test_every_parameter_of_the_processor_is_a_setting_and_every_setting_a_parameter() -> None:
    assert list(PARAMETERS) == list(KEYWORDS)
    assert {parameter.kind for parameter in PARAMETERS.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_a_parameter_and_its_settings_have_the_same_default() -> None:
    said = {name: parameter.default for name, parameter in PARAMETERS.items()}
    for name, how in hows().items():
        assert (type(how.default), how.default) == (type(said[how.keyword]), said[how.keyword]), name


def test_the_docstring_explains_every_parameter_once() -> None:
    text = inspect.getdoc(BatchProcessor) or ""
    arguments = text[text.index("Args:") : text.index("Raises:")]
    explained = re.findall(r"^    (\w+): \S", arguments, re.MULTILINE)
    assert sorted(explained) == sorted(["chain", *PARAMETERS])


def test_a_processor_that_is_told_nothing_has_the_defaults() -> None:
    assert BatchProcessor(CHAIN)._settings == Settings.of(CHAIN, {})


async def _says_later(*_: Any) -> None:
    """A function whose word comes when it is awaited, which a check never does."""


class _SaysLater:
    """The same as an object that can be called."""

    async def __call__(self, *_: Any) -> None:
        """Say nothing yet."""


@pytest.mark.parametrize("keyword", ["validate", "classify", "priority", "prices"])
@pytest.mark.parametrize("later", [_says_later, _SaysLater(), partial(_says_later, 1)])
def test_a_function_that_would_have_to_be_awaited_is_refused(keyword: str, later: Any) -> None:
    given: dict[str, Any] = {keyword: later}
    with pytest.raises(ConfigError, match=rf"^{keyword}=.* must be a function without async"):
        BatchProcessor(CHAIN, **given)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Cache(path=""), r"Cache\(path=''\) must be a file's path"),
        (
            lambda: BatchProcessor(CHAIN, max_failures=1.5),
            r"max_failures=1\.5: say a number of rows, or a share",
        ),
        (lambda: Budget(total="5"), r"Budget\(total='5'\): a budget is a number of dollars"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_path_or_no_amount_is_refused_as_it_was_given(
    made: Callable[[], object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        made()


def test_what_a_processor_is_told_reaches_the_setting_of_that_name() -> None:
    given: dict[str, Any] = {
        "concurrency": 7,
        "timeout": 5,
        "item_timeout": 6,
        "stall_timeout": 7,
        "chunk_size": 8,
        "chunk_pause": 9.0,
        "retry": 0,
        "store": "x.db",
        "run": "one",
    }
    settings = BatchProcessor(CHAIN, **given)._settings
    assert settings == Settings.of(CHAIN, given)
    assert (settings.cap, settings.concurrency.maximum) == (7, 7)
    assert (settings.timeout_s, settings.item_timeout_s, settings.stall_timeout_s) == (5, 6, 7)
    assert (settings.chunk_size, settings.chunk_pause_s, settings.run) == (8, 9.0, "one")
    assert settings.retry.retries == 0


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_what_cannot_work_is_refused_by_the_name_of_its_parameter(keyword: str) -> None:
    with pytest.raises(ConfigError, match=keyword):
        BatchProcessor(CHAIN, **{keyword: object()})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"chunk_pause": 1}, "chunk_pause=1 needs chunk_size="),
        ({"replicas": [CHAIN]}, "the processor's own"),
        ({"replicas": [RunnableLambda(len)] * 2}, "the same chain twice"),
        ({"store": "x.db"}, r"store='.*/x\.db' needs run="),
        ({"run": "one"}, "run='one' needs store="),
        ({"store": "", "run": "one"}, "store='' names no file"),
        ({"store": "x.db", "run": "a\0b"}, r"run='a\\x00b' has a character that no store holds"),
        ({"store": "x.db", "run": "caf\udce9"}, r"run='caf\\udce9' has a character that no store holds"),
        ({"store": "mysql://h/d", "run": "one"}, "store mysql://…: give a file's path"),
    ],
)
def test_settings_that_do_not_go_together_say_which_and_what_to_do(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        BatchProcessor(CHAIN, **given)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BatchLane(or_live="no"), r"BatchLane\(or_live='no'\) must be True or False"),  # type: ignore[arg-type]
        (lambda: BatchLane(cancel="no"), r"BatchLane\(cancel='no'\)"),  # type: ignore[arg-type]
        (lambda: BatchLane(hosts=[("a", "openai")]), "say {address: provider}"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(count_all="no"), r"RetryPolicy\(count_all='no'\)"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(cap_s=inf), "cap_s"),
        (lambda: RetryPolicy(throttle_wait_s=inf), "throttle_wait_s is seconds"),
        (lambda: Budget(1, tighten="no"), r"Budget\(tighten='no'\)"),  # type: ignore[arg-type]
    ],
)
def test_a_text_in_place_of_yes_or_no_and_a_wait_without_end_are_refused(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_what_is_no_chain_is_refused_first() -> None:
    with pytest.raises(ConfigError, match="RunnableLambda"):
        BatchProcessor(len, timeout=-1)  # type: ignore[arg-type]
