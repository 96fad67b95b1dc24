"""What another version of cottonpalm has stored is read as far as it is understood, or refused in words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cottonpalm.cli.files.output_file import Mark
from cottonpalm.cli.options.spec import RunSpec
from cottonpalm.cli.problems import Problem
from cottonpalm.shell import JOB
from cottonpalm.stores.codec.records import ERROR, USAGE, pack, unpack
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage

pytestmark = pytest.mark.core


def spec() -> RunSpec:
    return RunSpec(input="/in.jsonl", output="/out.jsonl", folder="/", model="openai:gpt-4o-mini", retries=5)


def test_a_stored_job_with_options_of_a_later_version_is_read_without_them() -> None:
    meta = spec().as_json()
    meta[JOB] |= {"hedge": False, "lane": {"mode": "batch"}}
    assert RunSpec.of(meta, "one") == spec()


def test_one_of_an_earlier_version_has_the_defaults_of_what_it_lacks() -> None:
    meta = spec().as_json()
    for name in ("version", "unkept", "guard_formulas", "retries"):
        del meta[JOB][name]
    assert RunSpec.of(meta, "one").retries == 3


@pytest.mark.parametrize("version", [99, "two"])
def test_one_in_a_form_that_would_be_misunderstood_is_refused_in_words(version: Any) -> None:
    meta = spec().as_json()
    meta[JOB]["version"] = version
    with pytest.raises(Problem, match="run one was made by a later version of cottonpalm; update this one"):
        RunSpec.of(meta, "one")


def test_what_a_run_knows_of_its_output_may_hold_more() -> None:
    kept = {"path": "/out.jsonl", "size": 7, "sequence": 12}
    assert Mark.of({"output /out.jsonl": kept}, "/out.jsonl") == Mark("/out.jsonl", 7)


def test_a_stored_row_may_hold_more_counts_words_and_kinds() -> None:
    error = ErrorRecord(Kind.TRANSIENT, "ConnectionError", "reset", retryable=True)
    stored = orjson.loads(
        pack(Outcome(0, "failed", error=error, usage=Usage(3, 4)), keep_input=False, types={})
    )
    stored[USAGE] = [*stored[USAGE], *range(50)]
    stored[ERROR] = [*stored[ERROR], "more"]
    back = unpack(orjson.dumps({**stored, "zz": 1}), 0, {})
    assert back.error == error
    assert back.usage is not None
    assert back.usage.input_tokens == 3
    stored[ERROR][0] = "hedged"
    later = unpack(orjson.dumps(stored), 0, {}).error
    assert later is not None
    assert later.kind is Kind.FAIL_ROW


def test_a_record_that_says_only_its_output_has_the_defaults_of_all_the_rest() -> None:
    assert unpack(b'{"o":"yes"}', 4, {}) == Outcome(4, "ok", "yes")
    back = unpack(b'{"o":"yes"}', 4, {})
    assert (back.attempts, back.latency_s, back.usage, back.cost_pico, back.model) == (
        0,
        0.0,
        None,
        None,
        None,
    )
    assert (back.cached, back.truncated, back.lane, back.id, back.input) == (False, False, "live", None, None)


def test_what_differs_from_the_defaults_comes_back_and_what_does_not_takes_no_space() -> None:
    plain = Outcome(0, "ok", "yes", attempts=1, latency_s=0.5)
    assert set(orjson.loads(pack(plain, keep_input=False, types={}))) == {"o", "a", "l"}
    full = Outcome(
        0,
        "ok",
        "yes",
        id="row-1",
        attempts=3,
        usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
        cost_pico=7,
        cost_source="estimated",
        latency_s=1.5,
        cached=True,
        lane="batch",
        model="m-1",
        truncated=True,
        input={"x": 1},
    )
    assert unpack(pack(full, keep_input=True, types={}), 0, {}) == full
