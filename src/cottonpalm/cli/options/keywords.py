"""A command's work as the keywords of a `BatchProcessor`, for `run` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.cli.options.amounts import prices_of
from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, RateLimit

CACHED: Final = 10_000  # so many answers --cache keeps in memory; the store keeps all of them


class Chains(Protocol):
    """What `keywords_of` must know about the chains that were built."""

    @property
    def fallbacks(self) -> Sequence[Runnable[Any, Any]]:
        """The chains that answer rows when the chain cannot."""

    @property
    def replicas(self) -> Sequence[Runnable[Any, Any]]:
        """Chains like the chain, on other servers."""

    @property
    def validate(self) -> Callable[[Any], object] | None:
        """The function that refuses an invalid answer."""


def slots_of(job: RunSpec) -> int | None:
    """Return how many requests the embedded engine answers at once; None for every other model."""
    if job.chain is not None or (job.model or "local").partition(":")[0] != "local":
        return None
    from cottonpalm.local.server import SLOTS

    return int(job.model_options.get("slots", SLOTS))


def rate_limit_of(job: RunSpec) -> RateLimit | None:
    """Return the user's own limits per minute."""
    from cottonpalm.config import RateLimit

    return RateLimit(job.rpm, job.tpm) if job.rpm or job.tpm else None


def prompt_cache_of(job: RunSpec) -> str:
    """Return what to do about the providers' prompt caches: a prompt of ours may ask for them unless told not to.

    Raises:
        Problem: it is none of the three words.
    """
    given = job.prompt_cache
    if given not in ("auto", "on", "off"):
        raise Problem(f"--prompt-cache {given}: say auto, on or off")
    return "on" if given == "auto" and job.chain is None else given


def limits_of(job: RunSpec) -> AdaptiveConcurrency | int:
    """Return the concurrency: a number, or `auto` with its bounds, which for the embedded engine are its slots.

    Raises:
        Problem: it is neither, or the number is above the maximum.
    """
    from cottonpalm.config import AdaptiveConcurrency

    given, most = job.concurrency, job.max_concurrency
    if given == "auto":
        top = most or slots_of(job) or AdaptiveConcurrency().maximum
        return AdaptiveConcurrency(initial=min(AdaptiveConcurrency().initial, top), maximum=top)
    if not given.isdecimal() or int(given) < 1:
        raise Problem(f"--concurrency {given}: say auto, or a number from 1 on")
    if most is not None and int(given) > most:
        raise Problem(f"--concurrency {given} is above --max-concurrency {most}; leave one of them out")
    return int(given)


def budget_of(job: RunSpec) -> Budget | None:
    """Return the budget of the command, if it has one."""
    from cottonpalm.config import Budget

    if job.budget_usd is None and job.budget_per_hour_usd is None:
        return None
    return Budget(
        total=job.budget_usd,
        per_hour=job.budget_per_hour_usd,
        on_exceed="wait" if job.on_budget == "wait" else "stop",
        max_output_tokens=job.max_output_tokens,
    )


def lane_of(job: RunSpec) -> BatchLane:
    """How requests go through a Batch API.

    Raises:
        Problem: an address is not said as HOST=PROVIDER.
    """
    from cottonpalm.config import BatchLane

    pairs = [given.rpartition("=") for given in job.batch_hosts]
    if wrong := [given for given, (host, _, _) in zip(job.batch_hosts, pairs, strict=True) if not host]:
        raise Problem(f"--batch-host {wrong[0]}: say HOST=PROVIDER, such as proxy:8080=openai")
    return BatchLane(hosts={host: provider for host, _, provider in pairs})


def keywords_of(job: RunSpec, built: Chains, store: str) -> dict[str, Any]:
    """Return the keywords of a `BatchProcessor`, for `run` and `plan`: all but its chain, run and observers.

    Args:
        job: what the command does.
        built: its chains.
        store: the file in which `--cache` keeps answers.

    Raises:
        Problem: an option makes no sense.
    """
    from cottonpalm.config import Cache

    return {
        "concurrency": limits_of(job),
        "rate_limit": rate_limit_of(job),
        "retry": job.retries,
        "fallbacks": built.fallbacks,
        "replicas": built.replicas,
        "validate": built.validate,
        "max_failures": job.max_failures,
        "budget": budget_of(job),
        "prices": prices_of(job.prices),
        "cache": Cache(max_entries=CACHED, path=store) if job.cache else None,
        "timeout": job.timeout_s,
        "hedge": not job.no_hedge,
        "prompt_cache": prompt_cache_of(job),
        "accept_truncated": job.accept_truncated,
        "transport": job.transport,
    }
