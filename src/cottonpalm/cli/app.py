"""`cottonpalm`: rows in, answers out. Data goes to files and stdout, everything for people to stderr."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cottonpalm import __version__
from cottonpalm.cli import options as o
from cottonpalm.cli.explained import check_text, explain, interrupted
from cottonpalm.cli.problems import Code, Problem
from cottonpalm.cli.signals import hold_standard_streams
from cottonpalm.cli.spec import Bom, GuardFormulas, RunSpec  # noqa: TC001 - typer reads the annotations
from cottonpalm.cli.takes import takes
from cottonpalm.cli.typer_classes import Command, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="cottonpalm",
    help="Runs a prompt or a LangChain chain over every row of a file, and loses nothing.",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cottonpalm {__version__}")
        raise typer.Exit


@app.callback()
def cottonpalm(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, metavar="", help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Runs a prompt or a LangChain chain over every row of a file, and loses nothing."""


@app.command(cls=Command)
@takes(
    "input output chain model prompt prompt_file system literal_braces messages images requests times vote "
    "columns schema model_options temperature max_tokens accept_truncated id_field "
    "priority_field limit delimiter encoding input_format dry_run concurrency max_concurrency rpm tpm timeout_s "
    "base_url no_hedge transport retries fallbacks max_failures budget_usd budget_per_hour_usd on_budget prices "
    "max_output_tokens prompt_cache mode detach deadline_s batch_hosts executor workers ray_address cache store run "
    "fresh overwrite bom guard_formulas report events observer dashboard stream currency profile config progress "
    "quiet verbose"
)
def run(
    context: typer.Context,
    job: RunSpec,
    *,
    prompt_file: o.PromptFile = None,
    dry_run: o.DryRun = False,
    store: o.StoreUrl = "cottonpalm.db",
    run: o.RunName = None,
    fresh: o.Fresh = False,
    overwrite: o.Overwrite = False,
    report: o.ReportFile = None,
    events: o.EventsFile = None,
    observer: o.Observers = [],  # noqa: B006 - typer copies it
    currency: o.ShownIn = None,  # noqa: ARG001 - its callback does it
    dashboard: o.LivePage = None,
    stream: o.Streamed = False,
    temperature: o.Temperature = None,
    max_tokens: o.MaxTokens = None,
    profile: o.Profile = None,  # noqa: ARG001 - read before the other options, as the next
    config: o.ConfigFile = None,  # noqa: ARG001
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Answer every row of INPUT, and write the answers to a file.

    The same command again goes on where it stopped; a finished run is left as it is.

    cottonpalm run in.csv -o out.csv -m openai:gpt-4o-mini -p "Positive? {text}"

    cottonpalm run in.csv -o out.csv -m ollama:llama3.2 -p "Translate: {text}"

    cottonpalm run in.jsonl -o out.jsonl --chain app:chain --budget 5
    """
    gc.disable()  # until the run begins: what is loaded stays, and to look through it costs a tenth of loading it
    from cottonpalm.cli.checks import checked
    from cottonpalm.cli.writers.open_output import run_name

    taken = _keys(job)
    job = checked(_with_short(job, temperature, max_tokens), prompt_file)
    if run == "":
        raise Problem(
            "--run '': a run's name needs a letter at least; leave --run out to use the output's name"
        )
    screen = _screen(context, quiet=quiet, verbose=verbose, progress=progress)
    if taken:
        screen.say(f"note: {taken}")
    name = run or run_name(job.input, job.output)
    if dry_run:
        from cottonpalm.cli.commands.dry_run import show_first_rows

        return show_first_rows(job, screen, store, name, named=bool(run) or fresh or overwrite)
    if job.input == job.output == "-" and run is None:
        screen.say(f"this run's name is {name}")

    from cottonpalm.cli.commands.run import carry_out
    from cottonpalm.cli.commands.sharded import is_sharded, run_sharded
    from cottonpalm.cli.commands.where import Where

    where = Where(
        store,
        name,
        fresh,
        overwrite,
        argv=_argv(context),
        page=report,
        events=events,
        observers=observer,
        live=dashboard,
        stream=stream,
    )
    if is_sharded(job.input):
        return run_sharded(job, where, screen)
    return carry_out(job, where, screen)


@app.command(cls=Command)
@takes(
    "input chain model prompt prompt_file system literal_braces messages images requests times vote schema "
    "model_options temperature max_tokens base_url id_field limit "
    "delimiter encoding input_format sample fallbacks prices "
    "budget_usd budget_per_hour_usd on_budget max_output_tokens prompt_cache mode detach deadline_s batch_hosts "
    "concurrency cache store output run currency profile config quiet",
    output=o.PlannedOutput,
)
def plan(
    context: typer.Context,
    job: RunSpec,
    *,
    prompt_file: o.PromptFile = None,
    sample: o.Sample = 0,
    store: o.StoreUrl = "cottonpalm.db",
    run: o.RunName = None,
    temperature: o.Temperature = None,
    max_tokens: o.MaxTokens = None,
    currency: o.ShownIn = None,  # noqa: ARG001 - its callback does it
    profile: o.Profile = None,  # noqa: ARG001 - read before the other options, as the next
    config: o.ConfigFile = None,  # noqa: ARG001
    quiet: o.Quiet = False,
) -> int:
    """Show what a run over INPUT would cost and how long it would take, without a call.

    Only --sample N makes some: of the rows of the run, whose answers are kept for it.
    """
    from cottonpalm.cli.checks import checked
    from cottonpalm.cli.commands.plan import At, show_plan
    from cottonpalm.cli.writers.open_output import run_name

    _keys(job)
    job = checked(_with_short(job, temperature, max_tokens), prompt_file)
    name = run or (run_name(job.input, job.output) if job.output else None)
    return show_plan(
        job,
        At(store, name, named=bool(run)),
        sample,
        _screen(context, quiet=quiet, verbose=False, progress=False),
    )


@app.command(cls=Command)
def retry(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    model_option: o.ModelOptions = [],  # noqa: B006 - typer copies it
    report: o.ReportFile = None,
    events: o.EventsFile = None,
    dashboard: o.LivePage = None,
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Do the failed rows of a run again, and update its output."""
    from cottonpalm.cli.commands.run import carry_out
    from cottonpalm.cli.commands.sharded import is_sharded, run_sharded
    from cottonpalm.cli.commands.status import job_of
    from cottonpalm.cli.commands.where import Where

    job = job_of(store, run).with_options(model_option)
    screen = _screen(context, quiet=quiet, verbose=verbose, progress=progress)
    where = Where(store, run, again=True, argv=_argv(context), page=report, events=events, live=dashboard)
    if is_sharded(job.input):
        return run_sharded(job, where, screen)
    return carry_out(job, where, screen)


@app.command(cls=Command)
def collect(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    model_option: o.ModelOptions = [],  # noqa: B006 - typer copies it
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Go on with a run whose batches are out: wait for them, and answer what is left."""
    from dataclasses import replace

    from cottonpalm.cli.commands.run import carry_out
    from cottonpalm.cli.commands.status import job_of
    from cottonpalm.cli.commands.where import Where

    job = replace(job_of(store, run).with_options(model_option), detach=False)
    screen = _screen(context, quiet=quiet, verbose=verbose, progress=progress)
    return carry_out(job, Where(store, run, argv=_argv(context)), screen)


@app.command(cls=Command)
def cancel(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    model_option: o.ModelOptions = [],  # noqa: B006 - typer copies it
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Stop the batches of a run that are out. What they have done by then is kept, and paid."""
    from dataclasses import replace

    from cottonpalm.cli.commands.run import carry_out
    from cottonpalm.cli.commands.status import job_of
    from cottonpalm.cli.commands.where import Where

    job = replace(job_of(store, run).with_options(model_option), detach=False, deadline_s=None)
    screen = _screen(context, quiet=quiet, verbose=verbose, progress=progress)
    return carry_out(job, Where(store, run, argv=_argv(context), cancel=True), screen)


@app.command(cls=Command)
def export(
    context: typer.Context,
    run: o.OneRun,
    input: o.InputAgain = None,  # noqa: A002 - its name on the screen
    *,
    output: o.ExportPath,
    everything: o.Everything = False,
    store: o.StoreUrl = "cottonpalm.db",
    overwrite: o.Overwrite = False,
    bom: Bom = False,
    guard_formulas: GuardFormulas = False,
    quiet: o.Quiet = False,
) -> int:
    """Write a run's results from the store to a file of any format. Nothing is called."""
    from cottonpalm.cli.commands.export import Export, show_export
    from cottonpalm.cli.urls import absolute

    source = None if input is None else absolute(input)
    asked = Export(run, absolute(output), source, everything, guard_formulas, overwrite, bom)
    return show_export(store, asked, _screen(context, quiet=quiet, verbose=False, progress=False))


@app.command(cls=Command)
def report(
    context: typer.Context,
    run: o.OneRun,
    other: o.OtherRun = None,
    *,
    output: o.PagePath = None,
    store: o.StoreUrl = "cottonpalm.db",
    overwrite: o.ReplacePage = False,
    quiet: o.Quiet = False,
) -> int:
    """Show where a run's time and money went and what to change; or compare two runs. Nothing is called."""
    from cottonpalm.cli.commands.report import show_report

    names = [run] if other is None else [run, other]
    screen = _screen(context, quiet=quiet, verbose=False, progress=False)
    return show_report(store, names, output, screen, overwrite=overwrite)


@app.command(cls=Command)
def status(
    run: o.AnyRun = None,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    json: o.AsJson = False,
    watch: o.Watch = False,
    limits: o.TheLimits = False,
    currency: o.ShownIn = None,  # noqa: ARG001 - its callback does it
    verbose: o.ShowWhere = False,
) -> int:
    """Show the runs of a store: what is done, failed and left, what it cost, and who works on it."""
    from cottonpalm.cli.commands.status import show_limits, show_status
    from cottonpalm.cli.commands.status_lines import show_json, watched

    if limits:
        show_limits(store)
        return Code.OK
    try:
        for _ in watched(store, run) if watch else (None,):
            show_json(store, run) if json else show_status(store, run, verbose=verbose)
    except KeyboardInterrupt:  # so one leaves what one watches
        if not watch:
            raise
    return Code.OK


@app.command(cls=Command)
def dashboard(
    context: typer.Context,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    port: o.Port = None,
    host: o.Host = "127.0.0.1",
) -> int:
    """Show all runs of a store in a browser, as they go: rows, failures, money, and buttons to pause or cancel."""
    from cottonpalm.cli.commands.dashboard import show_dashboard

    return show_dashboard(store, host, port, _screen(context, quiet=False, verbose=False, progress=False))


@app.command(cls=Command)
def init() -> int:
    """Write a cottonpalm.toml with comments to this folder: options that its commands share."""
    from cottonpalm.cli.config_file import write_beginning

    typer.echo(f"{write_beginning()} is written; what stands in it holds for run and plan in this folder")
    return Code.OK


@app.command(cls=Command)
def rm(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = "cottonpalm.db",
    yes: o.Yes = False,
    quiet: o.Quiet = False,
) -> int:
    """Forget a run: its answers and failures leave the store. Its output file stays."""
    from cottonpalm.cli.commands.rm import remove_run

    return remove_run(store, run, _screen(context, quiet=quiet, verbose=False, progress=False), sure=yes)


@app.command(cls=Command)
def demo(
    context: typer.Context,
    *,
    rows: Annotated[
        int, typer.Option("--rows", "-n", metavar="N", min=1, help="How many sentences to label.")
    ] = 100,
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """A real run on real input with the embedded model: label product reviews, and count how many are right."""
    from cottonpalm.cli.commands.demo import show_demo

    return show_demo(rows, _screen(context, quiet=quiet, verbose=verbose, progress=progress), _argv(context))


def _keys(job: RunSpec) -> str | None:
    from cottonpalm.cli.chains.env_file import take_keys

    return take_keys(job.folder)


def _with_short(job: RunSpec, temperature: float | None, max_tokens: int | None) -> RunSpec:
    """Return the spec with the model options that have words of their own."""
    from dataclasses import replace

    short = {"temperature": temperature, "max_tokens": max_tokens}
    said = {name: value for name, value in short.items() if value is not None}
    return replace(job, model_options={**job.model_options, **said})


def _screen(context: typer.Context, *, quiet: bool, verbose: bool, progress: bool) -> Any:
    from cottonpalm.cli.screen import Screen

    if quiet and verbose:
        raise Problem("say -q or -v, not both")
    screen = Screen(quiet=quiet, verbose=verbose, progress=progress)
    context.find_root().obj["screen"] = screen
    return screen


def _argv(context: typer.Context) -> Sequence[str]:
    found: Sequence[str] = context.find_root().obj["argv"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code; every error is one line on stderr."""
    hold_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    state: dict[str, Any] = {"argv": words}
    try:
        check_text(words)
        code = app(args=words, prog_name="cottonpalm", standalone_mode=False, obj=state)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # noqa: BLE001 - the last place: everything becomes one line and a code
        return explain(error, state)
    finally:
        gc.enable()
    if code == Code.INTERRUPTED and not isinstance(code, Code):  # typer's own: Ctrl-C outside a run
        return interrupted()
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
