"""What a run does, as it is kept in the store: enough for `retry` to go on without being told again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.model_options import keepable, parse_options
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.urls import file_name, without_secrets
from cottonpalm.config import AdaptiveConcurrency, RateLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

META: Final = "job"


@dataclass(frozen=True, slots=True)
class Job:
    """One command's work. Paths are absolute, `-` apart; what may be secret is not kept.

    Attributes:
        folder: where the command was given; modules there are found first.
        base_url: the first server named, if any.
        replica_urls: the others that were named: the same model, behind the same queue.
        max_failures: a number of rows, or a share of them below 1.
        input_kept: the input's address was kept whole; False: without what may be secret in it.
        unkept: names of model options that were given, but may hold secrets.
    """

    input: str
    output: str
    folder: str
    chain: str | None = None
    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    schema: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    replica_urls: list[str] = field(default_factory=list)
    accept_truncated: bool = False
    concurrency: str = "auto"
    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    timeout_s: float = 600.0
    retries: int = 3
    fallbacks: list[str] = field(default_factory=list)
    max_failures: float | None = None
    budget_usd: float | None = None
    budget_per_hour_usd: float | None = None
    on_budget: str = "stop"
    prices: list[str] = field(default_factory=list)
    max_output_tokens: int | None = None
    cache: bool = False
    id_field: str | None = None
    priority_field: str | None = None
    limit: int | None = None
    guard_formulas: bool = False
    input_kept: bool = True
    unkept: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """The input's name for messages."""
        return "standard input" if self.input == "-" else file_name(self.input)

    @property
    def read_once(self) -> bool:
        """Whether the input cannot be read again later: standard input, or an address that was not kept whole."""
        return self.input == "-" or not self.input_kept

    def as_json(self) -> dict[str, Any]:
        """For the store: without what may be secret."""
        kept, unkept = keepable(self.model_options)
        source = without_secrets(self.input)
        whole = self.input_kept and source == self.input
        return {
            META: asdict(replace(self, input=source, input_kept=whole, model_options=kept, unkept=unkept))
        }

    @classmethod
    def of(cls, meta: Mapping[str, Any], name: str) -> Job:
        """The job of a run in the store.

        Raises:
            Problem: the run was not made by the command line.
        """
        if META not in meta:
            raise Problem(f"run {name} was made from Python; there: processor.retry()")
        return cls(**meta[META])

    def with_options(self, pairs: list[str]) -> Job:
        """The same with more model options, which must include those that were not kept.

        Raises:
            Problem: some are missing.
        """
        options = {**self.model_options, **parse_options(pairs)}
        if missing := [name for name in self.unkept if name not in options]:
            raise Problem(
                f"the option {missing[0]} was not kept, as it may hold a secret; "
                f"say it again: --model-option {missing[0]}=…"
            )
        return replace(self, model_options=options)

    @property
    def slots(self) -> int | None:
        """How many requests the embedded engine answers at once; None for every other model."""
        if self.chain is not None or (self.model or "local").partition(":")[0] != "local":
            return None
        from cottonpalm.local.server import SLOTS

        return int(self.model_options.get("slots", SLOTS))

    def rate_limit(self) -> RateLimit | None:
        """The user's own ceilings per minute."""
        return RateLimit(self.rpm, self.tpm) if self.rpm or self.tpm else None

    def limits(self) -> AdaptiveConcurrency | int:
        """`auto` or a number, and how far auto may go: by itself to what the embedded engine answers at once.

        Raises:
            Problem: it is neither, or the number is above the maximum.
        """
        given, most = self.concurrency, self.max_concurrency
        if given == "auto":
            top = most or self.slots or AdaptiveConcurrency().maximum
            return AdaptiveConcurrency(initial=min(AdaptiveConcurrency().initial, top), maximum=top)
        if not given.isdecimal() or int(given) < 1:
            raise Problem(f"--concurrency {given}: say auto, or a number from 1 on")
        if most is not None and int(given) > most:
            raise Problem(f"--concurrency {given} is above --max-concurrency {most}; leave one of them out")
        return int(given)
