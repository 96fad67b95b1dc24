"""Folders of Parquet files, which workers do file by file."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet

from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.support.loopback import Loopback
from tests.support.replies import fails

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.replies import Reply, Request

WORKERS = ("--executor", "processes", "--no-progress", "--workers", "2")
# Each takes a second to begin: where it does not matter that there are several, one does it.
ONE_WORKER = (*WORKERS[:-1], "1")


def shards(folder: Path, sizes: list[int]) -> list[str]:
    """Write files of so many rows; return the texts of all rows."""
    folder.mkdir()
    texts = [f"text {number}" for number in range(sum(sizes))]
    begin = 0
    for number, size in enumerate(sizes):
        part = texts[begin : begin + size]
        parquet.write_table(pa.table({"text": part}), folder / f"part-{number}.parquet")
        begin += size
    return texts


def answers(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.parquet")):
        for row in parquet.read_table(file).to_pylist():
            assert row["text"] not in found
            found[row["text"]] = row["output"]
    return found


def spent_at(server: Loopback) -> float:
    """In dollars, at the prices that the test names."""
    return (server.billed.input_tokens * 0.15 + server.billed.output_tokens * 0.6) / 1e6


def spent_in(folder: Path) -> float:
    """What the runs of the files cost by the store."""
    store = open_store(folder / "cottonpalm.db")
    try:
        parts = [info for info in store.runs() if "/" in info.name]
    finally:
        store.close()
    assert not any(info.uncertain_pico for info in parts)
    return sum(info.cost_pico for info in parts) / PICO


@pytest.fixture
def faults() -> set[str]:
    """Texts whose requests are refused for now."""
    return set()


@pytest.fixture
def server(faults: set[str]) -> Iterator[Loopback]:
    def refused(request: Request) -> Reply | None:
        return fails(400) if request.text in faults else None

    with Loopback(refused) as running:
        yield running


@pytest.mark.timeout(300)  # three times two workers begin
def test_each_file_is_answered_once_into_its_own_output_and_what_failed_can_be_retried(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback, faults: set[str]
) -> None:
    rng = random.Random()
    texts = shards(folder / "in", [rng.randrange(1, 30) for _ in range(5)])
    bad = rng.choice(texts)
    faults.add(f"say {bad}")
    said = ask("in", "-o", "out", "--concurrency", "4", *WORKERS)
    assert said.code == 3, said.err
    assert (
        f"{len(texts):,} rows: {len(texts) - 1:,} ok, 1 failed; 5 files: 4 done, 1 with failures\n"
        in said.err
    )
    assert server.peak <= 4
    expected = {text: f"answer to: say {text}" for text in texts}
    assert answers(folder / "out") == {**expected, bad: None}
    faults.clear()
    before = server.requests
    said = cottonpalm("retry", "out", "--no-progress")
    assert said.code == 0, said.err
    assert server.requests == before + 1
    assert answers(folder / "out") == expected
    again = ask("in", "-o", "out", "--concurrency", "4", *WORKERS)
    assert (again.code, server.requests) == (0, before + 1)
    said = cottonpalm("report", "out")
    assert said.err.strip() == (
        "note: the rows in the report of run out are files, each of which is a run with a report "
        "(cottonpalm report out/part-0.parquet)"
    )
    assert cottonpalm("report", "out/part-0.parquet").err == ""


@pytest.mark.timeout(300)
def test_a_maximum_is_that_of_all_workers_of_a_folder_together(cottonpalm: Command, folder: Path) -> None:
    shards(folder / "in", [40] * 4)
    with Loopback(latency=0.05) as server:
        model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
        said = cottonpalm("run", "in", "-o", "out", *model, "--max-concurrency", "4", *WORKERS)
        assert said.code == 0, said.err
        assert server.peak <= 4
        assert server.requests == 160


@pytest.mark.timeout(300)
def test_files_of_another_folder_do_not_take_the_place_of_answers_without_a_word(
    ask: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [2])
    shards(folder / "other", [1])
    assert ask("in", "-o", "out", *ONE_WORKER).code == 0
    before = answers(folder / "out")
    said = ask("other", "-o", "out", *ONE_WORKER)
    assert "out holds answers to the rows of in, which would leave it for those of other" in said.one_line
    assert (said.code, server.requests, answers(folder / "out")) == (2, 2, before)
    assert ask("in", "-o", "out", *ONE_WORKER).code == 0


def test_files_without_rows_are_done_and_one_with_rows_says_what_is_asked(
    ask: Command, folder: Path, server: Loopback
) -> None:
    texts = shards(folder / "in", [0, 3, 0])
    said = ask("in", "-o", "out", *ONE_WORKER)
    assert said.code == 0, said.err
    assert "3 rows: 3 ok, 0 failed; 3 files: 3 done" in said.err
    assert answers(folder / "out") == {text: f"answer to: say {text}" for text in texts}
    assert server.requests == 3
    shards(folder / "empty", [0, 0])
    said = ask("empty", "-o", "none", *ONE_WORKER)
    assert "no file of empty holds a row: nothing to do" in said.one_line
    assert said.code == 2
    assert not (folder / "none").exists()


def test_a_budget_holds_over_all_files_and_the_rest_is_done_with_a_higher_one(
    ask: Command, folder: Path, server: Loopback
) -> None:
    texts = shards(folder / "in", [20, 20, 20])
    cap = 0.00025  # dollars: some eight of the bounds of one request
    money = ("--max-output-tokens", "50", "--budget", str(cap), "--price", "0.15:0.6")
    said = ask("in", "-o", "out", *money, *WORKERS)
    assert said.code == 4, said.err
    assert "budget" in said.err
    assert "it was asked to" not in said.err, "who asks says why"
    unfinished = re.findall(
        r"cottonpalm: (part-\d\.parquet): \d+ rows ok, 0 failed(?:; stopped: .*the budget does not .*)?: "
        r"(cottonpalm .*)",
        said.err,
    )
    assert unfinished
    for part, command in unfinished:
        assert command == f"cottonpalm status out/{part} --store {folder / 'cottonpalm.db'}"
    assert re.search(r"; 3 files: (0 done, 3 left|1 done, 2 left|2 done, 1 left)", said.err)
    assert 0.5 * cap < spent_at(server) <= cap
    assert spent_in(folder) == pytest.approx(spent_at(server)), "each file has its own rows' cost"
    said = ask("in", "-o", "out", *money[:2], "--budget", "1", *money[4:], *WORKERS)
    assert said.code == 0, said.err
    assert server.requests == len(texts)
    assert spent_in(folder) == pytest.approx(spent_at(server))
    assert answers(folder / "out") == {text: f"answer to: say {text}" for text in texts}


def test_a_spent_budget_is_not_asked_for_each_of_the_other_files(
    ask: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [2] * 20)
    money = (
        "--max-output-tokens",
        "50",
        "--budget",
        "0.00004",
        "--price",
        "0.15:0.6",
    )  # less than one request's
    said = ask("in", "-o", "out", *money, *ONE_WORKER)
    assert said.code == 4, said.err
    assert "the run stopped: the budget is spent" in said.err
    tried = set(re.findall(r"part-\d+\.parquet: 0 rows ok", said.err))
    assert 4 <= len(tried) <= 6
    assert server.requests == 0


def test_a_key_that_is_refused_is_said_with_its_file_and_not_tried_with_each_of_the_others(
    cottonpalm: Command, folder: Path
) -> None:
    texts, good = shards(folder / "in", [3] * 12), []
    with Loopback(lambda _: None if good else fails(401)) as server:
        model = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
        command = ("run", "in", "-o", "out", *model, "--concurrency", "1", *ONE_WORKER)
        said = cottonpalm(*command)
        asked = server.requests
        good.append("key")
        again = cottonpalm(*command)
    assert said.code == 4, said.err
    told = re.findall(
        r"cottonpalm: part-\d+\.parquet: 0 rows ok, \d failed; stopped: no row can be answered: .*"
        r"\(check OPENAI_API_KEY\): cottonpalm status out/part-",
        said.err,
    )
    assert 4 <= len(told) <= 5, said.err
    assert said.err.count("no row can be answered") == len(told), "each file's once"
    assert "the run stopped: 4 files stopped, one after the other\n" in said.err
    assert 4 <= asked <= 6 * 3
    assert again.code == 0, again.err
    assert answers(folder / "out") == {text: f"answer to: say {text}" for text in texts}


def test_a_file_that_stops_among_others_stops_none_of_them(
    ask: Command, folder: Path, server: Loopback, faults: set[str]
) -> None:
    texts = shards(folder / "in", [12] * 4)
    faults.update(f"say {text}" for text in texts[12:24])
    said = ask("in", "-o", "out", "--max-failures", "3", "--concurrency", "1", *ONE_WORKER)
    assert said.code == 4, said.err
    assert re.search(
        r"part-1\.parquet: \d+ rows ok, 4 failed; stopped: 4 rows failed, more than --max-failures 3: ",
        said.err,
    )
    assert {text: said for text, said in answers(folder / "out").items() if said is not None} == {
        text: f"answer to: say {text}" for text in texts[:12] + texts[24:]
    }


def test_what_cannot_be_done_file_by_file_is_said_in_one_line_before_any_call(
    ask: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [1])
    (folder / "empty").mkdir()
    for words, why in (
        (("in", "-o", "out"), "say --executor processes or --executor ray"),
        (("in", "-o", "out.parquet", *WORKERS), "name a folder"),
        (("in", "-o", "in", *WORKERS), "name another one"),
        (("empty", "-o", "out", *WORKERS), "no .parquet file is there"),
        (("nothing-*.parquet", "-o", "out", *WORKERS), "no .parquet file is there"),
        (("in", "-o", "out", "--limit", "3", *WORKERS), "--limit is for the rows of one file"),
    ):
        said = ask(*words)
        assert (said.code, why in said.one_line) == (2, True), said.err
    said = ask("in", "-o", "out", *WORKERS, prompt="say {nothing}")
    assert said.code == 2
    assert server.requests == 0
    assert not (folder / "out").exists()


@pytest.mark.timeout(300)
def test_a_fresh_run_forgets_what_its_files_hold(ask: Command, folder: Path, server: Loopback) -> None:
    texts = shards(folder / "in", [3, 4])
    for more in ((), ("--fresh",)):
        assert ask("in", "-o", "out", *more, *ONE_WORKER).code == 0
    assert server.counts == {f"say {text}": 2 for text in texts}
    store = open_store(folder / "cottonpalm.db")
    assert sorted((info.name, info.ok) for info in store.runs()) == [
        ("out", 2),
        ("out/part-0.parquet", 3),
        ("out/part-1.parquet", 4),
    ]
    store.close()


@pytest.mark.timeout(300)
def test_what_is_said_of_a_folder_is_of_the_files_that_it_holds_now(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback, faults: set[str]
) -> None:
    shards(folder / "in", [3, 2, 4])
    faults.add("say text 4")  # of the second file
    assert ask("in", "-o", "out", *ONE_WORKER).code == 3
    asked = server.requests
    parquet.write_table(
        pa.table({"text": ["text 0", "text 1", "text 2", "a new one"]}), folder / "in/part-0.parquet"
    )
    parquet.write_table(pa.table({"text": ["text 3"]}), folder / "in/part-1.parquet")
    (folder / "in/part-2.parquet").unlink()
    said = ask("in", "-o", "out", *ONE_WORKER)
    assert said.code == 0, said.err
    assert server.requests == asked + 1
    assert "5 rows: 5 ok, 0 failed; 2 files: 2 done\n" in said.err
    assert "edited" not in said.err
    assert "note: out also holds part-2.parquet, of what in does not hold any more" in said.err
    [told] = [line for line in cottonpalm("status").out.splitlines() if line.split()[0] == "out"]
    assert told.split()[1:4] == ["3", "0", "0"], (
        "two files of the folder and one that left it; none left to do"
    )


@pytest.mark.timeout(300)
def test_a_folder_is_forgotten_with_its_files(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [3, 4])
    assert ask("in", "-o", "out", *ONE_WORKER).code == 0
    assert ask("in/part-0.parquet", "-o", "other.jsonl", "--run", "out/other").code == 0
    asked = server.requests
    said = cottonpalm("rm", "out")
    assert said.code == 2
    assert "rm out would forget 7 answers and 0 failed rows of 2 files, which cost $" in said.one_line
    assert cottonpalm("rm", "out", "--yes").code == 0
    assert [line.split()[0] for line in cottonpalm("status").out.splitlines()] == ["run", "out/other"]
    assert ask("in", "-o", "out", "--overwrite", *ONE_WORKER).code == 0
    assert server.requests == asked + 7


def test_folders_within_a_folder_are_not_read_and_that_is_said(
    ask: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [2])
    for within in ("year=2024/month=1", "year=2025", "out", "_temporary", "notes"):
        (folder / "in" / within).mkdir(parents=True)
        if within != "notes":
            parquet.write_table(pa.table({"text": [within]}), folder / "in" / within / "part.parquet")
    said = ask("in", "-o", "in/out", *ONE_WORKER)
    assert (said.code, server.requests) == (0, 2), said.err
    assert "note: files in folders within in are not read: year=2024 and 1 more\n" in said.err


def test_an_export_of_a_folder_says_where_its_rows_are(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    shards(folder / "in", [1, 1])
    assert ask("in", "-o", "out", *ONE_WORKER).code == 0
    said = cottonpalm("export", "out", "-o", "all.jsonl")
    assert said.code == 2
    assert "run out is of files, each of which is a run of its own" in said.one_line
    assert "(cottonpalm export out/part-0.parquet -o FILE); their rows are in out" in said.one_line
    assert cottonpalm("export", "out/part-0.parquet", "-o", "all.jsonl").code == 0
    assert server.requests == 2
