"""A row that was streamed has the answer that `invoke` gives: of every form of chain, stored, and read back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import CommaSeparatedListOutputParser, JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
)
from langchain_core.runnables.utils import AddableDict
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm import BatchProcessor, RowFinished
from cottonpalm.chain.streamed import answer_of
from tests.support.loopback import Loopback
from tests.support.replies import ok

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"x": "1"}


def says(text: str) -> Any:
    """A model that streams this text letter by letter."""
    return ChatPromptTemplate.from_template("{x}") | FakeListChatModel(responses=[text])


TEXT = says("one, two") | StrOutputParser()
JSON = says('{"a": [1, 2, "x"], "b": {"c": null}}') | JsonOutputParser()
ARRAY = says('[1, [2, "x"], 3]') | JsonOutputParser()
FORMS: dict[str, Any] = {
    "message": says("one, two"),
    "text": TEXT,
    "object": JSON,
    "array": ARRAY,
    "string": says('"a string"') | JsonOutputParser(),
    "number": says("1234") | JsonOutputParser(),
    "list": says("one, two, three") | CommaSeparatedListOutputParser(),
    "parallel of messages": RunnableParallel(a=says("one"), b=TEXT),
    "parallel of objects": RunnableParallel(b=JSON, a=ARRAY, c=TEXT),
    "parallel in parallel": RunnableParallel(z=RunnableParallel(q=TEXT, a=ARRAY), b=TEXT),
    "assigned": RunnablePassthrough.assign(z=ARRAY, y=TEXT),
    "assigned twice": RunnablePassthrough.assign(z=TEXT)
    | RunnablePassthrough.assign(n=lambda row: len(row["z"])),
    "picked": RunnablePassthrough.assign(z=ARRAY) | RunnablePick("z"),
    "two picked": RunnablePassthrough.assign(z=ARRAY, y=TEXT) | RunnablePick(["z", "x"]),
    "passed on": ARRAY | RunnablePassthrough(),
    "in a list": RunnableParallel(a=TEXT) | RunnableLambda(lambda said: [said, said]),
    "bound": ARRAY.with_config(tags=["t"]),
    "with a fallback": RunnableParallel(a=ARRAY).with_fallbacks([TEXT]),
    "branch": RunnableBranch((lambda _: True, RunnableParallel(a=ARRAY)), RunnableParallel(a=ARRAY)),
    "each": RunnableLambda(lambda row: [row, row]) | TEXT.map(),
}


def bare(value: Any) -> Any:
    """Of messages, what does not differ from call to call; of dicts, also the order of the keys."""
    if isinstance(value, AIMessage):
        return type(value), value.content
    if isinstance(value, dict):
        return dict, [(name, bare(one)) for name, one in value.items()]
    return [bare(one) for one in value] if isinstance(value, list) else value


async def streamed(chain: Any, path: Path) -> Any:
    async with BatchProcessor(chain, store=path, run="night").astart([ROW], stream=True) as run:
        [outcome] = [event.outcome async for event in run if hasattr(event, "outcome")]
    assert outcome.error is None
    return outcome.output


@pytest.mark.parametrize("form", FORMS)
def test_a_streamed_row_has_the_answer_that_invoke_gives_and_keeps_it(form: str, tmp_path: Path) -> None:
    chain = FORMS[form]
    wanted = bare(chain.invoke(ROW))
    assert bare(asyncio.run(streamed(chain, tmp_path / "runs.db"))) == wanted
    assert bare(asyncio.run(streamed(chain, tmp_path / "runs.db"))) == wanted, "from the store"
    [again] = BatchProcessor(chain, store=tmp_path / "plain.db", run="night").batch([ROW])
    assert bare(again) == wanted


def test_chunks_without_a_value_give_way_and_no_chunk_is_no_answer() -> None:
    none, one = AddableDict(a=None), AddableDict(a=1)
    assert answer_of([none, one, none]) == {"a": 1}
    assert answer_of([none]) == {"a": None}
    assert answer_of([]) is None


def test_chunks_that_cannot_be_added_are_the_last_one_and_take_no_other_key_away() -> None:
    said = [AddableDict(a="x"), AddableDict(b={"p": 1}), AddableDict(a="y"), AddableDict(b={"p": 1, "q": 2})]
    assert answer_of(said) == {"a": "xy", "b": {"p": 1, "q": 2}}
    assert answer_of([{"p": 1}, {"p": 2}]) == {"p": 2}


class Place(BaseModel):
    """What is asked for."""

    name: str


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of LangChain's own, at each such answer
def test_a_streamed_structured_answer_that_is_no_json_is_asked_again() -> None:
    with Loopback([ok("It is Lima."), ok('{"name": "Lima"}')]) as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini")  # type: ignore[arg-type]
        with BatchProcessor(model.with_structured_output(Place)).start(["Where is it?"], stream=True) as run:
            [outcome] = [event.outcome for event in run if isinstance(event, RowFinished)]
    assert (outcome.output, outcome.attempts) == (Place(name="Lima"), 2)
