"""The display of a run while it goes: seven lines on a terminal, one in a log. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from cottonpalm.observers.measures.funds import at_the_end
from cottonpalm.observers.words.formatting import clean, duration, money, rate
from cottonpalm.observers.words.numbers import money_usd, roughly
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cottonpalm.observers.measures.pace import Left
    from cottonpalm.observers.terminal.coming import Coming

LABEL: Final = 9  # columns before what a line says
BAR: Final = 40  # at most, of the rows
BUDGET_BAR: Final = 15
LEAST_BAR: Final = 8
SPARKS: Final = "▁▂▃▄▅▆▇█"
ERRORS: Final = 2  # distinct ones that are shown


class ShownFault(NamedTuple):
    """An error that is shown: its latest row, and how many were like it before."""

    row: int
    kind: str
    said: str
    like_it: int = 0


class Faults:
    """Failed rows: how many of each kind, and the last distinct ones, the latest first. Read from any thread."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.last: tuple[ShownFault, ...] = ()

    def add(self, row: int, kind: str, said: str) -> None:
        """One more row failed."""
        said = clean(said)
        like_it = next((f.like_it + 1 for f in self.last if (f.kind, f.said) == (kind, said)), 0)
        others = [fault for fault in self.last if (fault.kind, fault.said) != (kind, said)]
        self.last = (ShownFault(row, kind, said, like_it), *others)[:ERRORS]
        self.kinds = {**self.kinds, kind: self.kinds.get(kind, 0) + 1}  # a new one: others may be reading


@dataclass(frozen=True, slots=True)
class Numbers:
    """One moment of a run. Money is in dollars. `ready`: a time of day, or nothing."""

    name: str
    done: int
    total: int | None
    exact: bool
    in_flight: int
    limit: float
    binds: str
    fails: bool  # what binds is the provider's failure, which passes
    per_s: float | None
    bars: Sequence[float]
    left: Left | None
    before_s: float | None  # seconds to the end at the pace before nothing moved
    ready: str
    cost_usd: float | None
    cost_known: bool  # False: that much at least
    budget_usd: float | None
    failed: int
    kinds: Mapping[str, int]
    faults: Sequence[ShownFault]
    more: str = ""  # chunks
    coming: Sequence[Coming] = ()  # answers that stream: those that are shown...
    streams: int = 0  # ...of so many
    why: str = ""  # why it is believed that this binds
    stored: int = 0  # of the done rows: found done, so that `cost_usd` has nothing of them
    enough_for: int | None = None  # rows in all, until the budget is spent; None: it is enough for all
    failed_before: int = 0  # rows of the run that failed for good in earlier processes
    over: bool = False  # it has ended, perhaps before its rows did
    spent_before_usd: float = 0.0  # what the budget counts besides: of earlier processes, uncertain


def line(numbers: Numbers, width: int = 80) -> str:
    """All of it in one line of a log; what does not fit is left out, the least wanted first.

    Why a provider does not work is always said.
    """
    why, parts = numbers.binds, [counted(numbers.done, numbers.total, exact=numbers.exact)]
    if numbers.fails:
        parts, why = [*parts, why], ""
    kept = len(parts)
    parts += [_lasts(numbers, numbers.left.seconds)] if numbers.left is not None else []
    before = f" ({numbers.failed_before:,} before)" if numbers.failed_before else ""
    parts += [f"{numbers.failed:,} failed{before}", f"{numbers.in_flight}/{numbers.limit:.0f} in flight"]
    cost = "" if numbers.cost_usd is None or not numbers.cost_known else money(round(numbers.cost_usd * PICO))
    parts += [part for part in (why, _moving(numbers.per_s), numbers.more, cost, _streams(numbers)) if part]
    while len(", ".join(parts)) > width and len(parts) > kept:
        parts.pop()
    return ", ".join(parts)


def _lasts(numbers: Numbers, seconds: float) -> str:
    return f"{duration(seconds)} left" if numbers.enough_for is None else f"budget lasts {duration(seconds)}"


def _moving(per_s: float | None) -> str:
    return "" if per_s is None else rate(per_s) if per_s else "0/s"


def _streams(numbers: Numbers) -> str:
    return f"{numbers.streams:,} streaming" if numbers.streams else ""


def panel(numbers: Numbers, width: int, *, unicode: bool = True) -> list[Text]:
    """The lines, each at most `width` columns wide.

    Args:
        numbers: what to show.
        width: columns.
        unicode: the terminal can show more than ASCII.
    """
    lines = [_head(numbers, width, unicode=unicode), _now(numbers, width, unicode=unicode)]
    lines += (
        [_line("why").append(numbers.why, "dim")] if numbers.why and not _nothing_to_come(numbers) else []
    )
    lines += [line for line in (_left(numbers, width), _money(numbers, width, unicode=unicode)) if line]
    lines += _failed(numbers, width, unicode=unicode)
    lines += _coming(numbers.coming, width, unicode=unicode)
    return [_cut(line, width, unicode=unicode) for line in lines]


def _nothing_to_come(numbers: Numbers) -> bool:
    """The run is over or all is done, so nothing binds any more."""
    return numbers.over or (numbers.total is not None and numbers.done >= numbers.total)


def _cut(line: Text, width: int, *, unicode: bool) -> Text:
    """As much of it as fits, with a mark where something is missing."""
    cut = not unicode and line.cell_len > width
    line.no_wrap = True
    line.truncate(width - 3 if cut else width, overflow="crop" if cut else "ellipsis")
    return line.append("...") if cut else line


def _line(label: str, style: str = "") -> Text:
    return Text("  ").append(label.ljust(LABEL - 2), style or "dim")


def _join(line: Text, parts: list[Text], width: int, between: str = "  ") -> Text:
    """As many parts as fit, from the left."""
    for number, part in enumerate(parts):
        gap = between if number else ""
        if number and line.cell_len + len(gap) + part.cell_len > width:
            break
        line.append(gap).append_text(part)
    return line


def bar(share: float, width: int, *, unicode: bool) -> Text:
    """How much is done: thick and thin, so that it needs no colour."""
    inner = width if unicode else max(1, width - 2)
    done = min(inner, int(share * inner))
    thick, thin = ("━", "─") if unicode else ("#", ".")
    drawn = Text().append(thick * done, "cyan").append(thin * (inner - done), "dim")
    return drawn if unicode else Text("[").append_text(drawn).append("]")


def sparks(bars: Sequence[float]) -> str:
    """The rate over the last minute."""
    top = max(bars, default=0.0)
    return "".join(SPARKS[min(7, int(value / top * 7.99))] if top else SPARKS[0] for value in bars)


def counted(done: int, total: int | None, *, exact: bool) -> str:
    """`412 of 1,000 (41 %)`."""
    if total is None:
        return f"{done:,} rows"
    share = min(100, 100 * done // max(1, total))
    return f"{done:,} of {'' if exact else 'about '}{total:,} ({share} %)"


def _head(numbers: Numbers, width: int, *, unicode: bool) -> Text:
    said = counted(numbers.done, numbers.total, exact=numbers.exact)
    name = Text(f"{numbers.name}  " if numbers.name else "", "bold")
    room = width - name.cell_len - len(said) - 2
    if numbers.total and room >= LEAST_BAR:
        drawn = bar(numbers.done / numbers.total, min(BAR, room), unicode=unicode)
        gap = max(2, min(width, 80) - name.cell_len - drawn.cell_len - len(said))
        return Text.assemble(name, drawn, " " * gap, said)
    if name.cell_len + len(said) <= width:
        return Text.assemble(name, said)
    return Text(said)


def _now(numbers: Numbers, width: int, *, unicode: bool) -> Text:
    moving = _moving(numbers.per_s)
    flight = Text(f"{numbers.in_flight:,}/{numbers.limit:,.0f} in flight")
    if numbers.binds and not _nothing_to_come(numbers):
        flight.append(", ").append(numbers.binds, "yellow" if numbers.fails else "bold")
    parts = [flight]
    if unicode and numbers.bars:
        drawn = Text(f"{moving} ").append(sparks(numbers.bars), "cyan")
        if LABEL + drawn.cell_len + 2 + flight.cell_len <= width:
            parts.insert(0, drawn)
        elif moving:
            parts.insert(0, Text(moving))
    elif moving:
        return _more(numbers, _line("now").append(f"{moving}, ").append_text(flight), width)
    return _more(numbers, _join(_line("now"), parts, width), width)


def _more(numbers: Numbers, line: Text, width: int) -> Text:
    if numbers.more and line.cell_len + 2 + len(numbers.more) <= width:
        line.append(f"  {numbers.more}")
    return line


def _left(numbers: Numbers, width: int) -> Text | None:
    if numbers.total is None or numbers.per_s is None or _nothing_to_come(numbers):
        return None
    if numbers.left is None:
        said = Text("not known while nothing moves")
        parts = [said]
        if numbers.before_s is not None:
            parts.append(Text(f"{roughly(numbers.before_s)} at the pace before"))
        return _join(_line("left"), parts, width, "; ")
    seconds, least, most = numbers.left
    said = Text(roughly(seconds))
    if least is not None and most is not None and roughly(least) != roughly(most):
        said.append(f" ({_range(least, most)})")
    ready = [Text(f"ready about {numbers.ready}")] if numbers.ready else []
    if numbers.enough_for is not None:
        ready = [Text("then the budget is spent")]
    return _join(_line("left"), [said, *ready], width, ", ")


def _range(least: float, most: float) -> str:
    """`31 to 38 min`, `50 s to 1 min 10 s`: the unit once where both have it."""
    low, high = roughly(least), roughly(most)
    amount, _, unit = low.partition(" ")
    return f"{amount if high.partition(' ')[2] == unit else low} to {high}"


def _money(numbers: Numbers, width: int, *, unicode: bool) -> Text | None:
    cost, budget = numbers.cost_usd, numbers.budget_usd
    if cost is None or not (cost or budget):
        return None
    before = numbers.spent_before_usd if budget else 0.0
    head = Text(f"{'' if numbers.cost_known else 'at least '}{money_usd(before + cost)}")
    if budget:
        spent = bar((before + cost) / budget, BUDGET_BAR, unicode=unicode)
        head.append(f" of {money_usd(budget)} ").append_text(spent)
    parts = [head]
    if numbers.enough_for is not None:
        parts += [] if numbers.over else [Text(f"enough for about {numbers.enough_for:,} rows")]
    elif not numbers.over and (whole := at_the_end(cost, numbers.done, numbers.stored, numbers.total)):
        parts.append(Text(f"about {money_usd(before + whole)} at the end"))
    return _join(_line("money"), parts, width)


def _failed(numbers: Numbers, width: int, *, unicode: bool) -> Iterator[Text]:
    before = [Text(f"{numbers.failed_before:,} before", "dim")] if numbers.failed_before else []
    if not numbers.failed:
        if before:
            yield _join(_line("failed"), before, width)
        return
    kinds = sorted(numbers.kinds.items(), key=lambda pair: -pair[1])
    known = sum(numbers.kinds.values()) or numbers.failed  # kinds are told a moment later, and are to add up
    line = _line("failed").append(f"{known:,}", "red")
    parts = [Text(f"{number:,} {kind}") for kind, number in kinds] + before
    yield _join(line.append(": "), parts, width, ", ") if parts else line
    for fault in numbers.faults:
        yield _fault(fault, width, unicode=unicode)


def _fault(fault: ShownFault, width: int, *, unicode: bool) -> Text:
    line = Text(" " * LABEL).append(f"row {fault.row + 1:,} ", "dim").append(f"{fault.kind}: ")
    like = f" ({fault.like_it:,} like it)" if fault.like_it else ""
    said = Text(fault.said if unicode else fault.said.encode("ascii", "backslashreplace").decode())
    room = max(8, width - line.cell_len - len(like))
    if unicode or said.cell_len <= room:
        said.truncate(room, overflow="ellipsis")
    else:
        said = Text(f"{said.plain[: room - 3]}...")
    return line.append_text(said).append(like, "dim")


def _coming(rows: Sequence[Coming], width: int, *, unicode: bool) -> Iterator[Text]:
    """The last words of a few answers as they come, one line each."""
    labels = [f"row {coming.row + 1:,} " for coming in rows]
    wide = max([LABEL - 2, *map(len, labels)])
    for label, coming in zip(labels, rows, strict=True):
        line = _line(label.ljust(wide))
        said = _end(clean(coming.text, None), width - line.cell_len, unicode=unicode)
        yield line.append(said) if coming.text else line.append("begins again", "yellow")


def _end(text: str, room: int, *, unicode: bool) -> str:
    """As much of the end of a text as fits."""
    text, cut = (text, "…") if unicode else (text.encode("ascii", "backslashreplace").decode(), "...")
    if cell_len(text) <= room:
        return text
    end = text[-max(1, room - len(cut)) :]
    while end and cell_len(end) > room - len(cut):  # wide characters
        end = end[1:]
    return f"{cut}{end}"
