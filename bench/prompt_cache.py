"""What a shared prompt costs, and how long the run takes, in virtual time: `python bench/prompt_cache.py`.

A thousand rows with a shared prefix of 3,000 tokens at providers that cache as documented: `chain.abatch`, and our run
without and with the prompt cache. Then documents with many questions each, in two orders, and documents at servers of
one's own, of which each has its own cache. `--parts sockets`: the first table in real time, over HTTP on this machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.promptcache.kit import RULES, asking, model_on, rows, run, run_over_sockets, run_replicas
from tests.support.prompt_caching import OPENAI, VENDORS, VLLM, CachingTransport

from cottonpalm import clock
from cottonpalm.testing import virtual_run

if TYPE_CHECKING:
    from tests.promptcache.kit import Done
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
        answers_s = vendor.first * ours.provider.latency_s  # that must have come before others can read
        good = good and share >= 0.98 and ours.seconds <= 1.03 * off.seconds + answers_s
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


def over_sockets(count: int) -> bool:
    """One prefix in all rows, over HTTP; beside it, what was read in virtual time."""
    lines, good = [], True
    for vendor in VENDORS:
        mode = "auto" if vendor.asked == "itself" else "on"
        virtual, off, ours = run(vendor, mode, count), *(_real(vendor, way, count) for way in ("off", mode))
        most = possible(vendor, count)
        shares = [each.provider.bill.read / most for each in (virtual, off, ours)]
        good = good and shares[2] >= 0.98
        bills = [f"${each.provider.bill.usd:.3f}" for each in (virtual, off, ours)]
        lines.append([f"{vendor.name} ({mode})", *(f"{100 * share:.1f} %" for share in shares), *bills])
    ways = ["virtual", "off", "ours"]
    m.table(["provider", *(f"{what} {way}" for what in ("read", "$") for way in ways)], lines)
    return good


def _real(vendor: Vendor, mode: str, count: int) -> Done:
    return run_over_sockets(vendor, mode, count, latency_s=0.2)


def asked(texts: list[str], questions: int) -> dict[str, list[dict[str, str]]]:
    """Rows with questions about these texts, in two orders."""

    def row(text: str, n: int) -> dict[str, str]:
        return {"text": f"{text}\nQuestion {n}?"}

    return {
        "by document": [row(text, n) for text in texts for n in range(questions)],
        "by question": [row(text, n) for n in range(questions) for text in texts],
    }


def texts_of(count: int, size: int = len(RULES)) -> list[str]:
    """So many documents."""
    return [f"Document {n}.\n" + RULES[:size].replace("Rule", f"Line {n}") for n in range(count)]


def documents(count: int, questions: int) -> bool:
    """Documents of 3,000 tokens with questions, one after the other or one question after the other."""
    prompt, lines, good = asking("Be brief.", "{text}"), [], True
    for name, given in asked(texts_of(count), questions).items():
        plain, plain_s = stock(OPENAI, given, prompt)
        off, ours = (run(OPENAI, mode, given, prompt=prompt) for mode in ("off", "auto"))
        good = good and ours.seconds <= 1.03 * off.seconds + ours.provider.latency_s
        done = [("abatch", plain, plain_s)]
        done += [(mode, each.provider, each.seconds) for mode, each in (("off", off), ("auto", ours))]
        for way, there, seconds in done:
            share = there.bill.read / sum(there.bill.tokens)
            lines.append(
                [name, way, f"{100 * share:.0f} %", f"${there.bill.usd / count:.3f}", f"{seconds:.1f}"]
            )
    m.table([f"{count} documents", f"{questions} questions", "read", "$ a document", "wall s"], lines)
    return good


def replicas(count: int, questions: int) -> bool:
    """Documents of 1,500 tokens at three servers with sixteen slots and a cache each."""
    prompt, lines, good = asking("Be brief.", "{text}"), [], True
    for name, given in asked(texts_of(count, 6_000), questions).items():
        off, ours = (run_replicas(VLLM, mode, given, slots=16, prompt=prompt) for mode in ("off", "auto"))
        good = good and ours.read > off.read and ours.seconds <= 1.03 * off.seconds
        for way, each in (("off", off), ("auto", ours)):
            tokens = sum(sum(there.bill.tokens) for there in each.providers)
            spread = " ".join(str(there.bill.requests) for there in each.providers)
            lines.append([name, way, f"{100 * each.read / tokens:.0f} %", spread, f"{each.seconds:.1f}"])
    m.table([f"{count} documents", f"{questions} questions", "read", "rows at each", "wall s"], lines)
    return good


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
    """Run them all, or some."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000)
    options.add_argument("--documents", type=int, default=100)
    options.add_argument("--parts", default="shared,documents,replicas,cpu", help="sockets is one more")
    given = options.parse_args()
    m.headline(
        "A shared prompt of 3,000 tokens, virtual time, answers after 1 s",
        "read >= 98 % of what is possible; wall <= 1.03 times off, plus one answer (DeepSeek: two)",
    )
    parts, good = given.parts.split(","), True
    if "shared" in parts:
        good = shared(given.rows) and good
    if "sockets" in parts:
        good = over_sockets(given.rows) and good
    if "documents" in parts:
        good = documents(given.documents, 10) and good
        good = documents(given.documents // 5, 50) and good
    if "replicas" in parts:
        good = replicas(given.documents // 5, 10) and good
    if "cpu" in parts:
        cpu(given.rows)
    sys.exit(not good)


if __name__ == "__main__":
    main()
