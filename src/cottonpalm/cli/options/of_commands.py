"""The options that no run keeps: of the commands, beside the fields of `RunSpec`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cottonpalm.cli.options.amounts import show_amounts_in
from cottonpalm.cli.options.panels import MONEY, ROWS, SEE, STATE, WHAT, Typed
from cottonpalm.cli.options.spec import MODEL_OPTION
from cottonpalm.cli.options.typer_classes import PORT
from cottonpalm.shell import DEFAULT_STORE
from cottonpalm.urls import absolute

if TYPE_CHECKING:
    from collections.abc import Sequence


def runs_like(context: typer.Context, incomplete: str) -> list[str]:
    """Return the store's runs whose names begin with this text, for completion in the shell."""
    from cottonpalm.cli.store.held_store import existing_store
    from cottonpalm.errors import CottonpalmError

    try:
        with existing_store(context.params.get("store") or DEFAULT_STORE) as store:
            names = [info.name for info in store.runs()]
    except CottonpalmError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _named(output: str | None) -> str:
    return absolute(output) if output else ""


PromptFile = Annotated[Path | None, WHAT("--prompt-file", metavar="FILE", help="The same, read from a file.")]
DryRun = Annotated[
    bool,
    ROWS(
        "--dry-run",
        metavar="",
        help="Show the first rows' messages as they would be sent, and how many would be asked. No call, no output.",
    ),
]
StoreUrl = Annotated[
    str,
    STATE("--store", metavar="FILE", help="The SQLite file that keeps what is done, or postgresql://..."),
]
RunName = Annotated[
    str | None,
    STATE(
        "--run",
        metavar="NAME",
        help="The run's name in the store. The output's name unless said; the same name goes on where it stopped.",
    ),
]
Fresh = Annotated[
    bool, STATE("--fresh", metavar="", help="Forget what this run has done and pay for every row again.")
]
Overwrite = Annotated[
    bool, STATE("--overwrite", metavar="", help="Replace an output file that this run did not write.")
]
PlannedOutput = Annotated[
    str,
    STATE(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="The output of the run that is planned: its name, where --run gives none.",
    ),
    Typed(str | None, _named),
]
Sample = Annotated[
    int,
    MONEY(
        "--sample",
        metavar="N",
        min=0,
        help="Run so many rows for real, drawn at random, and judge the others by them.",
    ),
]
ShowProgress = Annotated[
    bool,
    SEE(
        "--progress/--no-progress",
        metavar="",
        help="Show how far the run is: live on a terminal, a line every ten seconds elsewhere.",
    ),
]
Quiet = Annotated[bool, SEE("--quiet", "-q", metavar="", help="Say nothing but errors and warnings.")]
Verbose = Annotated[
    bool,
    SEE(
        "--verbose",
        "-v",
        metavar="",
        help="Also tell of retries, pauses and failed rows as they happen; tracebacks for unexpected errors.",
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
    SEE(
        "--report",
        metavar="FILE.html",
        help="At the end, also write the report there: plots, tables and advice for any browser.",
        show_default=False,
    ),
]
EventsFile = Annotated[
    str | None,
    SEE(
        "--events",
        metavar="FILE",
        help="Add each event to this file as it happens, a JSON line each.",
        show_default=False,
    ),
]
Streamed = Annotated[
    bool,
    SEE(
        "--stream",
        metavar="",
        help="Let answers stream, and show the last words of a few of them as they come.",
    ),
]
ShownIn = Annotated[
    str | None,
    SEE(
        "--currency",
        metavar="CODE=RATE",
        callback=show_amounts_in,
        help="Show amounts in this currency, at so much of it for a dollar, such as CNY=7.1. Options stay in dollars.",
        show_default=False,
    ),
]
Observers = Annotated[
    list[str],
    SEE(
        "--observer",
        metavar="NAME",
        help="Let an observer of an installed package see the run's events. Can be given several times.",
        show_default=False,
    ),
]
LivePage = Annotated[
    str | None,
    SEE(
        PORT,
        metavar="[PORT]",
        help="Also show the run live in a browser of this machine; the address is printed. Port 8765 unless said.",
        show_default=False,
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Where to listen: 8765, or any free port where that is taken.",
        show_default=False,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Listen at this address; the default reaches this machine alone. Anyone who has the token may then look.",
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
        help="What to write, in input order: .jsonl, .csv, .xlsx or .parquet, packed or not; an address; or - for "
        "JSONL.",
    ),
]
ModelOptions = Annotated[list[str], MODEL_OPTION]
AsJson = Annotated[
    bool,
    typer.Option("--json", metavar="", help="For programs: an object of JSON for each run, a line each."),
]
TheLimits = Annotated[
    bool,
    typer.Option(
        "--limits", metavar="", help="What runs have found of the providers' limits, and how long ago."
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", metavar="", help="Show it again every two seconds, until nobody works on it."),
]
ShowWhere = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        metavar="",
        help="Of failed rows, also the last line of your own code that was under way.",
    ),
]


def _configure(context: typer.Context, file: str | None) -> str | None:
    """Let a file give the defaults of this command, before its other options are read."""
    if not context.resilient_parsing:
        from cottonpalm.cli.options.config_file import options_of

        root: Any = context.find_root()
        root.obj["context"] = context  # an option that is refused later may stand in the file
        profile = _said("--profile", root.obj["argv"])
        both = [root.command.commands[name] for name in ("run", "plan")]
        context.default_map = {
            **options_of(file, profile, context.command, both),
            **(context.default_map or {}),
        }
    return file


def _said(flag: str, words: Sequence[str]) -> str | None:
    """What an option is given on the command line; None: nothing."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name == flag:
            return value if equals else following
    return None


ConfigFile = Annotated[
    str | None,
    SEE(
        "--config",
        metavar="FILE",
        callback=_configure,
        is_eager=True,
        help="Options from this file; cottonpalm.toml in this folder unless said. The command line goes before it.",
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    SEE(
        "--profile",
        metavar="NAME",
        help="Options of this profile of the file, too.",
        show_default=False,
    ),
]
Temperature = Annotated[
    float | None,
    WHAT("--temperature", metavar="N", help="Short for --model-option temperature=N.", show_default=False),
]
MaxTokens = Annotated[
    int | None,
    WHAT(
        "--max-tokens", metavar="N", min=1, help="Short for --model-option max_tokens=N.", show_default=False
    ),
]
