"""Says what prompts have in common, and what the provider's prompt cache made of it. No clock, no I/O."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from cottonpalm.observers.words.numbers import money_usd, percent

if TYPE_CHECKING:
    from cottonpalm.observers.measures.reported import Reported
    from cottonpalm.stats import PromptUse

LITTLE: Final = 0.25  # of its prompts: what is the same in fewer tokens is not worth a line
FEW: Final = 3  # prompts say nothing


def cacheable(use: PromptUse) -> int:
    """Tokens of a usual prompt that the provider could read from its cache; 0 if they are too few."""
    most = max(use.shared, use.again)
    return most if most >= max(1, use.minimum) else 0


def on_prompts(report: Reported) -> str:
    """One sentence on the model with the most to say; "" where there is nothing."""
    models = report.by_model
    told = [
        (models[label].input_tokens if label in models else 0, use)
        for label, use in report.prompts.items()
        if _tells(use)
    ]
    read_in, use = max(told, key=itemgetter(0), default=(0, None))
    return "" if use is None else f"{shared(use)}{_came(use, read_in)}"


def shared(use: PromptUse) -> str:
    """`of 3,240 input tokens, 3,020 are the same in every row`."""
    if not use.prompt or use.looked < FEW:
        return "the prompts' cache"
    if use.shared >= use.again or use.shared >= (1 - LITTLE) * use.prompt:
        return f"of {use.prompt:,} input tokens, {use.shared:,} are the same in every row"
    return f"of {use.prompt:,} input tokens, about {use.again:,} were in an earlier row"


def _came(use: PromptUse, read_in: int) -> str:
    """What came of it."""
    if use.read:
        share = (
            f"{percent(min(1.0, use.read / read_in))} of the input was"
            if read_in
            else f"{use.read:,} tokens were"
        )
        worth = ""
        if use.saved_usd > 0:
            worth = f", which saved {money_usd(use.saved_usd)}"
        elif use.saved_usd < 0:
            worth = f", but writing to it cost {money_usd(-use.saved_usd)} more than that saved"
        return f": {share} read from the provider's cache{worth}"
    if use.written:
        return f": nothing was read from the provider's cache, and writing to it cost {money_usd(-use.saved_usd)}"
    if not cacheable(use):
        if use.later >= max(use.minimum, 1):
            return f", but {use.later:,} more come after something that differs, so nothing can be cached"
        return f": the provider caches from {use.minimum:,} tokens on" if use.minimum else ""
    if use.asked != "itself" and not use.on:
        return ": none was cached, as the requests do not ask for it"
    return ": the provider reported none of them as cached"


def _tells(use: PromptUse) -> bool:
    if use.read or use.written:
        return True
    most = max(use.shared, use.again, use.later)
    return use.looked >= FEW and use.minimum > 0 and most >= max(use.minimum, LITTLE * use.prompt)


def planned(use: PromptUse, requests: int) -> str:
    """What a cache would make of so many requests with such prompts; "" where it is nothing worth saying."""
    if not _tells(use):
        return ""
    tokens = cacheable(use)
    saves = requests * use.input_usd * (1 - use.read_rate)
    if not tokens:
        if use.later < max(use.minimum, 1):
            return ""
        worth = f", about {money_usd(saves * use.later)}" if saves else ""
        return (
            f"of {use.prompt:,} input tokens, {use.later:,} are the same, but after something that differs: put first, "
            f"they could be cached{worth}"
        )
    worth = f" and save about {money_usd(saves * tokens)}" if saves else ""
    if use.asked == "itself":
        return f"{shared(use)}: the provider may read them from its cache{worth}"
    if use.on:
        return f"{shared(use)}: cached on request, they cost {percent(use.read_rate)} of the price{worth}"
    dear = requests * use.input_usd * (use.write_rate - 1) * use.prompt if use.asked == "breakpoints" else 0.0
    dearer = f", and writing all of it costs {money_usd(dear)} more" if dear > 0 else ""
    could = money_usd(saves * tokens + dear)
    return f"{shared(use)}: nobody asks for the cache{dearer}; --prompt-cache on could save about {could}"
