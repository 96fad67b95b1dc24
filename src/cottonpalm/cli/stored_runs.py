"""The commands on the runs of a store: going on with one, showing it, writing its answers, forgetting it."""

from __future__ import annotations

import typer  # noqa: TC002 - typer reads the annotations

from cottonpalm.cli.context import argv_of, screen_of, take_keys
from cottonpalm.cli.options import of_commands as o  # noqa: TC001 - likewise
from cottonpalm.cli.options.spec import Bom, GuardFormulas  # noqa: TC001 - likewise
from cottonpalm.shell import DEFAULT_STORE, Code


def retry(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
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
    screen = screen_of(context, quiet=quiet, verbose=verbose, progress=progress)
    take_keys(job, screen)
    where = Where(store, run, again=True, argv=argv_of(context), page=report, events=events, live=dashboard)
    if is_sharded(job.input):
        return run_sharded(job, where, screen)
    return carry_out(job, where, screen)


def collect(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
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
    screen = screen_of(context, quiet=quiet, verbose=verbose, progress=progress)
    take_keys(job, screen)
    return carry_out(job, Where(store, run, argv=argv_of(context)), screen)


def cancel(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
    model_option: o.ModelOptions = [],  # noqa: B006 - typer copies it
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Stop the batches of a run that are out. What they have done by then is kept, and paid."""
    from dataclasses import replace

    from cottonpalm.cli.commands.run import carry_out
    from cottonpalm.cli.commands.status import job_of, sent_batches
    from cottonpalm.cli.commands.where import Where

    job = replace(job_of(store, run).with_options(model_option), detach=False, deadline_s=None)
    screen = screen_of(context, quiet=quiet, verbose=verbose, progress=progress)
    take_keys(job, screen)
    if not sent_batches(store, run):
        screen.say(f"nothing to cancel: run {run} has sent no batches")
        return Code.OK
    return carry_out(job, Where(store, run, argv=argv_of(context), cancel=True), screen)


def export(
    context: typer.Context,
    run: o.OneRun,
    input: o.InputAgain = None,  # noqa: A002 - its name on the screen
    *,
    output: o.ExportPath,
    everything: o.Everything = False,
    store: o.StoreUrl = DEFAULT_STORE,
    overwrite: o.Overwrite = False,
    bom: Bom = False,
    guard_formulas: GuardFormulas = False,
    quiet: o.Quiet = False,
) -> int:
    """Write a run's results from the store to a file of any format. Nothing is called."""
    from cottonpalm.cli.commands.export import Export, show_export
    from cottonpalm.urls import absolute

    source = None if input is None else absolute(input)
    asked = Export(run, absolute(output), source, everything, guard_formulas, overwrite, bom)
    return show_export(store, asked, screen_of(context, quiet=quiet, verbose=False, progress=False))


def report(
    context: typer.Context,
    run: o.OneRun,
    other: o.OtherRun = None,
    *,
    output: o.PagePath = None,
    store: o.StoreUrl = DEFAULT_STORE,
    currency: o.ShownIn = None,  # noqa: ARG001 - its callback does it
    overwrite: o.ReplacePage = False,
    quiet: o.Quiet = False,
) -> int:
    """Show where a run's time and money went and what to change; or compare two runs. Nothing is called."""
    from cottonpalm.cli.commands.report import show_report

    names = [run] if other is None else [run, other]
    screen = screen_of(context, quiet=quiet, verbose=False, progress=False)
    return show_report(store, names, output, screen, overwrite=overwrite)


def status(
    run: o.AnyRun = None,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
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


def dashboard(
    context: typer.Context,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
    port: o.Port = None,
    host: o.Host = "127.0.0.1",
    currency: o.ShownIn = None,  # noqa: ARG001 - its callback does it
) -> int:
    """Show all runs of a store in a browser, as they go: rows, failures, money, and buttons to pause or cancel."""
    from cottonpalm.cli.commands.dashboard import show_dashboard

    return show_dashboard(store, host, port, screen_of(context, quiet=False, verbose=False, progress=False))


def rm(
    context: typer.Context,
    run: o.OneRun,
    *,
    store: o.StoreUrl = DEFAULT_STORE,
    yes: o.Yes = False,
    quiet: o.Quiet = False,
) -> int:
    """Forget a run: its answers and failures leave the store. Its output file stays."""
    from cottonpalm.cli.commands.rm import remove_run

    return remove_run(store, run, screen_of(context, quiet=quiet, verbose=False, progress=False), sure=yes)
