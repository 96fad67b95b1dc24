"""Why it is believed that something binds, in words."""

from __future__ import annotations

from random import Random

import pytest

from cottonpalm.observers.words.bottleneck import bound_by
from cottonpalm.request.limiter.rules.admission import Admission
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.reasons import why
from cottonpalm.request.limiter.rules.shown import WINDOW
from cottonpalm.types import Quota, Usage
from tests.support.sent import sent_at


def limits(**more: float) -> Admission:
    return Admission(Concurrency(10), list(more.items()))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rate", "rejections", "said"),
    [
        (40.4, 3, "requests per second: about 40, found from 3 rejections"),
        (1234.0, 1, "requests per second: about 1,200, found from 1 rejection"),
        (2.34, 2, "requests per second: about 2.3, found from 2 rejections"),
        (0.2, 2, "requests per minute: about 12, found from 2 rejections"),
        (0.01, 2, "requests per minute: about 0.6, found from 2 rejections"),
        (5.0, 0, "requests per second: about 5.0, found in an earlier run"),
    ],
)
def test_a_rate_is_told_in_the_unit_in_which_it_is_a_number(rate: float, rejections: int, said: str) -> None:
    known = limits()
    known.bucket.rate, known.bucket.rejections = rate, rejections
    assert why(known, "pace") == said


def test_a_rate_of_tokens_is_told_in_tokens() -> None:
    known = limits()
    known.bucket.rate, known.bucket.rejections, known.heavy, known.usual_ask = 2.0, 4, 3.0, 500.0
    assert why(known, "pace") == "tokens per second: about 1,000, found from 4 rejections"


def test_a_number_in_flight_is_told_with_its_rejections_or_as_one_that_grows() -> None:
    known = limits()
    assert why(known, "in flight") == "requests in flight: 10, and more as long as they are taken"
    known.concurrency.rejected(9, 0.0, 1.0)
    known.concurrency.fewer()
    assert why(known, "in flight") == "requests in flight: 7 fit, found from 2 rejections"
    known.concurrency.restart(7.0)
    assert "rejection" not in why(known, "in flight")
    known.concurrency.drowned(0.0, 5.0)
    assert why(known, "in flight") == "requests in flight: 5, as with more each takes longer"
    shared = limits()
    shared.moved(6.0, firm=True)
    assert why(shared, "in flight").endswith("fit, found in an earlier run, or by another process")
    most = limits().concurrency.maximum
    assert why(limits(), "in flight", 2) == (
        f"2 of the {most:,.0f} that you allow, as other runs on this store have the rest"
    )


def test_ones_own_ceiling_is_told_with_the_size_of_a_request() -> None:
    known = limits(requests=90.0, tokens=60_000.0)
    assert why(known, "own requests") == "your ceiling: 90 requests a minute"
    assert why(known, "own tokens") == "your ceiling: 60,000 tokens a minute"
    sent = sent_at(0.0, 1, 1_200.0)
    known.sent(sent)
    known.answered(1.0, sent, 0, Usage(150, 100))
    assert why(known, "own tokens") == "your ceiling: 60,000 tokens a minute, about 250 for each request"
    assert known.allowed_per_s == pytest.approx(1.5)


def shows(known: Admission, left: float, at_s: float) -> None:
    sent = sent_at(at_s, 1, 10.0)
    known.look()
    known.sent(sent)
    known.heard(sent, [Quota("requests", 60.0, left, 30.0)])
    known.answered(at_s + 0.1, sent, 0, Usage(5, 5))


def test_headers_that_predict_are_the_reason_and_others_are_told_to_be_of_no_use() -> None:
    true, false, rng = limits(), limits(), Random(5)
    for second in range(40):
        shows(true, 60.0 - second, second / 100)
        shows(false, rng.uniform(1.0, 59.0), second / 100)
    assert why(true, "requests").startswith("requests")
    assert "as the headers show" in why(true, "requests")
    assert why(false, "in flight").endswith("; the headers do not fit: not used")
    assert "headers" not in why(true, "in flight")


def test_a_report_says_what_bound_and_why() -> None:
    found = bound_by({"pace": 80.0}, 100.0, 1.0, 40.0, {"pace": "requests per second: about 40"})
    assert found[0].endswith("bound 80 % of the run (requests per second: about 40).")


def test_a_first_pace_is_told_as_one_that_grows() -> None:
    known = limits()
    assert why(known, "pace") == "more and more are sent, evenly spaced, as nobody knows yet how many fit"
    known.refusals.took(0.1)
    assert why(known, "pace") == "more and more are sent, evenly spaced, after 1 rejection"
    assert why(known, "probe") == "one request asks whether more are taken, after 1 rejection"
    known.recovery.dead = True
    assert why(known, "probe") == "one request asks whether it works again", "nothing was rejected"
    assert why(known, "") == ""


def test_one_in_a_second_is_told_by_the_second() -> None:
    known = limits()
    known.bucket.rate, known.bucket.rejections = 1.0, 2
    assert why(known, "pace") == "requests per second: about 1.0, found from 2 rejections"


def test_a_quota_that_comes_back_all_at_once_is_told_as_a_window() -> None:
    known = limits()
    shows(known, 60.0, 0.0)
    known.quotas.shown["requests"].way = WINDOW
    assert why(known, "requests") == "requests: 60 until a window ends, as the headers show"


def test_ten_and_more_are_told_without_a_fraction_and_a_doubt_about_tokens_is_none_yet() -> None:
    known = limits()
    known.bucket.rate, known.bucket.rejections, known.heavy, known.usual_ask = 10.4, 2, 2.0, 500.0
    assert why(known, "pace") == "requests per second: about 10, found from 2 rejections"
