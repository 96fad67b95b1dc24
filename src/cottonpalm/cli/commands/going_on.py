"""The command that goes on with a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.cli.screen import summary, wording
from cottonpalm.shell import command_on
from cottonpalm.urls import without_secrets

if TYPE_CHECKING:
    from cottonpalm.cli.commands.where import Where
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.errors import RunStopped


def going_on(where: Where, job: RunSpec, stopped: RunStopped | None) -> str:
    """Return it, with what is to be done first, if the run `stopped` for something that asking again does not mend."""
    if where.cancel:  # to be asked once more would only stop what goes on
        return command_on("collect", where.run, where.store)
    said = (without_secrets(word) if word == job.input else word for word in where.argv)
    command = summary.resume_command(list(said))
    if job.input == "-" and job.output == "-" and not where.named:
        command += f" --run {where.run}"
    if job.input == "-":
        command = f"… | {command}"
    if stopped is None:
        return command
    if not wording.ended_by_budget(stopped):
        return command + wording.lacking(stopped)
    return f"{'later' if job.budget_usd is None else 'with a higher --budget'}: {command}"
