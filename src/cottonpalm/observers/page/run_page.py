"""The page of one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from cottonpalm.observers.page.document import document, json_link
from cottonpalm.observers.page.head import advice, clock_time, figures, head
from cottonpalm.observers.page.markup import Markup, foreign, kept, tag
from cottonpalm.observers.page.money import money
from cottonpalm.observers.page.over_time import over_time
from cottonpalm.observers.page.parts import pairs, section
from cottonpalm.observers.page.rows import failed, outstanding
from cottonpalm.observers.page.spread import latency
from cottonpalm.observers.page.steps import steps
from cottonpalm.observers.words.formatting import clean
from cottonpalm.observers.words.numbers import amount, money_usd, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.observers.page.story import Story


def page_of(story: Story, *, written: float | None = None) -> str:
    """One self-contained HTML file.

    Args:
        story: the run.
        written: Unix seconds, to be said at the foot.
    """
    report = story.report
    data = json_link(orjson.dumps(asdict(report)))
    title = f"{clean(story.name, 60)}: report" if story.name else "Report of a run"
    return document(
        title,
        head(story, data),
        figures(story),
        advice(story),
        over_time(report),
        latency(report),
        steps(report),
        money(report),
        failed(story),
        outstanding(story),
        _small_sections(report),
        _small_print(story),
        _foot(story, written),
    )


def _small_sections(report: Reported) -> Markup | None:
    """The cache, what was asked again, and what was asked twice."""
    parts = [part for part in (_cache(report), _again(report), _hedges(report)) if part is not None]
    return tag("div", *parts, class_="thirds") if parts else None


def _cache(report: Reported) -> Markup | None:
    counts, repeats = report.counts, report.repeats
    if not counts.cached and not counts.cache_misses and not repeats.rows:
        return None
    on = bool(counts.cached or counts.cache_misses)
    rows: list[tuple[str, Part]] = [("state", "on" if on else "off")]
    if on:
        asked = counts.cached + counts.cache_misses
        share = f" ({kept(percent(counts.cached / asked))})" if asked else ""
        saved = report.money.saved_usd
        rows += [
            ("answered by it", f"{counts.cached:,}{share}"),
            ("joined a call in flight", f"{counts.coalesced:,}"),
            ("asked", f"{counts.cache_misses:,}"),
            ("saved", "not known" if saved is None else money_usd(saved)),
        ]
    if repeats.rows:
        about = "" if repeats.exact else "about "
        rows += [
            ("equal rows that were asked", f"{about}{repeats.rows:,}"),
            ("what they cost", about + money_usd(repeats.cost_usd)),
        ]
    return section("Cache", "", pairs(rows))


def _again(report: Reported) -> Markup | None:
    counts = report.counts
    if not counts.requests:
        return None
    rows: list[tuple[str, Part]] = [
        ("requests", f"{counts.requests:,}"),
        ("tries that failed", f"{sum(used.failed for used in report.by_model.values()):,}"),
        ("retries", f"{counts.retries:,}"),
    ]
    if counts.restarts:
        rows.append(("streams that began again", f"{counts.restarts:,}"))
    usage = report.usage
    rows += _prompts(report)
    if usage.reasoning_tokens:
        rows.append(("reasoning tokens", kept(amount(usage.reasoning_tokens))))
    return section("Requests", "", pairs(rows))


def _hedges(report: Reported) -> Markup | None:
    """Copies of requests that were far later than their kind."""
    counts = report.counts
    if not counts.hedges:
        return None
    rows: list[tuple[str, Part]] = [
        ("copies of late requests", f"{counts.hedges:,} ({kept(percent(counts.hedges / counts.requests))})"),
        ("answered before the request", f"{counts.overtaken:,}"),
    ]
    return section("Hedges", "", pairs(rows))


def _prompts(report: Reported) -> Iterator[tuple[str, Part]]:
    """What prompts had in common, and what the provider's cache made of it."""
    usage, uses = report.usage, report.prompts.values()
    if usage.cache_read_tokens:
        yield "tokens from the prompt cache", kept(amount(usage.cache_read_tokens))
    if usage.cache_write_tokens:
        yield "tokens written to it", kept(amount(usage.cache_write_tokens))
    if saved_usd := sum(use.saved_usd for use in uses):
        yield "it saved", ("-" if saved_usd < 0 else "") + money_usd(abs(saved_usd))
    if shared := max((use.shared for use in uses), default=0):
        yield "tokens the same in every prompt", f"{shared:,}"


def _small_print(story: Story) -> Markup | None:
    if not story.settings:
        return None
    rows: list[tuple[str, Part]] = [(name, foreign(value, 120)) for name, value in story.settings.items()]
    return section("Small print", "", pairs(rows), class_="small-print")


def _foot(story: Story, written: float | None) -> Markup:
    said = f"cottonpalm report {clean(story.name, 60)}" if story.name else "cottonpalm"
    when = f" \u00b7 written {clock_time(written)}" if written is not None else ""
    return tag("footer", tag("span", f"{said}{when}"), tag("span", "Times are UTC."))
