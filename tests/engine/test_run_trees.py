"""Run trees of rows, as LangSmith and other callbacks get them: `chain.batch`'s, and which row and try each is of."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.context import tracing_v2_enabled
from langchain_core.tracers.langchain import wait_for_all_tracers
from langsmith import Client

from cottonpalm import BatchProcessor, Cache
from tests.differential.seen import plain as without_chance

if TYPE_CHECKING:
    from langchain_core.tracers import Run

pytestmark = pytest.mark.core
ROWS = [{"text": f"say {n}"} for n in range(4)]


class Trees(BaseTracer):
    """Keeps run trees as they end."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


def metadata(run: Run) -> dict[str, Any]:
    return dict((run.extra or {}).get("metadata") or {})


def ours(run: Run) -> dict[str, Any]:
    return {name: value for name, value in metadata(run).items() if name.startswith("cottonpalm_")}


def shape(run: Run) -> Any:
    """A tree without what is chance and without what we add."""
    rest = {name: value for name, value in metadata(run).items() if not name.startswith("cottonpalm_")}
    mine = (
        run.run_type,
        run.name,
        sorted(run.tags or []),
        sorted(rest.items(), key=str),
        without_chance(run.inputs),
    )
    return (*mine, [shape(child) for child in run.child_runs])


def everything(run: Run) -> list[Run]:
    return [run, *(found for child in run.child_runs for found in everything(child))]


def chain() -> Any:
    prompt = ChatPromptTemplate.from_template("{text}")
    return (prompt | FakeListChatModel(responses=["yes"]) | StrOutputParser()).with_config(tags=["own"])


def test_trees_are_those_of_chain_batch_and_each_of_their_runs_names_the_row() -> None:
    plain, mine = Trees(), Trees()
    config = {"tags": ["t"], "metadata": {"team": "a"}, "run_name": "labels"}
    chain().batch(ROWS, {**config, "callbacks": [plain]})
    BatchProcessor(chain()).batch(ROWS, {**config, "callbacks": [mine]}, ids=["a", "b", "c", "d"])
    assert sorted(map(str, map(shape, mine.roots))) == sorted(map(str, map(shape, plain.roots)))
    by_row = sorted(mine.roots, key=lambda run: metadata(run)["cottonpalm_row"])
    for index, (run, name) in enumerate(zip(by_row, "abcd", strict=True)):
        assert f"say {index}" in str(run.inputs)
        wanted = {"cottonpalm_row": index, "cottonpalm_id": name, "cottonpalm_attempt": 1}
        assert [ours(each) for each in everything(run)] == [wanted] * 4


def test_a_row_that_is_asked_again_has_a_tree_for_each_try_with_its_number() -> None:
    failed = set()

    async def fails_once(row: str) -> str:
        if row not in failed:
            failed.add(row)
            raise ConnectionError("broken off")
        return row

    trees = Trees()
    BatchProcessor(RunnableLambda(fails_once)).batch(["x"], {"callbacks": [trees]})
    tries = [{"cottonpalm_row": 0, "cottonpalm_attempt": number} for number in (1, 2)]
    assert [ours(run) for run in trees.roots] == tries
    assert trees.roots[0].id != trees.roots[1].id


def test_callbacks_of_a_step_are_told_the_row_too() -> None:
    trees = Trees()
    model = FakeListChatModel(responses=["yes"], callbacks=[trees])
    BatchProcessor(ChatPromptTemplate.from_template("{text}") | model).batch(ROWS[:2])
    assert sorted(ours(run)["cottonpalm_row"] for run in trees.roots) == [0, 1]


def test_who_listens_changes_neither_the_answers_that_are_known_nor_a_call_of_one_row() -> None:
    cache, trees = Cache(), Trees()
    processor = BatchProcessor(chain(), cache=cache, store="memory:", run="night")
    processor.batch(ROWS)
    assert processor.batch(ROWS, {"callbacks": [trees]}) == ["yes"] * 4
    BatchProcessor(chain(), cache=cache).batch(ROWS[::-1], {"callbacks": [trees]})
    assert trees.roots == [], "all of it was known"
    processor.invoke({"text": "new"}, {"callbacks": [trees]})
    assert [ours(run) for run in trees.roots] == [{}]


def test_langsmith_itself_is_sent_the_row_and_the_try_of_each_run() -> None:
    sent: list[dict[str, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(202)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_port}", api_key="none", auto_batch_tracing=False)
        with tracing_v2_enabled(client=client):
            BatchProcessor(chain()).batch(ROWS[:2], ids=["a", "b"])
        wait_for_all_tracers()
        server.shutdown()
    named = [(run["extra"]["metadata"], run["run_type"]) for run in sent]
    assert len(named) == 2 * 4
    for row, id_ in enumerate("ab"):
        wanted = {"cottonpalm_row": row, "cottonpalm_id": id_, "cottonpalm_attempt": 1}
        mine = [kind for about, kind in named if wanted.items() <= about.items()]
        assert sorted(mine) == ["chain", "llm", "parser", "prompt"]
