"""Makes commands from a run's spec; shapes their help and the completion of words."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from cottonpalm.cli.amounts import show_amounts_in
from cottonpalm.cli.panels import MONEY, ROWS, SEE, STATE, WHAT, Typed
from cottonpalm.cli.spec import MODEL_OPTION, RunSpec
from cottonpalm.cli.urls import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HINTS: Final[Mapping[str, Any]] = get_type_hints(RunSpec, include_extras=True)
DEFAULTS: Final[Mapping[str, Any]] = {field.name: field.default for field in fields(RunSpec)}


PORT: Final = "--dashboard"  # its value may be left out, which the parser does not know


class Command(TyperCommand):
    """A command whose help does not show the types of its flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the port of `--dashboard` where it was left out."""
        return super().parse_args(ctx, with_port(args))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return [_unread(option) for option in super().get_params(ctx)]

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))


class Group(TyperGroup):
    """The program, whose help does not show them either; it lists commands in the order in which they are made.

    Its own help is plain text, as it is asked for most: loading what draws panels takes longer than all else of it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "rich_markup_mode": None})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, each with the whole first paragraph of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n\n")[0]) for name, command in commands if command]
            )

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, those for completion without `<bool>`."""
        return [_unread(_plain(option)) for option in super().get_params(ctx)]


def with_port(args: list[str]) -> list[str]:
    """`--dashboard` without a number after it means any port."""
    return [
        f"{PORT}=auto" if word == PORT and not "".join(args[at : at + 1]).isdecimal() else word
        for at, word in enumerate(args, 1)
    ]


def _plain(option: Any) -> Any:
    if option is not None and option.param_type_name == "option":
        option.metavar = ""
    return option


def _unread(option: Any) -> Any:
    """Read only what was typed: for each value that it reads, typer has pydantic make a reader."""
    if "process_value" not in vars(option):
        read = option.process_value
        option.process_value = lambda ctx, value: (
            value if ctx.resilient_parsing or _is_default(option, ctx, value) else read(ctx, value)
        )
    return option


def _is_default(option: Any, ctx: Any, value: object) -> bool:
    """Whether this is a default that stands as it is."""
    if option.callback is not None or option.required or option.multiple or option.nargs != 1:
        return False
    plain = value is None or type(value) in (str, int, float, bool)
    return plain and ctx.get_parameter_source(option.name).name == "DEFAULT"


def runs_like(context: typer.Context, incomplete: str) -> list[str]:
    """Return the store's runs whose names begin with this text, for completion in the shell."""
    from cottonpalm.cli.held_store import existing_store
    from cottonpalm.errors import CottonpalmError

    try:
        with existing_store(context.params.get("store") or "cottonpalm.db") as store:
            names = [info.name for info in store.runs()]
    except CottonpalmError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def takes(names: str, **instead: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command from a function (context, spec, and the command's own parameters), with options in this order.

    Args:
        names: fields of `RunSpec`, which the function gets as one spec, and the function's own parameters.
        instead: replaces the declarations of some of these fields; such an option may be left out, and is then None.
    """
    hints = {**HINTS, **instead}
    defaults = {**DEFAULTS, **dict.fromkeys(instead)}

    def command_of(function: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(function, eval_str=True).parameters

        @wraps(function)
        def command(context: typer.Context, **typed: Any) -> int:
            given = {name: typed.pop(name) for name in list(typed) if name not in own}
            return function(context, RunSpec(**_kept(given, hints)), **typed)

        shown = [own[name] if name in own else _option(name, hints, defaults) for name in names.split()]
        signature = inspect.Signature([own["context"], *shown])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        return command

    return command_of


def _option(name: str, hints: Mapping[str, Any], defaults: Mapping[str, Any]) -> inspect.Parameter:
    """Return a field as typer needs it: its type, its help, its default (an empty list for a repeatable option)."""
    kept, shown, *_ = get_args(hints[name])
    how = _typed(hints[name])
    kind = kept if how is None else how.type
    default = [] if kind == list[str] else defaults[name]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, shown],
    )


def _kept(given: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec, converted from what the user typed."""
    found: dict[str, Any] = {}
    for name, hint in hints.items():
        how = _typed(hint)
        option = name if how is None else how.option or name
        if option in given:
            found[name] = given[option] if how is None else how.kept(given[option])
    return found


def _typed(hint: Any) -> Typed | None:
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Typed)), None)


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
Quiet = Annotated[bool, SEE("--quiet", "-q", metavar="", help="Say nothing but errors.")]
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
        help="What to write, in input order: .jsonl, .csv or .parquet, packed or not; an address; or - for JSONL.",
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
        from cottonpalm.cli.config_file import options_of

        profile = _said("--profile", context.find_root().obj["argv"])
        context.default_map = {**options_of(file, profile, context.command), **(context.default_map or {})}
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
