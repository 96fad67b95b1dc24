"""Rows of a run: searched by status and text, a page at a time; and one of them with all that is stored of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cottonpalm.live.frame import place, state
from cottonpalm.live.reading import ROWS, text_of
from cottonpalm.observers.page.markup import Markup, foreign, join, kept, sentence, tag
from cottonpalm.observers.page.parts import Column, table
from cottonpalm.observers.page.rows import KINDS
from cottonpalm.observers.page.tries import timeline
from cottonpalm.observers.words.excerpt import excerpt
from cottonpalm.observers.words.formatting import clean, count, duration, harmless, money, told

if TYPE_CHECKING:
    from cottonpalm.live.reading import Page, Query, Standing
    from cottonpalm.observers.page.markup import Part
    from cottonpalm.types import Outcome

LONG: Final = 20_000  # characters of a text that are shown at once
LEDE: Final = 600  # characters of an error that stand at the head of its row
_COLUMNS: Final = [
    Column("row", number=True),
    Column("status"),
    Column("input", class_="excerpt"),
    Column("answer, or why not", class_="excerpt"),
    Column("took", number=True),
]


def view(each: Standing, query: Query, found: Page) -> list[Markup]:
    """The search and what it found."""
    run = each.info.name
    return [
        tag("header", tag("h1", sentence(_title(each, query)))),
        _search(each, query),
        _table(run, query, found),
        _pager(run, query, found),
        tag("aside", "", id="drawer", hidden=True, aria_label="One row"),
    ]


def _title(each: Standing, query: Query) -> str:
    number = {"all": each.ok + each.failed, "ok": each.ok, "failed": each.failed}[query.status]
    word = {"all": "row", "ok": "answered row", "failed": "failed row"}[query.status]
    said = count(number, word)
    if query.status != "all":
        said += f" of {each.ok + each.failed:,}"
    return f"\u201c{clean(query.text, 40)}\u201d, searched for in {said}" if query.text else said


def _search(each: Standing, query: Query) -> Markup:
    run = each.info.name
    hidden = [
        tag("input", type_="hidden", name_=name, value=value)
        for name, value in (("run", run), ("status", query.status))
    ]
    field = tag(
        "input",
        type_="search",
        name_="text",
        id="text",
        value=query.text or None,
        placeholder="Search in input, answer and error",
        aria_label="Search in input, answer and error",
        maxlength="200",
        autocomplete="off",
    )
    numbers = {"all": each.ok + each.failed, "ok": each.ok, "failed": each.failed}
    chips = [
        tag(
            "a",
            state(name) if name != "all" else tag("b", "all"),
            f" {number:,}",
            href=place("rows", run, status=name, text=query.text),
            class_="chip",
            aria_current="true" if name == query.status else None,
        )
        for name, number in numbers.items()
    ]
    form = tag(
        "form", *hidden, field, tag("button", "Search"), method="get", action="/rows", class_="joined search"
    )
    return tag("div", form, *chips, class_="controls")


def _table(run: str, query: Query, found: Page) -> Markup:
    if not found.rows:
        said = (
            "Nothing so far." if found.through is not None else "No row holds it." if query.text else "None."
        )
        return tag("p", said, class_="none found")
    return table(_COLUMNS, [_line(run, query, row) for row in found.rows], class_="rows found blocks")


def _line(run: str, query: Query, row: Outcome) -> list[Part]:
    link = place("row", run, at=row.index, status=query.status, text=query.text)
    said = text_of(row.output) if row.error is None else told(row.error)
    why = f"{row.error.kind}: {said}" if row.error is not None else said
    return [
        tag("a", f"{row.index + 1:,}", href=link, data_row=str(row.index)),
        state("ok" if row.error is None else "failed"),
        foreign(excerpt(row.input, row.id), name="div"),
        foreign(why, name="div"),
        kept(duration(row.latency_s)),
    ]


def _pager(run: str, query: Query, found: Page) -> Markup:
    rows = found.rows
    said = f"rows {rows[0].index + 1:,} to {rows[-1].index + 1:,}" if rows else ""
    if found.through is not None:
        said = f"Looked at the rows {'from' if query.before is not None else 'up to'} {found.through + 1:,}."
    links: list[Part] = []
    filters = {"status": query.status, "text": query.text}
    if found.earlier:
        edge = rows[0].index if rows and found.through is None else found.through
        edge = query.after + 1 if edge is None and query.after is not None else edge
        links.append(
            tag("a", "Earlier", href=place("rows", run, **filters, before=edge), rel="prev", class_="button")
        )
    later = found.later or (found.through is not None and query.before is None)
    if later:
        edge = rows[-1].index if rows and found.through is None else found.through
        edge = query.before - 1 if edge is None and query.before is not None else edge
        word = "Go on" if found.through is not None else "Later"
        links.append(
            tag("a", word, href=place("rows", run, **filters, after=edge), rel="next", class_="button")
        )
    return tag(
        "p", tag("span", said, class_="note"), tag("span", *links), class_="pager", data_page=str(ROWS)
    )


# -- one row


def _name(row: Outcome) -> Markup:
    return tag("h2", f"Row {row.index + 1:,} ", tag("small", f"index {row.index}"))


def row_view(each: Standing, row: Outcome, query: Query, *, whole: bool) -> Markup:
    """All that is stored of one row."""
    run = each.info.name
    more = place("row", run, at=row.index, whole=1, status=query.status, text=query.text)
    close = tag(
        "a",
        "Close",
        href=place("rows", run, status=query.status, text=query.text),
        class_="button",
        data_close="",
    )
    return tag(
        "article",
        tag("div", _name(row), close, class_="row-head"),
        tag(
            "p",
            state("ok" if row.error is None else "failed"),
            " ",
            sentence(_how(row)),
            class_="how-it-went",
        ),
        tag("p", foreign(told(row.error), LEDE), class_="lede") if row.error is not None else None,
        _attempts(row),
        *_tries(row),
        *_texts(row, more, whole=whole),
        class_="one-row",
    )


def _how(row: Outcome) -> str:
    parts = [f"after {duration(row.latency_s)}"]
    parts.append("from the cache" if row.cached else count(row.attempts, "request"))
    if row.cost_pico is not None:
        parts.append(money(row.cost_pico))
    return ", ".join(parts)


def _attempts(row: Outcome) -> Markup:
    """How often it was asked, and what that used."""
    rows: list[tuple[str, Part]] = [("requests", f"{row.attempts:,}"), *_fault(row)]
    if row.usage is not None:
        rows.append(("tokens", f"{row.usage.input_tokens:,} in, {row.usage.output_tokens:,} out"))
    if row.cost_pico is not None:
        estimated = ", estimated" if row.cost_source == "estimated" else ""
        rows.append(("cost", f"{money(row.cost_pico)}{estimated}"))
    texts = {"model": row.model, "id": row.id, "lane": None if row.lane == "live" else row.lane}
    rows += [(name, foreign(str(value), 200)) for name, value in texts.items() if value is not None]
    if row.truncated:
        rows.append(("answer", "cut by the model's limit"))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="facts")


def _tries(row: Outcome) -> list[Markup]:
    """What each try of a failed row met, and how long it waited."""
    if row.error is None or not row.error.tries:
        return []
    return [tag("h3", "Tries"), timeline(row.error.tries, row.attempts)]


def _fault(row: Outcome) -> list[tuple[str, Part]]:
    """What kind of failure it was, and whether another try may help."""
    if (error := row.error) is None:
        return []
    kind = error.kind.value
    rows: list[tuple[str, Part]] = [
        ("kind", join((tag("code", kind), f" {KINDS.get(kind, '')}"))),
        ("asked again", "may work" if error.retryable else "will most likely fail again"),
    ]
    if error.where is not None:
        rows.append(("in your code", foreign(error.where, 300, class_="mono")))
    return rows


def _texts(row: Outcome, more: str, *, whole: bool) -> list[Markup]:
    found: list[tuple[str, object]] = [("Answer", row.output), ("Input", row.input)]
    if row.error is not None and (len(said := told(row.error)) > LEDE or "\n" in said):
        found.append(("Error", said))  # else it stands above as it is
    parts: list[Markup] = []
    for title, value in found:
        if value is None:
            continue
        text = text_of(value)
        cut = text if whole else text[:LONG]
        shown = tag("pre", visible(cut), dir="auto", tabindex="0")
        link = tag("a", f"Show all {len(text):,} characters", href=more) if len(cut) < len(text) else None
        parts.append(tag("div", tag("h3", title), shown, tag("p", link) if link else None))
    return parts


def visible(text: str) -> str:
    """With its lines and tabs, and with nothing in it that hides or reorders the rest."""
    parts = re.split(r"(\r?\n|\t)", text)
    return "".join(part if at % 2 else harmless(part, joined=True) for at, part in enumerate(parts))
