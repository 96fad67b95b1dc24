"""Promises that were once broken: by wrong calls, by chains that look alike, by what surrounds a call."""

from __future__ import annotations

import asyncio
import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Cache, RetryPolicy
from cottonpalm.chain.cache_key import digest
from cottonpalm.engine.input.reader import Broken
from cottonpalm.errors import ConfigError, RunStopped
from cottonpalm.types import ErrorRecord, Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_core.runnables import Runnable, RunnableConfig

pytestmark = pytest.mark.core


def echo(row: Any) -> Any:
    return row


# -- a call that cannot be right leaves its run free


@pytest.mark.parametrize(
    "wrong",
    [{"ids": ["only one"]}, {"priorities": [1]}, {"config": {"max_concurrency": 0}}],
    ids=["ids", "priorities", "cap"],
)
def test_a_call_that_is_refused_leaves_its_run_free_for_the_next_one(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    processor = BatchProcessor(RunnableLambda(echo), store=tmp_path / "a.db", run="one")

    with pytest.raises(ConfigError):
        processor.batch([1, 2], **wrong)
    with pytest.raises(ConfigError):
        asyncio.run(processor.abatch([1, 2], **wrong))

    assert processor.batch([1, 2]) == [1, 2]


def test_a_budget_that_cannot_be_kept_leaves_the_run_free(tmp_path: Path) -> None:
    where = {"store": tmp_path / "a.db", "run": "one"}
    with pytest.raises(ConfigError, match="hook"):
        BatchProcessor(RunnableLambda(echo), budget=Budget(total=1), request_hook=False, **where).batch([1])

    assert BatchProcessor(RunnableLambda(echo), **where).batch([1]) == [1]


def test_a_call_cancelled_while_its_store_opens_leaves_the_run_free(tmp_path: Path) -> None:
    processor = BatchProcessor(RunnableLambda(echo), store=tmp_path / "a.db", run="one")

    async def cancelled() -> None:
        call = asyncio.ensure_future(processor.abatch([1]))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancelled())

    assert processor.batch([1]) == [1]


# -- one cache, two chains


def _closing_over(word: str) -> Runnable[Any, Any]:
    held = {"word": word}
    return RunnableLambda(lambda row: row + held["word"])


def _with_a_default(word: str) -> Runnable[Any, Any]:
    def say(row: str, word: str = word) -> str:
        return row + word

    return RunnableLambda(say)


class Speaker:
    def __init__(self, word: str) -> None:
        self._word = word

    def __call__(self, row: str) -> str:
        return row + self._word

    def say(self, row: str) -> str:
        return row + self._word


@pytest.mark.parametrize(
    "make",
    [
        _closing_over,
        _with_a_default,
        lambda word: RunnableLambda(Speaker(word)),
        lambda word: RunnableLambda(Speaker(word).say),
        lambda word: RunnableLambda(echo) | RunnableLambda(Speaker(word).say),
    ],
    ids=["closure", "default", "object", "method", "sequence"],
)
@pytest.mark.parametrize("fingerprint", [None, "v1"])
def test_chains_that_look_alike_never_share_an_answer(
    make: Callable[[str], Runnable[Any, Any]], fingerprint: str | None
) -> None:
    cache = Cache()
    one, two = (BatchProcessor(make(word), cache=cache, fingerprint=fingerprint) for word in (" one", " two"))

    assert one.batch(["row"]) == ["row one"]
    assert two.batch(["row"]) == ["row two"]
    assert one.batch(["row"]) == ["row one"]


def _asking(url: str = "http://127.0.0.1:1/v1") -> Runnable[Any, Any]:
    model = ChatOpenAI(model="a-model", api_key="sk-none", base_url=url)
    return ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


def test_equal_chains_of_librarys_parts_share_their_answers_and_another_address_is_another_chain() -> None:
    assert digest([_asking()]) == digest([_asking()])
    assert digest([_asking()]) != digest([_asking("http://127.0.0.1:2/v1")])


def test_the_same_function_is_the_same_chain_and_its_number_is_never_given_twice() -> None:
    assert digest([RunnableLambda(echo)]) == digest([RunnableLambda(echo)])
    assert len({digest([RunnableLambda(Speaker("x"))]) for _ in range(200)}) == 200


def test_an_answer_that_one_processor_takes_is_still_validated_by_another() -> None:
    def refuse(answer: object) -> None:
        raise ValueError("no")

    cache, chain = Cache(), RunnableLambda(echo)
    BatchProcessor(chain, cache=cache).batch(["row"])

    [refused] = BatchProcessor(chain, cache=cache, validate=refuse).batch(["row"], return_exceptions=True)
    assert "no" in str(refused)


def _language(row: str, config: RunnableConfig) -> tuple[str, str]:
    return row, config["configurable"]["language"]


@pytest.mark.parametrize(
    "call",
    [
        lambda inner, row: inner.invoke(row),
        lambda inner, row: inner.batch([row])[0],
        lambda inner, row: next(iter(inner.batch_as_completed([row])))[1],
        lambda inner, row: "".join(map(str, inner.stream(row))),
    ],
    ids=["invoke", "batch", "as completed", "stream"],
)
def test_what_surrounds_a_processor_in_a_chain_is_part_of_the_question(
    call: Callable[[BatchProcessor, str], Any],
) -> None:
    inner = BatchProcessor(RunnableLambda(_language), cache=Cache())
    outer = RunnableLambda(lambda row: call(inner, row))

    answers = [str(outer.invoke("row", {"configurable": {"language": word}})) for word in ("de", "en")]

    assert "de" in answers[0]
    assert "en" in answers[1]


def test_a_word_that_langchain_takes_for_configurable_is_part_of_the_question() -> None:
    processor = BatchProcessor(RunnableLambda(_language), cache=Cache())

    assert [processor.invoke("row", {"language": word})[1] for word in ("de", "en")] == ["de", "en"]


# -- retry asks what was asked


class Asked:
    """Fails until it is mended, then answers with all that it was asked with."""

    def __init__(self) -> None:
        self.broken = True

    def __call__(self, row: str, config: RunnableConfig, **kwargs: Any) -> list[Any]:
        if self.broken:
            raise ValueError(row)
        return [row, config["configurable"].get("language"), kwargs.get("stop")]


def _failed(chain: Asked, **settings: Any) -> BatchProcessor:
    processor = BatchProcessor(RunnableLambda(chain), **settings)
    processor.batch(
        ["a", "b"],
        [{"configurable": {"language": "de"}}, {"configurable": {"language": "en"}}],
        stop="now",
        ids=["first", "second"],
        return_exceptions=True,
    )
    chain.broken = False
    return processor


ALL_OF_IT = [["a", "de", "now"], ["b", "en", "now"]]


def test_retry_asks_each_row_as_it_was_asked_without_a_store() -> None:
    outcomes = _failed(Asked()).retry()

    assert [outcome.output for outcome in outcomes] == ALL_OF_IT
    assert [outcome.id for outcome in outcomes] == ["first", "second"]


@pytest.mark.parametrize("store_inputs", [True, False])
def test_retry_asks_each_row_as_it_was_asked_with_a_store(tmp_path: Path, store_inputs: bool) -> None:
    processor = _failed(Asked(), store=tmp_path / "a.db", run="one", store_inputs=store_inputs)

    assert [outcome.output for outcome in processor.retry()] == ALL_OF_IT
    assert processor.retry() == []


def test_a_later_process_is_told_what_retry_lacks_and_can_give_it(tmp_path: Path) -> None:
    chain = Asked()
    _failed(chain, store=tmp_path / "a.db", run="one")
    later = BatchProcessor(RunnableLambda(chain), store=tmp_path / "a.db", run="one")

    with pytest.raises(ConfigError, match="config or keywords"):
        later.retry()
    outcomes = later.retry(
        ["a", "b"],
        [{"configurable": {"language": "de"}}, {"configurable": {"language": "en"}}],
        ids=["first", "second"],
        stop="now",
    )

    assert [outcome.output for outcome in outcomes] == ALL_OF_IT


def test_retry_without_a_batch_to_go_on_with_says_so() -> None:
    processor = BatchProcessor(RunnableLambda(echo))
    with processor.start([1]) as run:
        list(run)

    with pytest.raises(ConfigError, match="batch"):
        processor.retry()


def test_retry_leaves_a_row_alone_that_could_not_be_read(tmp_path: Path) -> None:
    seen: list[Any] = []
    processor = BatchProcessor(RunnableLambda(seen.append), store=tmp_path / "a.db", run="one")
    with processor.start([Broken(ErrorRecord(Kind.FAIL_ROW, "BrokenLine", "line 3 is cut")), "a"]) as run:
        list(run)

    assert processor.retry() == []
    assert seen == ["a"]


# -- chains that answer for their parts


def test_a_function_with_fallbacks_can_be_stored(tmp_path: Path) -> None:
    chain = RunnableLambda(echo).with_fallbacks([RunnableLambda(echo)])

    assert BatchProcessor(chain, store=tmp_path / "a.db", run="one").batch([1]) == [1]


# -- small ones


@pytest.mark.parametrize("bound", [0, 0.0])
def test_where_no_row_may_fail_the_first_that_does_stops_the_run(bound: float) -> None:
    def fail(row: int) -> None:
        raise ValueError(row)

    processor = BatchProcessor(RunnableLambda(fail), max_failures=bound, concurrency=1)
    with pytest.raises(RunStopped, match="1 row failed"):
        processor.batch(list(range(300)))

    assert processor.last_run is not None
    assert processor.last_run.stats.failed == 1


def test_one_and_the_same_exception_object_carries_one_note() -> None:
    error = ValueError("always this one")

    def fail(row: int) -> None:
        raise error

    for _ in range(3):
        with pytest.raises(ValueError, match="always"):
            BatchProcessor(RunnableLambda(fail)).batch([1, 2])

    assert len(error.__notes__) == 1


@pytest.mark.parametrize(
    "setting",
    [
        {"retry": "3"},
        {"retry": 2.5},
        {"max_failures": math.nan},
        {"max_failures": "5%"},
        {"timeout": "5"},
        {"validate": 3},
        {"priority": [1]},
        {"classify": 3},
        {"cache": True},
        {"budget": "5"},
        {"budget": -5},
        {"fallbacks": RunnableLambda(echo)},
        {"observers": [object()]},
        {"observers": 3},
        {"run": "", "store": "memory:"},
        {"fingerprint": 5},
        {"prices": 5},
        {"prices": {"a-model": 1}},
        {"prices": {"a-model": ("1", 2)}},
        {"output_type": 3},
        {"output_type": [str, 3]},
        {"chunk_pause": math.inf, "chunk_size": 2},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_given(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        BatchProcessor(RunnableLambda(echo), **setting)


@pytest.mark.parametrize(
    ("make", "field", "wrong"),
    [
        (AdaptiveConcurrency, "initial", "10"),
        (AdaptiveConcurrency, "maximum", 20.5),
        (RetryPolicy, "retries", "3"),
        (RetryPolicy, "reasks", 1.5),
        (RetryPolicy, "base_s", "1"),
        (RetryPolicy, "allowance_share", None),
        (Cache, "max_entries", "9"),
        (Cache, "max_entries", 1.5),
        (Cache, "ttl", "60"),
        (partial(Budget, total=1), "max_output_tokens", "9"),
        (partial(Budget, total=1), "max_output_tokens", 1.5),
    ],
)
def test_an_amount_of_another_type_is_refused_in_words(
    make: Callable[..., object], field: str, wrong: object
) -> None:
    with pytest.raises(ConfigError, match="number"):
        make(**{field: wrong})


@pytest.mark.parametrize("wrong", [0, -1, "4", 2.5, True])
def test_a_cap_in_a_config_that_cannot_be_is_refused_by_its_name(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="max_concurrency="):
        BatchProcessor(RunnableLambda(echo)).batch([1], {"max_concurrency": wrong})


@pytest.mark.parametrize("wrong", [math.nan, "high", 10**400])
def test_a_priority_that_is_no_number_is_refused_with_its_row(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"row 2 \(index 1\) has the priority"):
        BatchProcessor(RunnableLambda(echo)).batch([1, 2, 3], priorities=[1, wrong, 3])


def test_a_single_failure_is_told_without_others() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        BatchProcessor(RunnableLambda(lambda row: 1 / row)).batch([1, 0, 2])
    assert "row 2 (index 1) of 3 rows failed;" in caught.value.__notes__[0]


def test_a_run_that_was_stopped_names_no_outcomes_that_are_not_there() -> None:
    with BatchProcessor(RunnableLambda(echo)).start(itertools.count()) as run:
        run.stop()
        with pytest.raises(RunStopped, match="were handed out"):
            list(run)


def test_a_request_that_the_budget_does_not_allow_is_told_with_both_amounts() -> None:
    model = ChatOpenAI(model="gpt-4o-mini", api_key="k", base_url="http://127.0.0.1:9/v1", max_tokens=100)
    with pytest.raises(RunStopped, match=r"which can cost \$0\.000\d{3}; \$0\.000002 is left"):
        BatchProcessor(model, budget=Budget(total=0.000002)).batch(["a"])


def test_a_budget_is_a_finite_number() -> None:
    with pytest.raises(ConfigError, match="number of dollars"):
        Budget(total=math.inf)
