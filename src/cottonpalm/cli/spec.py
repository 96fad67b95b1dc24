"""Every option of the command line, declared once; and what a run does, as it is kept in the store for `retry`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cottonpalm.cli.model_options import keepable, parse_options
from cottonpalm.cli.options import runs_like
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.urls import file_name, without_secrets
from cottonpalm.config import AdaptiveConcurrency, RateLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

META: Final = "job"


@dataclass(frozen=True, slots=True)
class RunSpec:
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
    def of(cls, meta: Mapping[str, Any], name: str) -> RunSpec:
        """The job of a run in the store.

        Raises:
            Problem: the run was not made by the command line.
        """
        if META not in meta:
            raise Problem(f"run {name} was made from Python; there: processor.retry()")
        return cls(**meta[META])

    def with_options(self, pairs: list[str]) -> RunSpec:
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


WHAT: Final = "What to do with each row"
ROWS: Final = "Rows"
SPEED: Final = "Speed"
FAULTS: Final = "Faults"
MONEY: Final = "Money"
CACHE: Final = "Equal rows"
STATE: Final = "What is kept"
SEE: Final = "What is shown"

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="The rows: .jsonl (one object a line), .csv or .parquet, the first two also packed (.gz, .zst); a file or "
        "an address (https://…, s3://…); - reads JSONL from standard input.",
    ),
]
OutputPath = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the results go: .jsonl (a line as soon as a row is done); .csv or .parquet (the input's columns, "
        "then the results) and what is packed (.gz, .zst), at the end; an address; - for JSONL on standard output.",
    ),
]
Chain = Annotated[
    str | None,
    typer.Option(
        "--chain",
        metavar="MODULE:ATTR",
        help="Your own LangChain Runnable, for instance app:chain. Its input is the row, as a dict.",
        rich_help_panel=WHAT,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PROVIDER:NAME",
        help="openai:NAME, anthropic:NAME, google:NAME, local (the embedded model, the default) or local:FILE.gguf.",
        rich_help_panel=WHAT,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="The question to each row. {column} is replaced by the row's value; all other braces stay as they are.",
        rich_help_panel=WHAT,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompt-file", metavar="FILE", help="The same, read from a file.", rich_help_panel=WHAT),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="A system message; {column} works here too.",
        rich_help_panel=WHAT,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE.json|MODULE:MODEL",
        help="Answers are objects of this form: a JSON schema, or a Pydantic class such as app:Review. "
        "An answer that does not fit is asked for again.",
        rich_help_panel=WHAT,
    ),
]
ModelOptions = Annotated[
    list[str],
    typer.Option(
        "--model-option",
        metavar="KEY=VALUE",
        help="A setting of the model, such as temperature=0; VALUE may be JSON. Can be given several times.",
        rich_help_panel=WHAT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Show the first rows' messages as they would be sent, and leave. No call, no store, no output.",
        rich_help_panel=ROWS,
    ),
]
AcceptTruncated = Annotated[
    bool,
    typer.Option(
        "--accept-truncated",
        metavar="",
        help="Take an answer that was cut at the model's length limit for an answer, instead of failing the row.",
        rich_help_panel=WHAT,
    ),
]
BaseUrls = Annotated[
    list[str],
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Another server that speaks the provider's protocol, such as http://127.0.0.1:8000/v1. Can be given "
        "several times: each row goes to one that has room.",
        rich_help_panel=WHAT,
    ),
]
GuardFormulas = Annotated[
    bool,
    typer.Option(
        "--guard-formulas",
        metavar="",
        help="In a .csv, put an apostrophe before text that a spreadsheet would take for a formula.",
        rich_help_panel=STATE,
    ),
]
IdField = Annotated[
    str | None,
    typer.Option(
        "--id-field",
        metavar="NAME",
        help="The column that holds a row's id: the row keeps its place in the run also when its text is edited.",
        rich_help_panel=ROWS,
    ),
]
PriorityField = Annotated[
    str | None,
    typer.Option(
        "--priority-field",
        metavar="NAME",
        help="The column that holds a number: of the rows read so far, those with higher ones start first.",
        rich_help_panel=ROWS,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, help="Only the first N rows of the input.", rich_help_panel=ROWS
    ),
]
Concurrency = Annotated[
    str,
    typer.Option(
        "--concurrency",
        "-c",
        metavar="auto|N",
        help="Requests in flight: auto finds what the provider allows, a number is kept.",
        rich_help_panel=SPEED,
    ),
]
MaxConcurrency = Annotated[
    int | None,
    typer.Option(
        "--max-concurrency",
        metavar="N",
        min=1,
        help="How far auto may go (500 unless said).",
        rich_help_panel=SPEED,
    ),
]
Rpm = Annotated[
    float | None,
    typer.Option("--rpm", metavar="N", min=1, help="Never more requests in a minute.", rich_help_panel=SPEED),
]
Tpm = Annotated[
    float | None,
    typer.Option("--tpm", metavar="N", min=1, help="Never more tokens in a minute.", rich_help_panel=SPEED),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="The longest one request may take, counted from when it is sent.",
        rich_help_panel=SPEED,
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        "--retries",
        metavar="N",
        min=0,
        help="How often a request is sent again after a fault that may pass. Waiting for a rate limit is not counted.",
        rich_help_panel=FAULTS,
    ),
]
Fallbacks = Annotated[
    list[str],
    typer.Option(
        "--fallback",
        metavar="PROVIDER:NAME",
        help="Another model, asked where the first one cannot answer. Can be given several times: tried in order.",
        rich_help_panel=FAULTS,
    ),
]
MaxFailures = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|N%",
        help="Stop when more rows than this failed: a number, or a share of the finished rows (from 100 rows on).",
        rich_help_panel=FAULTS,
    ),
]
BudgetUsd = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="USD",
        help="The most this command may spend, in US dollars. A request that could pass it is not sent.",
        rich_help_panel=MONEY,
    ),
]
BudgetPerHour = Annotated[
    float | None,
    typer.Option(
        "--budget-per-hour",
        metavar="USD",
        help="The most that any hour may cost, in US dollars.",
        rich_help_panel=MONEY,
    ),
]
OnBudget = Annotated[
    str,
    typer.Option(
        "--on-budget",
        metavar="stop|wait",
        help="When the hour's money is spent: stop, or wait for more and keep an even pace until all rows are done.",
        rich_help_panel=MONEY,
    ),
]
Prices = Annotated[
    list[str],
    typer.Option(
        "--price",
        metavar="[MODEL=]IN:OUT",
        help="Dollars per million tokens in and out, for models that are not in the price list or cost you something "
        "else. Can be given several times; without MODEL, for all models.",
        rich_help_panel=MONEY,
    ),
]
MaxOutputTokens = Annotated[
    int | None,
    typer.Option(
        "--max-output-tokens",
        metavar="N",
        min=1,
        help="With a budget: the most tokens of one answer, where the model's maximum is not known. It is sent along.",
        rich_help_panel=MONEY,
    ),
]
UseCache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        metavar="",
        help="Ask equal rows once, also those of other runs of this store, and give all of them that answer.",
        rich_help_panel=CACHE,
    ),
]
StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="FILE",
        help="The SQLite file that keeps what is done.",
        rich_help_panel=STATE,
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="The run's name in the store. The output's name unless said; the same name goes on where it stopped.",
        rich_help_panel=STATE,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        metavar="",
        help="Forget what this run has done and pay for every row again.",
        rich_help_panel=STATE,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        metavar="",
        help="Replace an output file that this run did not write.",
        rich_help_panel=STATE,
    ),
]
PlannedOutput = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="The output of the run that is planned: its name, where --run gives none.",
        rich_help_panel=STATE,
    ),
]
Sample = Annotated[
    int,
    typer.Option(
        "--sample",
        metavar="N",
        min=0,
        help="Run so many rows for real, drawn at random, and judge the others by them.",
        rich_help_panel=MONEY,
    ),
]
ShowProgress = Annotated[
    bool,
    typer.Option(
        "--progress/--no-progress",
        metavar="",
        help="Show how far the run is: live on a terminal, a line every ten seconds elsewhere.",
        rich_help_panel=SEE,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Say nothing but errors.", rich_help_panel=SEE),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        metavar="",
        help="Also tell of retries, pauses and failed rows as they happen; tracebacks for unexpected errors.",
        rich_help_panel=SEE,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]
AnyRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="One run, in more detail.", autocompletion=runs_like, show_default=False
    ),
]
OneRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The run's name, as `cottonpalm status` lists it.", autocompletion=runs_like
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="At the end, also write the report there: plots, tables and advice for any browser.",
        rich_help_panel=SEE,
        show_default=False,
    ),
]
EventsFile = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="FILE",
        help="Add each event to this file as it happens, a JSON line each.",
        rich_help_panel=SEE,
        show_default=False,
    ),
]
OtherRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN2",
        help="Another run, to be compared with the first.",
        autocompletion=runs_like,
        show_default=False,
    ),
]
PagePath = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE.html",
        help="One HTML file with plots, tables and advice, for any browser; - for standard output. "
        "Left out: the same in short, as text.",
        show_default=False,
    ),
]
ReplacePage = Annotated[
    bool, typer.Option("--overwrite", metavar="", help="Replace a file that is no report of ours.")
]
InputAgain = Annotated[
    str | None,
    typer.Argument(
        metavar="INPUT", help="The run's input, where it is elsewhere now or the store holds no inputs."
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", metavar="", help="Also the rows that are stored but no more in the input.")
]
ExportPath = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="What to write, in input order: .jsonl, .csv or .parquet, packed or not; an address; or - for JSONL.",
    ),
]
