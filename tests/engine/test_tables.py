"""Tables in and out: frames and Arrow tables as rows, answers as a frame, and what only looks like rows."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from cottonpalm import BatchProcessor, ConfigError, RetryPolicy
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import unpack

ONE_TRY = RetryPolicy(retries=0, base_s=0.001)


class Asked:
    """A chain that reads `text` of a row, and counts what it was asked."""

    def __init__(self, answer: Any = lambda text: f"about {text}") -> None:
        self.calls: Counter[str] = Counter()
        self.answer = answer
        self.chain = PromptTemplate.from_template("{text}") | RunnableLambda(self._answer)

    def _answer(self, prompt: Any) -> Any:
        self.calls[prompt.text] += 1
        return self.answer(prompt.text)

    def processor(self, **more: Any) -> BatchProcessor:
        return BatchProcessor(self.chain, retry=ONE_TRY, **more)

    def kept(self, folder: Path, **more: Any) -> BatchProcessor:
        return self.processor(store=folder / "s.db", run="night", **more)


def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["b", "a", "c"], "note": [1, 2, 3]}, index=[30, 10, 20])


TABLES = [
    pytest.param(frame(), id="pandas"),
    pytest.param(pl.from_pandas(frame()), id="polars"),
    pytest.param(pl.from_pandas(frame()).lazy(), id="polars, lazy"),
    pytest.param(pa.Table.from_pandas(frame(), preserve_index=False), id="arrow"),
    pytest.param(pa.Table.from_pandas(frame(), preserve_index=False).to_batches()[0], id="arrow batch"),
]


class Relation:
    """A table of a library we do not know, as DuckDB's relations are: not a list, and indexed by names alone."""

    def __init__(self) -> None:
        self._table = pa.Table.from_pandas(frame(), preserve_index=False)

    def __getitem__(self, name: str) -> Any:
        return self._table[name]

    def __len__(self) -> int:
        return self._table.num_rows

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


IN_PARTS = [
    pytest.param(Relation, id="a relation"),
    pytest.param(lambda: pa.dataset.dataset(Relation()._table), id="arrow dataset"),
    pytest.param(lambda: pa.dataset.dataset(Relation()._table).scanner(), id="arrow scanner"),
    pytest.param(lambda: Relation()._table.to_reader(max_chunksize=1), id="arrow reader"),
]
CHUNKS = [
    pytest.param(lambda: pd.read_csv(io.StringIO(frame().to_csv(index=False)), chunksize=2), id="read_csv"),
    pytest.param(
        lambda: pd.read_json(
            io.StringIO(frame().to_json(orient="records", lines=True)), lines=True, chunksize=2
        ),
        id="read_json",
    ),
]


@pytest.mark.parametrize("made", [*IN_PARTS, *CHUNKS])
def test_the_rows_of_a_table_in_parts_or_of_a_library_we_do_not_know_are_asked(
    made: Any, tmp_path: Path
) -> None:
    asked = Asked()
    assert asked.kept(tmp_path).batch(made()) == ["about b", "about a", "about c"]
    with asked.kept(tmp_path).start(made()) as run:
        found = sorted(run, key=lambda outcome: outcome.index)
    assert found[0].input == {"text": "b", "note": 1}
    assert asked.kept(tmp_path).plan(made()).rows == 3
    assert asked.calls == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("made", IN_PARTS)
def test_map_table_of_what_gives_itself_as_arrow_is_an_arrow_table(made: Any) -> None:
    found = Asked().processor().map_table(made(), output="topic")
    assert found.column("topic").to_pylist() == ["about b", "about a", "about c"]
    assert found.schema.names == ["text", "note", "topic", "topic_error"]


def test_no_more_of_a_table_in_parts_is_read_than_the_run_has_room_for() -> None:
    read = []

    def batches() -> Any:
        for first in range(0, 100_000, 100):
            read.append(first)
            yield pa.record_batch({"text": list(map(str, range(first, first + 100)))})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"text": pa.string()}), batches())
    with Asked().processor(concurrency=2).start(pa.dataset.Scanner.from_batches(reader)) as run:
        next(run)
    assert len(read) < 500


def test_a_time_with_nanoseconds_is_asked_without_them_and_without_a_warning() -> None:
    table = pd.DataFrame({"text": ["a"], "at": [pd.Timestamp("2024-05-01 12:00:00.123456789")]})
    with Asked().processor().start(table) as run:
        [found] = [outcome.input["at"] for outcome in run]
    assert type(found) is dt.datetime
    assert found.isoformat() == "2024-05-01T12:00:00.123456"


@pytest.mark.core
@pytest.mark.parametrize("table", TABLES)
def test_the_rows_of_a_table_are_asked_and_not_its_columns(table: Any) -> None:
    asked = Asked()
    processor = asked.processor()
    assert processor.batch(table) == ["about b", "about a", "about c"]
    with processor.start(table) as run:
        assert [outcome.input for outcome in sorted(run, key=lambda outcome: outcome.index)] == [
            {"text": "b", "note": 1},
            {"text": "a", "note": 2},
            {"text": "c", "note": 3},
        ]
    assert dict(processor.batch_as_completed(table)) == {0: "about b", 1: "about a", 2: "about c"}
    assert processor.plan(table).rows == 3


@pytest.mark.parametrize("table", [*TABLES, pytest.param([{"text": "b"}], id="dicts")])
def test_map_table_returns_the_kind_of_table_it_got_with_the_answers_beside(table: Any) -> None:
    found = Asked().processor().map_table(table, output="topic")
    if isinstance(found, list):
        assert found == [{"text": "b", "topic": "about b", "topic_error": None}]
        return
    kind = {pl.LazyFrame: pl.DataFrame, pa.RecordBatch: pa.Table}.get(type(table), type(table))
    assert isinstance(found, kind)
    as_pandas = found if isinstance(found, pd.DataFrame) else found.to_pandas()
    assert list(as_pandas["topic"]) == ["about b", "about a", "about c"]
    assert list(as_pandas.columns) == ["text", "note", "topic", "topic_error"]


@pytest.mark.core
def test_the_answers_joined_to_a_frame_do_not_make_new_rows_of_it(tmp_path: Path) -> None:
    asked, table = Asked(), frame()
    for _ in range(3):
        table["answer"] = asked.kept(tmp_path).batch(table)
        table[f"note {len(table.columns)}"] = "more"
    assert asked.calls == {"a": 1, "b": 1, "c": 1}


def test_a_table_that_has_its_answers_is_asked_the_same_by_a_chain_that_reads_all_of_a_row(
    tmp_path: Path,
) -> None:
    calls: list[Any] = []
    chain = RunnableLambda(lambda row: calls.append(row) or len(row))
    table = frame()
    for _ in range(2):
        processor = BatchProcessor(chain, store=tmp_path / "s.db", run="night", fingerprint="1")
        table = processor.map_table(table, output="fields")
    assert list(table["fields"]) == [2, 2, 2]
    assert len(calls) == 3


def test_the_store_holds_a_row_as_it_was_last_given_though_it_is_not_asked_again(tmp_path: Path) -> None:
    asked = Asked()
    for note in ("old", "new"):
        rows = [{"text": text, "note": note} for text in "abc"]
        with asked.kept(tmp_path).start(rows, skip_stored=True) as run:
            given = list(run)
    store = open_store(tmp_path / "s.db")
    rows_held = store.look("night")
    assert rows_held is not None
    held = [unpack(record, slot, {}) for slot, record in sorted(rows_held.read([0, 1, 2]).items())]
    store.close()
    assert [outcome.input["note"] for outcome in held] == ["new"] * 3
    assert [outcome.output for outcome in held] == ["about a", "about b", "about c"]
    assert all(outcome.stored for outcome in given)  # they come once more, as they changed
    assert asked.calls.total() == 3
    with asked.kept(tmp_path).start(rows, skip_stored=True) as run:
        assert list(run) == []


def test_with_ids_only_a_row_whose_question_was_edited_is_asked_again(tmp_path: Path) -> None:
    asked = Asked()
    table = frame()
    asked.kept(tmp_path).batch(table, ids=table["note"])
    table["seen"] = True
    table.loc[10, "text"] = "A"
    assert asked.kept(tmp_path).plan(table, ids=table["note"]).asked == 1
    assert asked.kept(tmp_path).batch(table, ids=table["note"]) == ["about b", "about A", "about c"]
    assert asked.calls == {
        "a": 1,
        "b": 1,
        "c": 1,
        "A": 2,
    }  # one was the plan's, which runs what asks no model


def test_ids_from_a_column_are_taken_by_position_and_not_by_label() -> None:
    table = frame().set_index(pd.Index([2, 0, 1]))
    with Asked().processor().start(table, ids=table["note"]) as run:
        assert {outcome.index: outcome.id for outcome in run} == {0: "1", 1: "2", 2: "3"}


def test_failed_rows_retried_from_the_store_are_known_by_what_is_read_of_them(tmp_path: Path) -> None:
    wrong = {"a"}

    def answer(text: str) -> str:
        if text in wrong:
            raise ValueError("no")
        return text

    asked = Asked(answer)
    found = asked.kept(tmp_path).batch(frame(), return_exceptions=True)
    assert isinstance(found[1], ValueError)
    wrong.clear()
    assert [outcome.output for outcome in asked.kept(tmp_path).retry()] == ["a"]
    assert asked.kept(tmp_path).batch(frame()) == ["b", "a", "c"]
    assert asked.calls == {"a": 2, "b": 1, "c": 1}


@pytest.mark.core
def test_outcomes_become_a_frame_in_input_order_under_its_labels() -> None:
    processor = Asked().processor()
    processor.batch(frame())
    assert processor.last_run is not None
    found = processor.last_run.to_pandas()
    assert list(found.index) == [30, 10, 20]
    assert list(found.columns) == ["text", "note", "output", "status", "error", "cost_usd"]
    assert list(found["output"]) == ["about b", "about a", "about c"]
    with processor.start(pl.from_pandas(frame())) as run:
        assert run.to_polars()["output"].to_list() == ["about b", "about a", "about c"]
    with processor.start(frame()) as run:
        table = run.to_arrow()
    assert table.column("status").to_pylist() == ["ok"] * 3
    assert table.schema.field("error").type == pa.string()


class Review(BaseModel):
    stars: int
    words: list[str]


def test_a_second_table_of_a_run_holds_the_same_rows_and_one_of_rows_that_were_read_is_refused() -> None:
    asked = Asked()
    with asked.processor().start(frame()) as run:
        assert len(run.to_pandas()) == run.to_polars().height == run.to_arrow().num_rows == 3
    with asked.processor().start(frame()) as run:
        assert len(list(run)) == 3
        with pytest.raises(RuntimeError, match="all outcomes were read already"):
            run.to_pandas()


@pytest.mark.parametrize("made", [lambda review: review, lambda review: review.model_dump()])
def test_answers_that_are_objects_become_columns(made: Any) -> None:
    asked = Asked(lambda text: made(Review(stars=ord(text), words=[text])))
    found = asked.processor().map_table(frame(), output=None)
    assert list(found["stars"]) == [98, 97, 99]
    assert list(found["words"]) == [["b"], ["a"], ["c"]]
    assert list(found["error"]) == [None] * 3


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([{"a": 1}, {"a": 1, "b": 2}, {"c": {"d": [0.5]}}], id="dicts of differing fields"),
        pytest.param([[{"a": 1}], [{"b": "x"}], []], id="lists of them"),
        pytest.param([[1], [2.5], None], id="lists of integers, then of floats"),
        pytest.param([1, 2.5, None], id="integers and floats"),
        pytest.param([2**60 + 1, None, 3], id="a long integer and a gap"),
    ],
)
@pytest.mark.parametrize("table", TABLES)
def test_no_table_changes_an_answer_or_leaves_a_field_of_it_out(table: Any, answers: list[Any]) -> None:
    given = dict(zip("bac", answers, strict=True))
    found = Asked(given.__getitem__).processor().map_table(table, output="label")
    column = found["label"].to_pylist() if isinstance(found, pa.Table) else list(found["label"])
    assert [_without_gaps(value) for value in column] == [_without_gaps(value) for value in answers]


def _without_gaps(value: Any) -> Any:
    """A value without the fields that are None; polars gives lists in a series."""
    if isinstance(value, list | pl.Series):
        return [_without_gaps(part) for part in value]
    if isinstance(value, dict):
        return {name: _without_gaps(part) for name, part in value.items() if part is not None}
    return None if value is None or value != value else value


def test_values_that_no_column_holds_together_are_text_in_it() -> None:
    given = {"b": dt.date(2024, 1, 1), "a": dt.datetime(2024, 1, 1, 5)}  # noqa: DTZ001
    for kind in (pl.from_pandas, pa.Table.from_pandas):
        table = kind(frame()[:2])
        found = Asked(given.__getitem__).processor().map_table(table, output="label")["label"]
        values = found.to_pylist() if isinstance(table, pa.Table) else found.to_list()
        assert values == ['"2024-01-01"', '"2024-01-01T05:00:00"']


@pytest.mark.parametrize("table", [*TABLES, pytest.param(frame().to_dict("records"), id="dicts")])
def test_fields_that_are_called_like_a_column_take_none_of_the_input_away(table: Any) -> None:
    asked = Asked(lambda text: {"note": text * 2, "cottonpalm_note": text * 3})
    found = asked.processor().map_table(table, output=None)
    if not isinstance(found, pd.DataFrame):
        found = found.to_pandas() if isinstance(found, pl.DataFrame | pa.Table) else pd.DataFrame(found)
    assert list(found.pop("error").isna()) == [True] * 3
    assert found.to_dict("list") == {
        "text": ["b", "a", "c"],
        "note": [1, 2, 3],
        "cottonpalm_note": ["bb", "aa", "cc"],
        "cottonpalm_cottonpalm_note": ["bbb", "aaa", "ccc"],
    }


def test_a_table_that_came_of_two_runs_has_no_column_twice() -> None:
    table = frame()
    for _ in range(3):
        with Asked().processor().start(table) as run:
            table = run.to_pandas()
    assert len(set(table.columns)) == len(table.columns) == 2 + 3 * 4


def test_a_lazy_frame_whose_rows_change_places_keeps_each_answer_at_its_row() -> None:
    asked = Asked()
    words = pl.LazyFrame({"text": [str(place % 500) for place in range(2000)]})
    found = asked.processor().map_table(words.unique(maintain_order=False))
    assert found["answer"].to_list() == [f"about {text}" for text in found["text"]]


def test_a_failed_row_has_no_answer_in_the_table_and_says_why() -> None:
    def answer(text: str) -> Any:
        if text == "a":
            raise ValueError("not this one")
        return AIMessage(text) if text == "b" else 7

    found = Asked(answer).processor().map_table(pl.from_pandas(frame()))
    assert found["answer"].to_list() == ["b", None, "7"]  # a message is its text; a column has one type
    assert found["answer_error"][1] == "ValueError: not this one"


def test_cells_become_python_values_and_missing_ones_empty_text_as_in_a_csv() -> None:
    when = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    table = pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "f": [1.5, np.nan],
            "t": pd.to_datetime([when, None]),
            "d": pd.to_timedelta([1, None], unit="s"),
            "c": pd.Categorical(["x", None]),
            "a": [np.array([1, 2]), None],
        }
    )
    rows = Asked().processor()
    with rows.start(table.assign(text="a")) as run:
        first, second = [outcome.input for outcome in sorted(run, key=lambda outcome: outcome.index)]
    assert first == {
        "i": 1, "f": 1.5, "t": when, "d": dt.timedelta(seconds=1), "c": "x", "a": [1, 2], "text": "a",
    }  # fmt: skip
    assert [type(value) for value in first.values()] == [
        int,
        float,
        dt.datetime,
        dt.timedelta,
        str,
        list,
        str,
    ]
    assert second == {"i": "", "f": "", "t": "", "d": "", "c": "", "a": "", "text": "a"}
    with rows.start(table.assign(text="a")) as again:
        assert again.to_pandas()["f"].isna().tolist() == [False, True], "a column of numbers stays one"


@pytest.mark.core
@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"text": ["a", None, np.nan, pd.NA]}),
        pd.DataFrame({"text": ["a", None, None, None]}, dtype="string"),
        pl.DataFrame({"text": ["a", None, None, None]}),
        pa.table({"text": ["a", None, None, None]}),
    ],
    ids=lambda table: type(table).__module__.partition(".")[0],
)
def test_no_missing_cell_of_a_table_is_asked_as_a_word(table: Any) -> None:
    chain = ChatPromptTemplate.from_template("say {text}") | RunnableLambda(lambda made: made.to_string())
    processor = BatchProcessor(chain)
    wanted = ["Human: say a", *["Human: say "] * 3]
    assert processor.batch(table) == wanted
    assert list(map(str, processor.map_table(table)["answer"])) == wanted
    own = BatchProcessor(RunnableLambda(lambda text: f"Human: say {text}"))
    assert own.batch(table["text"]) == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("reviews", "one text"),
        (b"reviews", "one piece of bytes"),
        ({"text": "a"}, "one dict"),
        (Path("reviews.csv"), "cottonpalm run FILE"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' twice"),
        (pd.DataFrame({"text": ["a"]}).set_index("text"), "no columns to ask of.*reset_index"),
        (5, "not int"),
    ],
)
def test_what_only_looks_like_rows_is_refused_before_anything_is_asked(given: Any, said: str) -> None:
    asked = Asked()
    processor = asked.processor()
    with pytest.raises(ConfigError, match=said):
        processor.batch(given)
    with pytest.raises(ConfigError, match=said), processor.start(given) as run:
        list(run)
    assert not asked.calls


def test_batch_takes_rows_from_a_generator() -> None:
    assert Asked().processor().batch({"text": text} for text in "ab") == ["about a", "about b"]


@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.float32("nan"), np.int64(-3), np.bool_(True), np.datetime64("2024-01-01T10:00"),
     np.array([[1.5, np.inf]]), {"score": np.float16(2)}],
)  # fmt: skip
def test_numpy_values_come_back_from_the_store_as_they_were(tmp_path: Path, value: Any) -> None:
    chain = RunnableLambda(lambda _: value)
    first, second = (
        BatchProcessor(chain, store=tmp_path / "s.db", run="r", fingerprint="1").batch(["x"])[0]
        for _ in range(2)
    )
    assert repr(second) == repr(first) == repr(value)


def test_no_table_library_is_imported_for_rows_that_are_none() -> None:
    program = (
        "import sys\nfrom langchain_core.runnables import RunnableLambda\nimport cottonpalm\n"
        "before = set(sys.modules)\n"
        "cottonpalm.BatchProcessor(RunnableLambda(str)).batch([1])\n"
        "print(sorted({'numpy', 'pandas', 'polars', 'pyarrow', 'datasets'} & set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_asked_again_is_said_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = RunnableLambda(len)
    rows = [{"text": text} for text in "abc"]

    def again(rows: Any, **more: Any) -> list[str]:
        processor = BatchProcessor(chain, store=tmp_path / "s.db", run="night", fingerprint="1")
        plan = processor.plan(rows, **more)
        processor.batch(rows, **more)
        caplog.records[:] = [record for record in caplog.records if "paid" in record.getMessage()]
        return [note for note in plan.notes if "seen" not in note]

    assert again(rows) == []
    assert not caplog.records
    [note] = again([{**row, "answer": 1} for row in rows])
    assert "3 more rows not in this input" in note
    assert "3 of 3 rows are not among those that run 'night' holds" in caplog.text
    assert "the new column 'answer'" in caplog.text
    caplog.clear()
    again([{"text": text} for text in "xyz"])  # rows of the same form may well be new ones
    assert not caplog.records


def test_a_row_with_an_id_that_was_edited_is_counted_before_it_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    asked.kept(tmp_path).batch(frame(), ids=[1, 2, 3])
    asked.kept(tmp_path).batch(frame().assign(note=0), ids=[1, 2, 3])
    assert "again" not in caplog.text
    edited = frame().assign(text=["b", "A", "C"])
    note = asked.kept(tmp_path).plan(edited, ids=[1, 2, 3]).notes[0]
    assert note.startswith("2 of the rows to ask were edited")
    asked.kept(tmp_path).batch(edited, ids=[1, 2, 3])
    assert "2 of 3 rows were edited since run 'night' asked them" in caplog.text


def test_rows_of_one_id_are_not_called_edited_because_they_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked, edited = Asked(), frame().assign(text=["b", "A", "c"])
    asked.kept(tmp_path).batch(frame(), ids=["x", "x", "y"])
    asked.kept(tmp_path).batch(frame(), ids=["x", "x", "y"])
    assert asked.calls.total() == 3
    assert "again" not in caplog.text
    asked.kept(tmp_path).batch(edited, ids=["x", "x", "y"])
    assert "1 of 3 rows were edited since run 'night' asked them" in caplog.text
    assert asked.calls.total() == 4


def test_map_table_on_a_loop_keeps_rows_by_the_ids_of_a_column(tmp_path: Path) -> None:
    asked = Asked()
    first = asked.kept(tmp_path).map_table(frame(), output="topic", ids=frame()["note"])
    moved = frame().iloc[::-1]
    again = asyncio.run(asked.kept(tmp_path).amap_table(moved, output="topic", ids=moved["note"]))
    assert list(first["topic"]) == list(again["topic"])[::-1] == ["about b", "about a", "about c"]
    assert asked.calls.total() == 3


@pytest.mark.parametrize("table", TABLES)
def test_an_answer_with_half_a_pair_of_surrogates_stands_in_every_table(table: Any) -> None:
    broken = Asked(lambda text: "half \ud83d" if text == "about a" else f"about {text}")
    broken.chain = PromptTemplate.from_template("about {text}") | RunnableLambda(broken._answer)
    labelled = broken.processor().map_table(table)
    answers = labelled["answer"].to_pylist() if isinstance(labelled, pa.Table) else list(labelled["answer"])
    assert answers[::2] == ["about about b", "about about c"]
    assert answers[1] in ("half \\ud83d", "half \ud83d"), "pandas below 3 can keep it as it is"
    with broken.processor().start(table) as run:
        assert run.to_polars()["output"].to_list()[1] == "half \\ud83d"


def test_a_name_with_half_a_pair_of_surrogates_stands_in_every_frame() -> None:
    with Asked().processor().start([{"text": "a", "k\ud83d": "v"}]) as run:
        frames = run.to_polars().to_dicts(), run.to_arrow().to_pylist(), run.to_pandas().to_dict("records")
    assert [rows[0]["k\\ud83d"] for rows in frames] == ["v", "v", "v"]


def test_a_dataset_takes_answers_of_several_types() -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}, {"text": "c"}])
    answers = {"a": 1, "b": "two", "c": {"three": 3}}
    labelled = Asked(answers.__getitem__).processor().map_table(table)
    assert list(labelled["answer"]) == ["1", "two", '{"three":3}']
    assert labelled.features["answer_error"].dtype == "string"


@pytest.mark.parametrize("output", [5, "", ("answer",)])
def test_a_column_of_answers_has_a_name_or_nothing_is_asked(output: Any) -> None:
    asked = Asked()
    with pytest.raises(ConfigError, match="say how the column of the answers is called"):
        asked.processor().map_table(frame(), output=output)
    assert not asked.calls


def test_a_column_that_the_chain_reads_is_not_written_over_and_nothing_is_asked() -> None:
    asked: list[Any] = []
    chain = PromptTemplate.from_template("{text}") | RunnableLambda(asked.append)
    with pytest.raises(ConfigError, match="the chain reads the column 'text'"):
        BatchProcessor(chain).map_table(frame(), output="text")
    assert asked == []
