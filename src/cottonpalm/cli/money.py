"""The options about money: what they mean, and what cannot be meant."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from cottonpalm.cli.problems import Problem
from cottonpalm.config import Budget

if TYPE_CHECKING:
    from cottonpalm.cli.job import Job

_AMOUNT: Final = r"(\d+(?:\.\d+)?|\.\d+)"
_PRICE: Final = re.compile(rf"(?:(.+)=)?{_AMOUNT}:{_AMOUNT}")
ANY_MODEL: Final = "*"


def prices_of(given: list[str]) -> dict[str, tuple[float, float]] | None:
    """`gpt-x=0.5:1.5` or `0.5:1.5`: dollars per million tokens in and out, by model.

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


def check_money(job: Job) -> None:
    """Amounts that can be meant, and no option without the one it belongs to.

    Raises:
        Problem: says what to mend.
    """
    for flag, dollars in (("--budget", job.budget_usd), ("--budget-per-hour", job.budget_per_hour_usd)):
        if dollars is not None and not 0 <= dollars < math.inf:
            raise Problem(f"{flag} {dollars:g}: say a number of US dollars, 0 or more")
    if job.on_budget not in ("stop", "wait"):
        raise Problem(f"--on-budget {job.on_budget}: say stop or wait")
    if job.on_budget == "wait" and job.budget_per_hour_usd is None:
        raise Problem("--on-budget wait is for --budget-per-hour: more of a --budget never comes")
    if job.max_output_tokens is not None and budget_of(job) is None:
        raise Problem(
            "--max-output-tokens belongs to a --budget; the model's own maximum is --model-option max_tokens=N"
        )
    prices_of(job.prices)


def budget_of(job: Job) -> Budget | None:
    """The budget that the command was given, if any."""
    if job.budget_usd is None and job.budget_per_hour_usd is None:
        return None
    return Budget(
        total=job.budget_usd,
        per_hour=job.budget_per_hour_usd,
        on_exceed="wait" if job.on_budget == "wait" else "stop",
        max_output_tokens=job.max_output_tokens,
    )
