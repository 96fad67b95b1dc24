"""What a shared prompt costs, and how long the run takes, in virtual time: `python bench/prompt_cache.py`.

A thousand rows with a shared prefix of 3,000 tokens at providers that cache as documented: `chain.abatch`, and our run
without and with the prompt cache. Then documents with ten questions each, in two orders.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.promptcache.kit import RULES, asking, model_on, rows, run
from tests.support.prompt_caching import OPENAI, VENDORS, CachingTransport

from cottonpalm import clock
from cottonpalm.testing import virtual_run

if TYPE_CHECKING:
    from tests.support.prompt_caching import Vendor

PREFIX = 3_000


def stock(vendor: Vendor, given: list[dict[str, str]], prompt: Any = None) -> tuple[CachingTransport, float]:
    """`chain.abatch`, as it is usually called."""

    async def main() -> tuple[CachingTransport, float]:
        provider = CachingTransport(vendor)
        await ((prompt or asking()) | model_on(vendor, provider)).abatch(given)
        return provider, clock.now()

    return virtual_run(main(), 1)


def possible(vendor: Vendor, count: int) -> int:
    """The most tokens that can be read from the cache: all but the first rows read the prefix."""
    step = vendor.step
    prefix = vendor.minimum + (PREFIX - vendor.minimum) // step * step
    return (count - vendor.first) * prefix


def shared(count: int) -> bool:
    """One prefix in all rows."""
    lines, good = [], True
    for vendor in VENDORS:
        mode = "auto" if vendor.asked == "itself" else "on"
        plain, plain_s = stock(vendor, rows(count))
        off, ours = run(vendor, "off", count), run(vendor, mode, count)
        most = possible(vendor, count)
        share = ours.provider.bill.read / most
        wall = (ours.seconds - ours.provider.latency_s) / off.seconds
        good = good and share >= 0.98 and wall <= 1.03
        lines.append(
            [
                f"{vendor.name} ({mode})",
                *(f"{100 * each.bill.read / most:.1f} %" for each in (plain, off.provider, ours.provider)),
                *(f"${each.bill.usd:.3f}" for each in (plain, off.provider, ours.provider)),
                *(f"{seconds:.0f} s" for seconds in (plain_s, off.seconds, ours.seconds)),
            ]
        )
    ways = ["abatch", "off", "ours"]
    m.table(["provider", *(f"{what} {way}" for what in ("read", "$", "wall") for way in ways)], lines)
    return good


def documents(count: int, questions: int) -> None:
    """Documents of 3,000 tokens with questions, one after the other or one question after the other."""
    texts = [f"Document {n}.\n" + RULES.replace("Rule", f"Line {n}") for n in range(count)]
    by_document = [{"text": f"{text}\nQuestion {n}?"} for text in texts for n in range(questions)]
    by_question = [{"text": f"{text}\nQuestion {n}?"} for n in range(questions) for text in texts]
    prompt = asking("Be brief.", "{text}")
    lines = []
    for name, given in (("by document", by_document), ("by question", by_question)):
        plain, plain_s = stock(OPENAI, given, prompt)
        lines.append([name, "abatch", plain.bill.read / 2_944 / count, plain.bill.usd / count, plain_s])
        for mode in ("off", "auto"):
            done = run(OPENAI, mode, given, prompt=prompt)
            bill = done.provider.bill
            lines.append([name, mode, bill.read / 2_944 / count, bill.usd / count, done.seconds])
    m.table(["rows", "way", f"of {questions} rows, read", "$ a document", "wall s"], lines)


def cpu(count: int) -> None:
    """CPU for each request, with and without a look at prompts."""
    lines = []
    for name, prompt in (("short", asking("Be brief.")), ("3,000 tokens shared", asking())):
        for mode in ("off", "auto"):
            began = time.process_time()
            run(OPENAI, mode, count, prompt=prompt)
            lines.append([name, mode, (time.process_time() - began) / count * 1e6])
    m.table(["prompt", "way", "µs a row, all of it"], lines)


def main() -> None:
    """Run them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000)
    options.add_argument("--documents", type=int, default=100)
    given = options.parse_args()
    m.headline(
        "A shared prompt of 3,000 tokens, virtual time, answers after 1 s",
        "read >= 98 % of what is possible; wall <= 1.03 times off, plus one answer",
    )
    good = shared(given.rows)
    documents(given.documents, 10)
    cpu(given.rows)
    sys.exit(not good)


if __name__ == "__main__":
    main()
