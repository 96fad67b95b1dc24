"""Parses numbers and prices that the user types."""

from __future__ import annotations

import math
import re
from typing import Final

from cottonpalm.cli.problems import Problem
from cottonpalm.observers.words.formatting import Currency, show_in

SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_AMOUNT: Final = r"(\d+(?:\.\d+)?|\.\d+)"
_PRICE: Final = re.compile(rf"(?:(.+)=)?{_AMOUNT}:{_AMOUNT}")
ANY_MODEL: Final = "*"


def share_or_number(text: str | None) -> float | None:
    """`5`: more than five failed rows; `5%`: more than a share of 0.05; `100%`: all may fail.

    Raises:
        Problem: it is neither.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return int(text)
    share = SHARE.fullmatch(text.strip())
    if share is None or not 0 < float(share[1]) <= 100:
        raise Problem(
            f"--max-failures {text}: say a number of rows (0: none may fail), or a share such as 5%"
        )
    return float(share[1]) / 100


def prices_of(given: list[str]) -> dict[str, tuple[float, float]] | None:
    """Parse `gpt-x=0.5:1.5` or `0.5:1.5`: dollars per million tokens in and out, by model.

    Raises:
        Problem: one of them is something else.
    """
    return dict(map(_price, given)) or None


def _price(text: str) -> tuple[str, tuple[float, float]]:
    found = _PRICE.fullmatch(text.strip())
    if found is None:
        raise Problem(
            f"--price {text}: write dollars per million tokens in and out, for instance 0.15:0.60, "
            "or gpt-4o-mini=0.15:0.60 for one model"
        )
    return found[1] or ANY_MODEL, (float(found[2]), float(found[3]))


SIGNS: Final = {"CNY": "¥", "EUR": "€", "GBP": "£", "JPY": "¥"}


def show_amounts_in(given: str | None) -> str | None:
    """From now on, show amounts in the currency of `--currency CODE=RATE`; without one, in dollars.

    Raises:
        Problem: it does not say the rate.
    """
    if given is None:
        show_in(Currency())
        return None
    code, _, rate = given.upper().partition("=")
    try:
        value = float(rate)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or not code.isalpha():
        raise Problem(f"--currency {given}: say how much of it is one dollar, as in --currency CNY=7.1")
    show_in(Currency(SIGNS.get(code, f"{code} "), value))
    return given
