"""Events as JSON lines: every kind, with the fields that the page documents, and nothing that a line cannot hold."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from cottonpalm import events
from cottonpalm.events import Event, RequestFinished, RowFinished, RunEnded, RunStarted
from cottonpalm.observers.event_lines import LONGEST, EventLines, as_lines
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage
from tests.report.stories import HOSTILE

pytestmark = pytest.mark.core
PAGE = Path(__file__).parents[2] / "docs" / "report.md"
KINDS = [
    cls
    for cls in vars(events).values()
    if isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
]
OUTCOME = Outcome(
    3, "failed", "secret answer", "id", ErrorRecord(Kind.REASK, "E", "m" * 9999), 2, Usage(5, 6), 7
)
VALUES = {"usage": Usage(1, 2, 3), "kind": Kind.THROTTLE, "outcome": OUTCOME, "index": 3, "key": "host/model"}


def example(kind: type[Event]) -> Event:
    return kind(**{each.name: VALUES.get(each.name, 1) for each in fields(kind)})


def documented() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text("utf-8").split("## Events")[1], re.M)
    return {name: re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", said)) for name, said in rows}


def test_every_event_is_documented_with_just_its_fields() -> None:
    found = {kind.__name__: list(json.loads(as_lines([(0.0, example(kind))])))[3:] for kind in KINDS}
    assert found == documented()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_one_line_of_plain_json(kind: type[Event]) -> None:
    file = io.BytesIO()
    file.close = lambda: None  # type: ignore[method-assign]  # to be looked at
    EventLines(file).see(example(kind))
    [line] = file.getvalue().splitlines()
    assert json.loads(line)["event"] == kind.__name__
    assert b"secret answer" not in line


def test_texts_are_cut_and_what_json_cannot_hold_is_replaced() -> None:
    said = json.loads(as_lines([(0.0, RowFinished(OUTCOME))]))
    assert len(said["error"]["message"]) == LONGEST
    assert said["usage"] == {"input_tokens": 5, "output_tokens": 6}
    for text in HOSTILE:
        line = as_lines([(0.0, RunStarted(text, None))])
        assert json.loads(line)["event"] == "RunStarted"
        assert line.count(b"\n") == 1
        assert not re.search(rb"[\x00-\x09\x0b-\x1f]", line)
        assert len(line) < 20 * LONGEST


def test_the_file_is_closed_with_the_run(tmp_path: Path) -> None:
    file = (tmp_path / "e.jsonl").open("wb")
    lines = EventLines(file)
    lines.see(RunStarted("r", 1))
    assert (tmp_path / "e.jsonl").read_bytes(), "whoever follows the file sees it at once"
    lines.see(RunEnded(None))
    assert file.closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_events_and_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    file = Path("/dev/full").open("wb")  # noqa: SIM115 - it closes it
    lines = EventLines(file)
    for event in (RunStarted("r", 1), RunStarted("r", 1), RunEnded(None)):
        lines.see(event)
    assert caplog.messages == ["events cannot be written (No space left on device): the run goes on without"]
    assert caplog.records[0].exc_info is None
    assert file.closed


@pytest.mark.parametrize("name", [each.name for each in fields(Usage)][2:])
def test_a_count_that_is_not_0_stands_in_the_lines_of_its_request_and_its_row(name: str) -> None:
    usage = Usage(5, 6, **{name: 7})
    for event in (
        RequestFinished(0, "h/m", 200, None, 0.1, usage),
        RowFinished(Outcome(0, "ok", usage=usage)),
    ):
        assert json.loads(as_lines([(0.0, event)]))["usage"] == {
            "input_tokens": 5,
            "output_tokens": 6,
            name: 7,
        }


@pytest.mark.parametrize("said", ["a,b", "100 %b", '"', ""])
def test_lines_that_are_written_at_once_are_what_each_is_alone(said: str) -> None:
    usage, at = Usage(5, 6), 1_750_000_000.9996
    told: list[tuple[float, Event]] = [
        (at, RequestFinished(0, f"h/{said}", 200, None, 0.1, usage)),
        (at, RowFinished(Outcome(0, "ok", id=said, usage=usage, cost_pico=3, model=said))),
        (at + 0.001, RunStarted(said, None)),
        (at - 1, RowFinished(Outcome(1, "ok", id=said, model=said))),
    ]
    lines = [json.loads(line) for line in as_lines(told).splitlines()]
    assert lines == [json.loads(as_lines([(at, event)])) for at, event in told]
    assert [line["at"] for line in lines] == [
        1_750_000_000.999,
        1_750_000_000.999,
        1_750_000_001.0,
        1_749_999_999.999,
    ]
    assert lines[1]["id"] == lines[1]["model"] == lines[2]["name"] == lines[3]["id"] == said
    assert lines[0]["key"] == f"h/{said}"
