"""Runs for pages to tell: a long one with all that can be shown, one with hostile rows, one of nothing."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log, log10
from random import Random
from typing import Final

from cottonpalm.observers.measures.reported import (
    BatchUse,
    Counts,
    ModelUse,
    Moment,
    Money,
    Repeats,
    SizeClass,
    Spread,
    StepUse,
    TopRow,
)
from cottonpalm.observers.measures.rows_seen import Glance, RowsSeen
from cottonpalm.observers.page.story import Story
from cottonpalm.types import Try, Usage
from tests.report.made import NOTHING, made

WALL_S: Final = 4800.0
BIDI: Final = "\u202eevil\u202c \u2066x\u2069"
HOSTILE: Final = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07 \r\n\x00\x08",
    f"{BIDI} \u0628\u0631\u0646\u0627\u0645\u062c",
    '=HYPERLINK("http://example.com?x="&A1) " onmouseover="window.harmed = 1',
    "]]></style></script><script>window.harmed = 1</script> ${x} {{x}} \ud800",
    "x" * 5_000_000,
)


TRIES: Final = (
    Try(0.4, 2.1, "503 throttle"),
    Try(10.5, 1.9, "429 throttle"),
    Try(31.0, 0.6, "500 transient"),
    Try(33.2, 4.0, ""),
    Try(37.2, 2.5, "400 fail_row"),
)


def spread(median: float, sigma: float, count: int, seed: int = 1) -> Spread:
    """Of log-normal values."""
    rng = Random(seed)
    values = sorted(rng.lognormvariate(log(median), sigma) for _ in range(min(count, 4000)))
    bars: dict[int, int] = {}
    for value in values:
        bar = ceil(20 * log10(value))
        bars[bar] = bars.get(bar, 0) + max(1, count // len(values))
    p50, p90, p95, p99 = (values[int(share * (len(values) - 1))] for share in (0.5, 0.9, 0.95, 0.99))
    mean = sum(values) / len(values)
    upper = tuple((10 ** (bar / 20), number) for bar, number in sorted(bars.items()))
    return Spread(count, mean * count, mean, p50, p90, p95, p99, values[-1], upper)


def _moment(n: int) -> Moment:
    at_s, rng = 40.0 * n, Random(n)
    if 2800 <= at_s < 3080:
        return Moment(at_s, 0.0, 1.0, 0.4, 0, 0.0, 4, {"down": 40.0})
    ramp = min(1.0, (at_s + 20) / 320)
    state = "concurrency" if at_s < 320 else "tail" if at_s >= 4760 else "tokens"
    bound = (
        {state: 40.0} | ({"own requests": 20.0} if n == 30 else {}) | ({"reader": 30.0} if n == 90 else {})
    )
    rate = (11.0 + rng.uniform(-0.8, 0.8)) * ramp
    return Moment(at_s, rate, 8 + 88 * ramp, 42 * ramp, int(rate * 26_000), rate * 0.017, n % 40 == 5, bound)


def long_story(name: str = "reviews-nov") -> Story:
    """Everything at once."""
    course = tuple(_moment(n) for n in range(120))
    bound = {
        state: sum(m.bound_s.get(state, 0.0) for m in course) for state in ("tokens", "down", "concurrency")
    }
    bound |= {"own requests": 20.0, "reader": 30.0, "tail": 40.0}
    report = made(
        48_000,
        WALL_S,
        counts=Counts(
            ok=47_588, failed=412, requests=49_725, retries=1_725, restarts=3, hedges=88, overtaken=71
        ),
        active_s=4500.0,
        row_latency_s=spread(3.1, 0.6, 48_000),
        request_latency_s=spread(2.2, 0.5, 49_725, 2),
        waits_s={"first": spread(0.44, 0.3, 49_000, 3), "permit": spread(0.71, 0.7, 48_000, 4)},
        over_time=course,
        errors={"reask": {"InvalidAnswer": 260}, "degrade": {"BadRequestError": 152}},
        usage=Usage(31_700_412, 4_902_118, 9_100_000),
        cost_usd=20.52,
        cost_per_row_usd=0.00043,
        by_model={
            "api.openai.com/gpt-4.1-mini": ModelUse(49_594, 1_600, 31_200_000, 4_850_000, 20.03),
            "api.anthropic.com/claude-haiku-4-5": ModelUse(131, 0, 500_412, 52_118, 0.49),
        },
        bound_by=("The provider's quota of tokens bound 87 % of the run.",),
        bound_s=bound,
        sizes=(SizeClass(512, 47_000, 150_000.0, 16.0), SizeClass(4096, 1_000, 9_000.0, 4.5)),
        repeats=Repeats(5_760, 2.46),
        steps=(
            StepUse("ChatOpenAI", 766, 1685.2),
            StepUse("look up the customer", 766, 344.7),
            StepUse("StrOutputParser", 766, 0.31),
        ),
        batch=BatchUse(18_240, 4.20),
        money=Money(20.11, 0.41, 0.84, 0.0, 25.0),
    )
    return Story(
        report,
        name,
        "some failed",
        models=("openai:gpt-4.1-mini",),
        began=1_795_698_120.0,
        ended=1_795_698_120.0 + WALL_S,
        total=48_000,
        rows=_rows(48_000),
        settings={"model": "openai:gpt-4.1-mini", "budget": "$25.00", "retries": "3", "input": "reviews.csv"},
        mend="cottonpalm retry reviews-nov",
    )


def _rows(number: int) -> RowsSeen:
    rng = Random(5)
    too_long = ("degrade", "BadRequestError", "Error code: 400 - {'code': 'context_length_exceeded'}")
    unfit = ("reask", "InvalidAnswer", "at label: 'mixed' is not one of ['positive', 'negative']")
    failed = dict.fromkeys(range(30_000, 30_152), too_long) | dict.fromkeys(range(0, 2600 * 10, 100), unfit)
    seen = RowsSeen().add(
        Glance(at, rng.lognormvariate(1.1, 0.6), int(rng.lognormvariate(20, 0.5)), 700, 1, failed.get(at))
        for at in range(number)
    )
    seen.tries = {at: TRIES[:2] if n % 2 else TRIES for n, at in enumerate(sorted(seen.shown))}
    texts = ("Long thread about a refund, with no answer until the third week of it", "Works well.")
    seen.texts = {at: texts[n % 2] for n, at in enumerate(sorted(seen.shown))}
    return seen


def other_story() -> Story:
    """The same rows, faster and with a cache."""
    story = long_story("reviews-nov-2")
    course = tuple(
        replace(m, at_s=m.at_s / 2, rows_per_s=2 * m.rows_per_s, bound_s={"concurrency": 20.0})
        for m in story.report.over_time
    )
    report = replace(
        story.report,
        wall_s=WALL_S / 2,
        rows_per_s=20.0,
        over_time=course,
        bound_s={"concurrency": 2000.0, "cpu": 100.0},
        row_latency_s=spread(2.3, 0.5, 48_000),
        counts=replace(story.report.counts, cached=5_760, cache_misses=42_240, requests=43_102),
    )
    return replace(story, report=report, settings={**story.settings, "cache": "on"})


def lasting(wall_s: float) -> Story:
    """The long run in another time."""
    story, by = long_story(), wall_s / WALL_S
    report = story.report

    def slower(spread: Spread) -> Spread:
        bars = tuple((upper * by, number) for upper, number in spread.bars)
        seconds = ("total", "mean", "p50", "p90", "p95", "p99", "max")
        return replace(spread, bars=bars, **{name: getattr(spread, name) * by for name in seconds})

    course = tuple(
        replace(
            m,
            at_s=m.at_s * by,
            rows_per_s=m.rows_per_s / by,
            bound_s={state: seconds * by for state, seconds in m.bound_s.items()},
        )
        for m in report.over_time
    )
    report = replace(
        report,
        wall_s=wall_s,
        active_s=report.active_s * by,
        rows_per_s=report.rows_per_s / by,
        over_time=course,
        row_latency_s=slower(report.row_latency_s),
        request_latency_s=slower(report.request_latency_s),
        waits_s={name: slower(spread) for name, spread in report.waits_s.items()},
        bound_s={state: seconds * by for state, seconds in report.bound_s.items()},
    )
    return replace(story, report=report, ended=(story.began or 0.0) + wall_s)


def hostile_story() -> Story:
    """Names, models, errors, inputs and settings that want to do harm."""
    bad = HOSTILE[0]
    seen = RowsSeen().add(
        Glance(at, 1.0 + at, 10**9 + at, 10, 1, ("reask", bad, text) if at % 2 else None)
        for at, text in enumerate(HOSTILE * 2)
    )
    seen.texts = {at: HOSTILE[at % len(HOSTILE)] for at in seen.shown}
    seen.tries = {at: (Try(0.0, 1.0, HOSTILE[at % len(HOSTILE)]), Try(9.0, 1.0, "")) for at in seen.shown}
    report = made(
        12,
        60.0,
        row_latency_s=Spread(12, 78.0, 6.5, 6.5, 11, 12, 12, 12.0, ((10.0, 9), (12.6, 3))),
        errors={bad: {bad: 3}},
        by_model={f"{bad}/{HOSTILE[1]}": ModelUse(12, 1, 5, 5, 0.1)},
        slowest=(TopRow(1, bad, 3.0),),
        steps=(StepUse(bad, 1, 1.0), StepUse(HOSTILE[2], 1, 1.0)),
        bound_by=(bad,),
        bound_s={bad: 30.0},
        over_time=tuple(Moment(n, 1.0, 5, 3, 1, 0.1, 1, {bad: 1.0}) for n in range(60)),
    )
    settings = {HOSTILE[3]: HOSTILE[2], "prompt": bad, "long": HOSTILE[5]}
    return Story(
        report, bad, "stopped", bad, (bad, BIDI), 0.0, 60.0, 12, seen, settings, f"cottonpalm retry {bad}"
    )


def empty_story() -> Story:
    """A run that did nothing at all."""
    return Story(NOTHING)
