"""What a run does: declares once every option that a run keeps; the store keeps them for `retry`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cottonpalm.cli.options.amounts import share_or_number
from cottonpalm.cli.options.model_options import (
    PROVIDERS,
    absolute_model,
    absolute_models,
    keepable,
    parse_options,
)
from cottonpalm.cli.options.panels import CACHE, FAULTS, MONEY, ROWS, SPEED, STATE, WHAT, Typed, one_of
from cottonpalm.cli.problems import Problem
from cottonpalm.request.transports import DEFAULT_TRANSPORT
from cottonpalm.shell import JOB
from cottonpalm.urls import absolute, file_name, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping


FORM: Final = 1  # of a stored job
_MODELS: Final = [name if name == "local" else f"{name}:" for name in PROVIDERS]  # as they begin


def _here() -> str:
    return str(Path.cwd())


def _first(given: list[str]) -> str | None:
    return next(iter(given), None)


def _others(given: list[str]) -> list[str]:
    return given[1:]


MODEL_OPTION: Final = WHAT(
    "--model-option",
    metavar="KEY=VALUE",
    help="A setting of the model, such as temperature=0; VALUE may be JSON. Can be given several times.",
)
GuardFormulas = Annotated[
    bool,
    STATE(
        "--guard-formulas",
        metavar="",
        help="In a .csv, put an apostrophe before text that a spreadsheet would take for a formula.",
    ),
]


Bom = Annotated[
    bool,
    STATE("--bom", metavar="", help="Begin a .csv with the mark by which Excel knows UTF-8."),
]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One command's work: it has a field for each option. The store keeps each field under its name.

    Paths are absolute, except `-`. What may be secret is not stored.

    Attributes:
        folder: the folder in which the command was given; modules there are found first.
        base_url: the first server that was named, if any.
        replica_urls: the other servers that were named: the same model, behind the same queue.
        max_failures: a number of rows, or below 1 a share of them.
        input_kept: True: the input's address is stored whole. False: it is stored without its secrets.
        unkept: the names of given model options that may hold secrets and are not stored.
    """

    input: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="The rows: .jsonl (one object a line), .csv or .tsv, these also packed (.gz, .zst), .parquet or "
            ".xlsx; a file or an address (https://…, s3://…); - reads standard input, as JSONL unless said.",
        ),
        Typed(str, absolute),
    ]
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the results go: .jsonl (a line as soon as a row is done); .csv, .xlsx or .parquet (the input's "
            "columns, then the results) and what is packed (.gz, .zst), at the end; an address; "
            "- for JSONL on standard output.",
        ),
        Typed(str, absolute),
    ]
    folder: str = field(default_factory=_here)
    chain: Annotated[
        str | None,
        WHAT(
            "--chain",
            metavar="MODULE:ATTR",
            help="Your own LangChain Runnable, for instance app:chain. Its input is the row, as a dict.",
        ),
    ] = None
    model: Annotated[
        str | None,
        WHAT(
            "--model",
            "-m",
            metavar="PROVIDER:NAME",
            autocompletion=one_of(_MODELS),
            help="openai:NAME, anthropic:NAME, google:NAME, ollama:NAME, deepseek:NAME, qwen:NAME and more; "
            "local (the embedded model, the default) or local:FILE.gguf.",
        ),
        Typed(str | None, absolute_model),
    ] = None
    prompt: Annotated[
        str | None,
        WHAT(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="The question to each row. {column} is replaced by the row's value; {{word}} is sent as {word}.",
        ),
    ] = None
    system: Annotated[
        str | None, WHAT("--system", metavar="TEXT", help="A system message; {column} works here too.")
    ] = None
    literal_braces: Annotated[
        bool,
        WHAT(
            "--literal-braces",
            metavar="",
            help="Send braces that name no column as they stand. {{word}} does so for one of them.",
        ),
    ] = False
    messages: Annotated[
        str | None,
        WHAT(
            "--messages",
            metavar="COLUMN",
            help="In place of a prompt: the column that holds each row's messages, as OpenAI or LangChain write them.",
        ),
    ] = None
    images: Annotated[
        list[str],
        WHAT(
            "--image",
            metavar="COLUMN",
            help="A column of images, sent with the prompt: paths, addresses or bytes. Can be given several times.",
        ),
    ] = field(default_factory=list)
    requests: Annotated[
        bool,
        WHAT(
            "--requests",
            metavar="",
            help="In place of a prompt: the input is a batch file as OpenAI and Anthropic take it (custom_id, and body "
            "or params).",
        ),
    ] = False
    times: Annotated[
        int,
        WHAT("--n", metavar="N", min=1, help="Ask each row N times; the answer is the list of all answers."),
    ] = 1
    vote: Annotated[
        bool,
        WHAT("--vote", metavar="", help="With --n: the answer is the one that is given most often."),
    ] = False
    columns: Annotated[
        str | None,
        WHAT(
            "--columns",
            metavar="NAME,…",
            help="Fields of answers that are objects: in tables, each becomes a column; those of a --schema do anyway.",
        ),
    ] = None
    schema: Annotated[
        str | None,
        WHAT(
            "--schema",
            metavar="FILE.json|MODULE:MODEL",
            help="Answers are objects of this form: a JSON schema, or a Pydantic class such as app:Review. "
            "An answer that does not fit is asked for again.",
        ),
    ] = None
    model_options: Annotated[dict[str, Any], MODEL_OPTION, Typed(list[str], parse_options)] = field(
        default_factory=dict
    )
    base_url: Annotated[
        str | None,
        WHAT(
            "--base-url",
            metavar="URL",
            help="Another server that speaks the provider's protocol, such as http://host:8000/v1. "
            "Can be given several times: each row goes to one that has room.",
        ),
        Typed(list[str], _first),
    ] = None
    replica_urls: Annotated[list[str], Typed(list[str], _others, "base_url")] = field(default_factory=list)
    accept_truncated: Annotated[
        bool,
        WHAT(
            "--accept-truncated",
            metavar="",
            help="Take an answer that was cut at the model's length limit, or filtered, for an answer, "
            "instead of failing the row.",
        ),
    ] = False
    concurrency: Annotated[
        str,
        SPEED(
            "--concurrency",
            "-c",
            metavar="auto|N",
            help="Requests in flight: auto finds what the provider allows, a number is kept.",
        ),
    ] = "auto"
    max_concurrency: Annotated[
        int | None,
        SPEED("--max-concurrency", metavar="N", min=1, help="How far auto may go (500 unless said)."),
    ] = None
    rpm: Annotated[
        float | None, SPEED("--rpm", metavar="N", min=1, help="Never more requests in a minute.")
    ] = None
    tpm: Annotated[
        float | None, SPEED("--tpm", metavar="N", min=1, help="Never more tokens in a minute.")
    ] = None
    timeout_s: Annotated[
        float,
        SPEED(
            "--timeout",
            metavar="SECONDS",
            help="The longest one request may take, counted from when it is sent.",
        ),
    ] = 600.0
    no_hedge: Annotated[
        bool,
        FAULTS(
            "--no-hedge",
            metavar="",
            help="Never send a copy of a request that is far later than any before it.",
        ),
    ] = False
    transport: Annotated[
        str,
        SPEED(
            "--transport",
            metavar="fast|stock",
            help="By which way requests go: a lean HTTP client where it is proved equal, or the models' own SDKs.",
        ),
    ] = DEFAULT_TRANSPORT
    retries: Annotated[
        int,
        FAULTS(
            "--retries",
            metavar="N",
            min=0,
            help="How often a request is sent again after a fault that may pass. "
            "Waiting for a rate limit is not counted.",
        ),
    ] = 3
    fallbacks: Annotated[
        list[str],
        FAULTS(
            "--fallback",
            metavar="PROVIDER:NAME",
            autocompletion=one_of(_MODELS),
            help="Another model, asked where the first one cannot answer. "
            "Can be given several times: tried in order.",
        ),
        Typed(list[str], absolute_models),
    ] = field(default_factory=list)
    max_failures: Annotated[
        float | None,
        FAULTS(
            "--max-failures",
            metavar="N|N%",
            help="Stop when more rows than this failed: a number, or a share of the finished rows "
            "(from 100 rows on). 100%: go on also where the first 20 rows all fail alike.",
        ),
        Typed(str | None, share_or_number),
    ] = None
    budget_usd: Annotated[
        float | None,
        MONEY(
            "--budget",
            metavar="USD",
            help="The most this command may spend, in US dollars. A request that could pass it is not sent.",
        ),
    ] = None
    budget_per_hour_usd: Annotated[
        float | None,
        MONEY("--budget-per-hour", metavar="USD", help="The most that any hour may cost, in US dollars."),
    ] = None
    on_budget: Annotated[
        str,
        MONEY(
            "--on-budget",
            metavar="stop|wait",
            help="When the hour's money is spent: stop, or wait for more and keep an even pace "
            "until all rows are done.",
        ),
    ] = "stop"
    prices: Annotated[
        list[str],
        MONEY(
            "--price",
            metavar="[MODEL=]IN:OUT",
            help="Dollars per million tokens in and out, for models that are not in the price list or cost you "
            "something else. Can be given several times; without MODEL, for all models.",
        ),
    ] = field(default_factory=list)
    max_output_tokens: Annotated[
        int | None,
        MONEY(
            "--max-output-tokens",
            metavar="N",
            min=1,
            help="With a budget: the most tokens of one answer, where the model's maximum is not known. "
            "It is sent along.",
        ),
    ] = None
    prompt_cache: Annotated[
        str,
        MONEY(
            "--prompt-cache",
            metavar="auto|on|off",
            help="Pay the prompt that rows share once, where the provider caches prompts. on: also ask for it in "
            "prompts of a --chain; off: send rows as if there were no such cache.",
        ),
    ] = "auto"
    mode: Annotated[
        str,
        MONEY(
            "--mode",
            metavar="live|batch|auto",
            help="batch sends requests through the provider's Batch API: half the price, answered within a day; "
            "what no batch can hold runs live. auto takes the cheapest.",
        ),
    ] = "live"
    detach: Annotated[
        bool,
        MONEY(
            "--detach",
            metavar="",
            help="With --mode batch: submit everything and leave; the same command again goes on.",
        ),
    ] = False
    deadline_s: Annotated[
        float | None,
        MONEY(
            "--deadline",
            metavar="SECONDS",
            min=1,
            help="With --mode auto: batches as long as all rows can still be done live in so many seconds; "
            "what would be late is pulled back and runs live.",
        ),
    ] = None
    batch_hosts: Annotated[
        list[str],
        MONEY(
            "--batch-host",
            metavar="HOST=PROVIDER",
            help="With --mode batch: whose Batch API is at an address that is not the provider's own, such as "
            "proxy:8080=openai. Can be given several times.",
        ),
    ] = field(default_factory=list)
    executor: Annotated[
        str,
        SPEED(
            "--executor",
            metavar="local|processes|ray",
            help="Where rows run: in this process, in several on this machine, or on a Ray cluster. Limits, budget, "
            "cache and store are shared.",
        ),
    ] = "local"
    workers: Annotated[
        int | None,
        SPEED(
            "--workers",
            metavar="N",
            min=1,
            help="How many processes or actors; without it, one for each core.",
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        SPEED(
            "--ray-address",
            metavar="ADDRESS",
            help="The Ray cluster's address, such as auto or ray://HOST:10001.",
        ),
    ] = None
    cache: Annotated[
        bool,
        CACHE(
            "--cache/--no-cache",
            metavar="",
            help="Ask equal rows once, also those of other runs of this store, and give all of them that answer.",
        ),
    ] = False
    id_field: Annotated[
        str | None,
        ROWS(
            "--id-field",
            metavar="NAME",
            help="The column that holds a row's id: the row keeps its place in the run "
            "also when its text is edited.",
        ),
    ] = None
    priority_field: Annotated[
        str | None,
        ROWS(
            "--priority-field",
            metavar="NAME",
            help="The column that holds a number: of the rows read so far, those with higher ones start first.",
        ),
    ] = None
    limit: Annotated[
        int | None, ROWS("--limit", metavar="N", min=1, help="Only the first N rows of the input.")
    ] = None
    delimiter: Annotated[
        str | None,
        ROWS(
            "--delimiter",
            metavar="CHAR",
            help="What separates a CSV's cells, such as ';' or tab. It is found in the header unless said; "
            "an output .csv has the same.",
        ),
    ] = None
    encoding: Annotated[
        str | None,
        ROWS(
            "--encoding",
            metavar="NAME",
            help="The input's encoding, such as gbk or cp1252. UTF-8, and UTF-16 with its mark, need no word.",
        ),
    ] = None
    input_format: Annotated[
        str | None,
        ROWS(
            "--input-format",
            metavar="jsonl|csv|tsv",
            help="What comes on standard input; else its first line tells.",
        ),
    ] = None
    bom: Bom = False
    guard_formulas: GuardFormulas = False
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
        """Return the fields as JSON for the store, without what may be secret."""
        from cottonpalm.stores.rules.leniently import VERSION

        kept, unkept = keepable(self.model_options)
        source = without_secrets(self.input)
        whole = self.input_kept and source == self.input
        spec = replace(self, input=source, input_kept=whole, model_options=kept, unkept=unkept)
        return {JOB: {VERSION: FORM, **asdict(spec)}}

    @classmethod
    def of(cls, meta: Mapping[str, Any], name: str) -> RunSpec:
        """Return the spec of a run in the store.

        Raises:
            Problem: the run was not made by the command line, or by a later one.
        """
        from cottonpalm.stores.rules.leniently import is_newer, kept_as

        if JOB not in meta:
            raise Problem(
                f"run {name} was made from Python (there: processor.retry()), or by a command that was ended as it"
                " began: give that command again"
            )
        if is_newer(meta[JOB], FORM):
            raise Problem(
                f"run {name} was made by a later version of cottonpalm; update this one to go on with it"
            )
        return kept_as(cls, meta[JOB])

    def with_options(self, pairs: list[str]) -> RunSpec:
        """Return the spec with more model options; these must include the options that were not stored.

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
