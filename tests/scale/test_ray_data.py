"""A chain in Ray Data's `map_batches`: one limit, one budget, one store of answers for all its actors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from langchain_core.runnables import RunnableLambda
from pyarrow import parquet

from cottonpalm import ConfigError, RunStopped
from cottonpalm.engine.executors.workers.travel import packed
from cottonpalm.errors import StoreError
from cottonpalm.ray_data import Ask, asking, spent
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.stores import open_store
from cottonpalm.types import pico
from tests.scale.chains import asking as chain_at
from tests.support.loopback import Loopback, LoopbackProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Server


def answered(folder: Path, chain: Any, **more: Any) -> dict[str, str]:
    """The answers of two actors to what is in the folder, by row."""
    import ray.data

    dataset = ray.data.read_parquet(str(folder))
    found = dataset.map_batches(**asking(chain, name="job", workers=2, batch_size=16, **more)).take_all()
    return {row["x"]: row["answer"] for row in found}


@pytest.mark.timeout(500)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore")  # Ray Data's own
def test_actors_of_ray_data_keep_one_limit_and_one_budget_and_pay_no_answer_twice(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(150)]
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        table = pa.table({"x": texts[number * 50 : number * 50 + 50]})
        parquet.write_table(table, folder / f"{number}.parquet")
    kept: dict[str, Any] = {"store": tmp_path / "s.db", "budget": 1.0, "concurrency": 5}
    with LoopbackProcess(latency=0.02) as server:
        chain = chain_at(server.openai_url)
        for _ in range(2):
            assert answered(folder, chain, **kept) == {text: f"answer to: {text}" for text in texts}
        served = server.stats()
    assert (served.requests, served.peak <= 5) == (150, True)
    reported, uncertain = spent("job", tmp_path / "s.db")
    charged = served.billed["input_tokens"] * 150_000 + served.billed["output_tokens"] * 600_000
    assert (pico(reported), pico(uncertain)) == (charged, 0)


def test_what_cannot_work_there_is_said_before_anything_begins() -> None:
    chain = RunnableLambda(str)
    with pytest.raises(ConfigError, match=r"executor=\.\.\. is not for map_batches"):
        asking(chain, name="job", executor="ray")
    with pytest.raises(ConfigError, match=r"workers=0: say how many"):
        asking(chain, name="job", workers=0)
    with pytest.raises(ConfigError, match="a store in memory is one process's own"):
        asking(chain, name="job", store="memory:")


def test_what_an_unknown_job_has_spent_is_an_error_and_makes_neither_a_store_nor_a_run(
    tmp_path: Path,
) -> None:
    money = pytest.importorskip("cottonpalm.engine.executors.workers.ray.money", exc_type=ImportError)
    path = tmp_path / "s.db"
    with pytest.raises(StoreError, match=r"there is no store .*s\.db"):
        spent("job", path)
    assert not path.exists()
    store = open_store(path)
    with pytest.raises(StoreError, match="no job 'job' with a budget"):
        spent("job", path)
    assert store.runs() == []
    store.open_run(money.kept_as("job"), None).close()
    store.close()
    assert spent("job", f"sqlite:///{path}") == (0.0, 0.0)


@pytest.mark.timeout(400)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
def test_a_budget_that_another_cluster_grants_is_refused_in_our_words_and_no_actor_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    money = pytest.importorskip("cottonpalm.engine.executors.workers.ray.money", exc_type=ImportError)
    monkeypatch.setattr(money, "BEGINS_S", 0.0)
    path, chain = tmp_path / "s.db", chain_at("http://127.0.0.1:9/v1")
    why = r"the budget of 'busy' cannot be granted: run 'busy \(budget\)' is being worked on"

    async def asked_by_an_actor() -> None:
        chain_there = packed((chain, {}))
        ask = Ask(chain_there, "busy", str(path), "answer", limits=Amounts(pico(1.0)))
        async for _ in ask(pa.table({"x": ["a"]})):
            raise AssertionError("it was answered")

    store = open_store(path)
    run = store.open_run(money.kept_as("busy"), None)  # as the granting actor of another cluster does
    try:
        with pytest.raises(StoreError, match=why):
            asking(chain, name="busy", store=path, budget=1.0)
        with pytest.raises(RunStopped, match=why):
            asyncio.run(asyncio.wait_for(asked_by_an_actor(), 60))
    finally:
        run.close()
        store.close()


def test_answers_that_the_store_does_not_take_are_not_handed_on(
    postgres_url: str, postgres_server: Server
) -> None:
    async def handed_on(ask: Ask, text: str) -> list[dict[str, str]]:
        return [row async for batch in ask(pa.table({"x": [text]})) for row in batch.to_pylist()]

    async def main(url: str) -> None:
        ask = Ask(packed((chain_at(url), {})), "job", postgres_url, "answer", limits=None)
        assert await handed_on(ask, "a") == [{"x": "a", "answer": "answer to: a", "answer_error": None}]
        postgres_server.run("DROP TABLE cottonpalm.answer")
        for text in ("b", "c"):
            with pytest.raises(StoreError, match="has lost tables"):
                await handed_on(ask, text)

    with Loopback() as server:
        asyncio.run(main(server.openai_url))
        assert "c" not in server.counts, "it was known that its answer cannot be kept"


@pytest.mark.timeout(500)  # a cluster may take its time to begin
def test_no_row_is_asked_any_more_once_its_answer_could_not_be_kept(
    postgres_url: str, postgres_server: Server
) -> None:
    texts = [f"row {number}" for number in range(400)]

    async def ask_all(ask: Ask, texts: list[str]) -> None:
        async for _ in ask(pa.table({"x": texts})):
            pass

    async def main(url: str) -> None:
        ask = Ask(packed((chain_at(url), {"concurrency": 4})), "job", postgres_url, "answer", limits=None)
        await ask_all(ask, ["first"])
        postgres_server.run("DROP TABLE cottonpalm.answer")
        with pytest.raises(StoreError, match="has lost tables"):
            await ask_all(ask, texts)

    with Loopback(latency=0.02) as server:
        asyncio.run(main(server.openai_url))
        assert len(server.counts) < 100, "the rest would be paid for in vain"
