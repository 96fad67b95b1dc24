"""What binds at a moment, from counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.observers.words.bottleneck import bound_by
from cottonpalm.observers.words.formatting import binds
from cottonpalm.request.limiter.rules.binding import Snapshot, binding
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.types import Bottleneck
from tests.support.sent import sent_at

if TYPE_CHECKING:
    from typing import Any

IDLE = Snapshot("host/idle", 10, 500, 3, 0, 0.0, False, "")
FULL = Snapshot("host/model", 40, 500, 40, 7, 0.0, False, "in flight")


def full(**other: Any) -> Snapshot:
    return FULL._replace(**other)


@pytest.mark.parametrize(
    ("rows", "unpaid", "standings", "busy", "what"),
    [
        ("", 0, [], False, ("", "")),
        ("", 0, [IDLE], False, ("", "")),
        ("concurrency", 0, [IDLE, FULL], False, ("concurrency", "host/model")),
        ("concurrency", 0, [FULL], True, ("cpu", "")),
        ("", 0, [IDLE], True, ("cpu", "")),
        ("concurrency", 0, [full(limit=500)], False, ("maximum", "host/model")),
        ("concurrency", 0, [full(held_by="tokens")], False, ("tokens", "host/model")),
        ("concurrency", 0, [full(held_by="tokens")], True, ("tokens", "host/model")),
        ("concurrency", 0, [full(held_by="own requests")], False, ("own requests", "host/model")),
        ("concurrency", 0, [full(pause_s=3.0, held_by="probe")], False, ("pause", "host/model")),
        ("concurrency", 0, [full(pause_s=3.0, down=True)], False, ("down", "host/model")),
        ("concurrency", 0, [full(waiting=0, pause_s=3.0)], False, ("concurrency", "")),
        ("concurrency", 0, [full(held_by="probe")], False, ("probe", "host/model")),
        ("concurrency", 5, [IDLE], False, ("budget", "")),
        ("concurrency", 5, [FULL], False, ("concurrency", "host/model")),
        ("reader", 5, [FULL], True, ("reader", "")),
        ("store", 0, [FULL], True, ("store", "")),
        ("held", 0, [FULL], False, ("held", "")),
        ("tail", 0, [IDLE], False, ("tail", "")),
        ("cap", 0, [IDLE], False, ("cap", "")),
    ],
)
def test_one_thing_binds(
    rows: Bottleneck, unpaid: int, standings: list[Snapshot], busy: bool, what: tuple[str, str]
) -> None:
    assert binding(rows, unpaid, standings, busy=busy) == what


def test_a_process_that_uses_a_core_binds_where_more_in_flight_would_not_help() -> None:
    assert binding("", 0, [IDLE], busy=False, hot=True) == ("cpu", "")
    assert binding("concurrency", 0, [FULL], busy=False, hot=True) == ("cpu", "")
    assert binding("concurrency", 0, [full(held_by="tokens")], busy=False, hot=True)[0] == "tokens"
    assert binding("concurrency", 9, [FULL], busy=False, hot=True) == ("budget", "")
    assert binding("source", 0, [IDLE], busy=False, hot=True) == ("source", "")


def test_of_two_models_the_one_with_the_longer_line_binds() -> None:
    other = full(key="host/other", waiting=FULL.waiting + 1, held_by="requests")
    assert binding("concurrency", 0, [FULL, other], busy=False) == ("requests", "host/other")


@pytest.mark.parametrize("what", [what for what in Bottleneck.__args__ if what])  # type: ignore[attr-defined]
def test_whatever_binds_has_words_that_fit_the_progress_line_and_a_sentence_for_the_report(
    what: Bottleneck,
) -> None:
    assert 4 <= len(binds(what, 59.0)) <= 30
    assert len(bound_by({what: 1.0}, 1.0, 0.0, 10.0)) == 1


def throughput_stands_still(limit: Concurrency, answers: int) -> None:
    """More in flight, each answered later, and no more of them per second."""
    now = 0.0
    for _ in range(answers):
        now += 0.01
        in_flight = int(limit.limit)
        sent = sent_at(now - 0.01 * in_flight, in_flight)
        sent.number = 1
        limit.answered(now, sent, in_flight)


def test_a_server_that_only_gets_slower_is_found_and_our_own_cpu_is_not_taken_for_one() -> None:
    server, ours = Concurrency(40), Concurrency(40)
    ours.own_work(binds=True)
    throughput_stands_still(server, 2_000)
    throughput_stands_still(ours, 2_000)
    assert server.knee.found
    assert (ours.starting, ours.limit) == (True, 40)


def test_the_search_goes_on_once_our_cpu_has_time_again() -> None:
    limit = Concurrency(40)
    limit.own_work(binds=True)
    throughput_stands_still(limit, 500)
    limit.own_work(binds=False)
    throughput_stands_still(limit, 8)
    assert limit.limit > 40
