"""The state table of a batch, without anything that happens: what is next, and what a listing tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.lines import BatchState, Phase
from cottonpalm.providers.batches.stages import (
    CLOCKS_DIFFER_S,
    FINAL,
    Batch,
    Stage,
    Step,
    after_absence,
    lost_by,
    next_step,
    ours,
    search,
    surely_absent,
    with_state,
)

LANE = Lane("anthropic", "https://api.anthropic.com", "/v1", "/v1/messages", "claude")
SENT_AT = 1_790_000_000.0
CREATING = Batch("0af3b1c2d4e5", LANE, Stage.CREATING, 10, sent_at=SENT_AT)


@pytest.mark.parametrize("uploads", [True, False])
@pytest.mark.parametrize("file_here", [True, False])
@pytest.mark.parametrize(
    ("stage", "step"),
    [
        (Stage.UPLOADED, "create"),
        (Stage.CREATING, "find"),
        (Stage.SUBMITTED, "look"),
        (Stage.ENDED, "collect"),
        (Stage.COLLECTED, "nothing"),
        (Stage.LOST, "nothing"),
        (Stage.ABANDONED, "nothing"),
    ],
)
def test_what_is_next_follows_from_the_stage_alone(
    stage: Stage, step: Step, file_here: bool, uploads: bool
) -> None:
    assert next_step(replace(CREATING, stage=stage), file_here=file_here, uploads=uploads) == step


@pytest.mark.parametrize(
    ("file_here", "uploads", "step"),
    [(True, True, "upload"), (True, False, "create"), (False, True, "abandon"), (False, False, "abandon")],
)
def test_an_intent_of_a_dead_process_is_given_up_for_it_cost_nothing(
    file_here: bool, uploads: bool, step: Step
) -> None:
    assert next_step(replace(CREATING, stage=Stage.INTENT), file_here=file_here, uploads=uploads) == step


@pytest.mark.parametrize(
    ("file_here", "uploads", "step"),
    [(True, True, "create"), (False, True, "create"), (True, False, "create"), (False, False, "abandon")],
)
def test_what_is_surely_not_there_is_sent_again_where_its_lines_still_are(
    file_here: bool, uploads: bool, step: Step
) -> None:
    assert after_absence(file_here=file_here, uploads=uploads) == step


@pytest.mark.parametrize("stage", [Stage.INTENT, Stage.UPLOADED])
def test_what_was_cancelled_before_it_was_sent_is_never_sent(stage: Stage) -> None:
    batch = replace(CREATING, stage=stage, cancelling=True)
    assert next_step(batch, file_here=True, uploads=True) == "abandon"


def test_what_may_cost_money_is_out_and_what_is_over_is_not() -> None:
    out = {stage for stage in Stage if replace(CREATING, stage=stage).out}
    assert out == {Stage.CREATING, Stage.SUBMITTED, Stage.ENDED}
    assert {stage for stage in Stage if replace(CREATING, stage=stage).over} == FINAL
    assert not out & FINAL


def listed(**more: object) -> BatchState:
    given = {"batch_id": "b1", "phase": Phase.IN_PROGRESS, "rows": 10, "created_at": SENT_AT + 1} | more
    return BatchState(**given)  # type: ignore[arg-type]


def test_a_batch_with_our_tag_is_ours_whatever_its_age_and_count() -> None:
    state = listed(tag=CREATING.tag, rows=None, created_at=None)
    found = search(CREATING, [listed(tag="other"), state], known={"b1": True})
    assert (found.found, found.proven) == (state, True)


def test_a_batch_made_of_our_file_is_ours() -> None:
    batch = replace(CREATING, input_file_id="file-1")
    assert search(batch, [listed(input_file_id="file-1")], {}) == (listed(input_file_id="file-1"), True)


def test_where_there_is_a_file_nothing_is_found_by_time_and_count() -> None:
    batch = replace(CREATING, input_file_id="file-1")
    assert search(batch, [listed(input_file_id="file-2"), listed()], {}).found is None


def test_without_tag_and_file_time_count_and_what_is_known_tell_and_prove_nothing() -> None:
    assert search(CREATING, [listed()], {}) == (listed(), False)
    assert search(CREATING, [listed(rows=11)], {}).found is None
    assert search(CREATING, [listed(created_at=SENT_AT - CLOCKS_DIFFER_S - 1)], {}).found is None
    assert search(CREATING, [listed()], known={"b1": True}).found is None
    assert search(CREATING, [listed(), listed(batch_id="b2")], known={"b1": False}).found == listed(
        batch_id="b2"
    )
    assert search(CREATING, [listed()], known={"b1": False}) == (
        listed(),
        False,
    )  # taken by a guess, perhaps wrongly
    assert search(replace(CREATING, strangers=("b1",)), [listed()], {}).found is None
    assert search(CREATING, [listed(tag="of another program")], {}).found is None


def test_of_several_that_look_alike_the_oldest_is_tried_first() -> None:
    old, new = listed(batch_id="b1"), listed(batch_id="b2", created_at=SENT_AT + 9)
    assert search(CREATING, [new, old], {}).found == old
    assert search(CREATING, [listed(), listed(batch_id="b2")], known={"b1": False}).found == listed(
        batch_id="b2"
    )
    assert search(CREATING, [listed()], known={"b1": False}) == (
        listed(),
        False,
    )  # taken by a guess, perhaps wrongly
    assert search(replace(CREATING, strangers=("b1",)), [new, old], {}).found == new


def test_a_second_batch_of_the_same_submission_is_seen() -> None:
    states = [
        listed(batch_id=name, tag=CREATING.tag, created_at=SENT_AT + at)
        for at, name in ((9, "b2"), (1, "b1"))
    ]
    assert [state.batch_id for state in ours(CREATING, states)] == ["b1", "b2"]


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_listing_is_believed_only_after_the_whole_wait(passed: float, wait_s: float) -> None:
    assert surely_absent(0.0, passed, wait_s) == (passed >= wait_s)


def test_a_state_of_the_provider_brings_the_batch_to_the_stage_it_tells() -> None:
    assert with_state(CREATING, listed()).stage is Stage.SUBMITTED
    ended = with_state(CREATING, listed(phase=Phase.EXPIRED, ended_at=5.0))
    assert (ended.stage, ended.batch_id, ended.ended_at) == (Stage.ENDED, "b1", 5.0)


@pytest.mark.parametrize(
    ("stage", "phase", "lost"),
    [
        (Stage.COLLECTED, Phase.COMPLETED, "missing"),
        (Stage.COLLECTED, Phase.EXPIRED, "expired"),
        (Stage.LOST, Phase.CANCELLED, "cancelled"),
        (Stage.ABANDONED, None, "cancelled"),
        (Stage.LOST, None, "failed"),
    ],
)
def test_a_line_without_a_result_is_lost_for_the_reason_that_its_batch_ended_for(
    stage: Stage, phase: Phase | None, lost: str
) -> None:
    state = None if phase is None else listed(phase=phase)
    assert lost_by(replace(CREATING, stage=stage, state=state)) == lost
