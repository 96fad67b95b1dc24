"""The commands that take rows: `run` answers them, `plan` says what that would cost."""

from __future__ import annotations

import gc

import typer  # noqa: TC002 - typer reads the annotations

from cottonpalm.cli.context import argv_of, screen_of, take_keys
from cottonpalm.cli.options import of_commands as o
from cottonpalm.cli.options.spec import RunSpec  # noqa: TC001 - likewise
from cottonpalm.cli.options.takes import takes
from cottonpalm.cli.problems import Problem
from cottonpalm.shell import DEFAULT_STORE


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
    store: o.StoreUrl = DEFAULT_STORE,
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

    screen = screen_of(context, quiet=quiet, verbose=verbose, progress=progress)
    take_keys(job, screen)
    job = checked(_with_short(job, temperature, max_tokens), prompt_file)
    if run == "":
        raise Problem(
            "--run '': a run's name needs a letter at least; leave --run out to use the output's name"
        )
    name = run or run_name(job.input, job.output)
    if dry_run:
        from cottonpalm.cli.commands.dry_run import show_first_rows

        return show_first_rows(job, screen, store, name, named=bool(run) or overwrite, fresh=fresh)
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
        argv=argv_of(context),
        page=report,
        events=events,
        observers=observer,
        live=dashboard,
        stream=stream,
    )
    if is_sharded(job.input):
        return run_sharded(job, where, screen)
    return carry_out(job, where, screen)


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
    store: o.StoreUrl = DEFAULT_STORE,
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

    screen = screen_of(context, quiet=quiet, verbose=False, progress=False)
    take_keys(job, screen)
    job = checked(_with_short(job, temperature, max_tokens), prompt_file)
    name = run or (run_name(job.input, job.output) if job.output else None)
    return show_plan(job, At(store, name, named=bool(run)), sample, screen)


def _with_short(job: RunSpec, temperature: float | None, max_tokens: int | None) -> RunSpec:
    """Return the spec with the model options that have words of their own."""
    from dataclasses import replace

    short = {"temperature": temperature, "max_tokens": max_tokens}
    said = {name: value for name, value in short.items() if value is not None}
    return replace(job, model_options={**job.model_options, **said})
