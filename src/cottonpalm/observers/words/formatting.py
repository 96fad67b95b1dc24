"""Numbers, durations and foreign text as a terminal can show them."""

from __future__ import annotations

import unicodedata
from math import floor, log10
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Bottleneck, ErrorRecord

SILENCE_S: Final = 30.0  # without an answer, from where on it is told
SHORT: Final = 200  # characters of a foreign text that are shown
LABEL: Final = 300  # likewise of a name; those of files are shorter
# control, format (bidi, zero width), unpaired
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_JOINERS: Final = frozenset("\u200c\u200d")

_BINDS: Final[Mapping[Bottleneck, str]] = {
    "concurrency": "at the limit",
    "maximum": "at your maximum",
    "requests": "request quota",
    "tokens": "token quota",
    "pace": "request rate",
    "own requests": "your rpm ceiling",
    "own tokens": "your tpm ceiling",
    "probe": "rejected, probing",
    "pause": "pause",
    "down": "provider down",
    "budget": "waits for money",
    "cpu": "our CPU is full",
    "reader": "reader is slow",
    "store": "disk is slow",
    "source": "source is slow",
    "cap": "at your cap",
    "held": "paused by you",
    "batch": "waits for batches",
    "tail": "last rows",
}
# Where no request is seen, it is no provider's limit: calls begin ever faster as they are answered.
_NO_REQUESTS: Final[Mapping[Bottleneck, str]] = {"pace": "rate of calls"}


def binds(
    what: Bottleneck, pause_s: float, silent_s: float = 0.0, trouble: str = "", *, seen: bool = True
) -> str:
    """What keeps a run from being faster, in two or three words, with the seconds of a pause; "" for nothing.

    A provider that has answered nothing for so many seconds goes before all that would bind if it did, and so does
    the `trouble` of one that cannot be reached. `seen`: there are requests whose limit it could be.
    """
    words = _BINDS.get(what, "") if seen else _NO_REQUESTS.get(what, _BINDS.get(what, ""))
    if trouble:
        words, silent_s = clean(trouble), 0.0
    if what in ("pause", "down"):
        return f"{words}, {duration(pause_s)} to go" if pause_s > 0 else words
    return f"no answer for {duration(silent_s)}" if silent_s >= SILENCE_S else words


def clean(text: str, most: int | None = SHORT, *, joined: bool = False) -> str:
    """One line of `text` that cannot move the cursor, colour the screen or hide a part of itself.

    Line ends and tabs become spaces, other control characters their escapes; longer texts are cut to `most` characters.

    Args:
        text: whatever somebody wrote.
        most: characters; None for all of them.
        joined: what joins letters or pictures stays, for a page: terminals disagree about how wide those are.
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return harmless(text, joined=joined).strip()


def harmless(text: str, *, joined: bool) -> str:
    """See `clean`: as long as it is, and with the spaces before it."""
    if text.isprintable():
        return text
    return "".join(map(_shown_behind, text, f" {text}") if joined else map(_shown, text))


_PLAIN: Final = str.maketrans({**dict.fromkeys("▁▂▃▄▅▆▇█", ""), "→": "to", "·": "-", "…": "..."})


def as_it_can_be_shown(text: str, encoding: str | None) -> str:
    """A report as it is, or, where this encoding is no Unicode, in words that it has, without sparklines."""
    return text if (encoding or "").lower().startswith("utf") else text.translate(_PLAIN)


def label(text: str) -> str:
    """A name as metrics and traces take it: like `clean`, at most `LABEL` characters."""
    return text if len(text) <= LABEL and text.isprintable() else clean(text, LABEL)


def model_in(text: str, most: int) -> str:
    """`host/model` in at most so many characters: of a long one, the host is cut before the model is."""
    host, slash, model = text.partition("/")
    room = most - len(model) - 2
    if len(text) <= most or not slash or room < 1:
        return clean(text, most)
    return clean(f"{host[:room]}…/{model}", most)


def _shown(char: str) -> str:
    if char in "\n\r\t":
        return " "
    if unicodedata.category(char) in _UNSEEN:
        return char.encode("unicode_escape").decode()
    return char


def _shown_behind(char: str, before: str) -> str:
    """Persian words, Indian letters and many emoji have joiners in them; in ASCII they would only hide."""
    return char if char in _JOINERS and not before.isascii() else _shown(char)


def told(error: ErrorRecord) -> str:
    """`ValueError: no such thing`, or the type alone where there is no message."""
    return f"{error.type}: {error.message}" if error.message else error.type


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,200 rows`; `plural` where that is more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


class Currency(NamedTuple):
    """In which currency amounts are shown. All is counted, kept and bounded in dollars.

    Attributes:
        sign: stands before an amount.
        rate: so much of it is one dollar.
    """

    sign: str = "$"
    rate: float = 1.0


_shown_in = [Currency()]  # of this process


def show_in(currency: Currency) -> None:
    """From now on, show amounts in this currency."""
    _shown_in[0] = currency


def currency() -> Currency:
    """In which currency amounts are shown."""
    return _shown_in[0]


def money(pico: int) -> str:
    """An amount with as many digits as say something: `$12.34`, `$0.0123`, `$0.000012`, `$0.00000003`."""
    sign, rate = currency()
    amount = pico / PICO * rate
    if pico == 0:
        return f"{sign}0"
    if amount >= 1:
        return f"{sign}{amount:,.2f}"
    digits = 4 if amount >= 0.001 else max(6, -floor(log10(amount)))
    return f"{sign}{amount:.{digits}f}"


def duration(seconds: float) -> str:
    """`4.2 ms`, `0.8 s`, `42 s`, `1 min 12 s`, `3 h 05 min`, `2 d 4 h`."""
    whole = round(seconds)
    if seconds < 0.0995:
        return _milliseconds(1000 * seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def _milliseconds(ms: float) -> str:
    if ms <= 0:
        return "0 s"
    return f"{ms:.0f} ms" if ms >= 9.95 else f"{ms:.1f} ms" if ms >= 0.05 else "< 0.1 ms"


def rate(per_s: float) -> str:
    """`6.9/s`, `12/min`: the unit in which the number is at least one."""
    if per_s >= 100:
        return f"{per_s:,.0f}/s"
    if per_s >= 1:
        return f"{per_s:.1f}/s"
    return f"{per_s * 60:.1f}/min" if per_s * 60 >= 1 else f"{per_s * 3600:.1f}/h"
