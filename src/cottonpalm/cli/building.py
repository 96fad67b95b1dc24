"""A job's chain and its fallbacks, for rows with known columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.cli.models import build_model, check_model

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from cottonpalm.cli.again import StoredRows
    from cottonpalm.cli.job import Job
    from cottonpalm.cli.prompts import RowPrompt
    from cottonpalm.cli.row_source import Rows


class Built(NamedTuple):
    """What answers a row, and what answers where that cannot."""

    chain: Runnable[Any, Any]
    fallbacks: list[Runnable[Any, Any]]


def build(job: Job, rows: Rows | StoredRows, *, quiet: bool = False) -> Built:
    """The chain of a job, and one for each `--fallback`: the same prompt for another model.

    Raises:
        Problem: it cannot be made; nothing was called yet.
    """
    if job.chain is not None:
        from cottonpalm.cli.chains import load_chain

        return Built(load_chain(job.chain, job.folder), [])
    prompt = prompt_of(job, rows)
    chain = _answering(job, prompt, job.model or "local", "--model", quiet=quiet)
    return Built(chain, [_answering(job, prompt, spec, "--fallback", quiet=quiet) for spec in job.fallbacks])


def prompt_of(job: Job, rows: Rows | StoredRows) -> RowPrompt:
    """The prompt of a job without a chain; rows that lack one of its columns are bad rows from now on."""
    from cottonpalm.cli.prompts import row_prompt

    prompt = row_prompt(job.prompt or "", job.system, rows.columns, job.source)
    rows.need(prompt.columns)
    return prompt


def _answering(job: Job, prompt: RowPrompt, spec: str, flag: str, *, quiet: bool) -> Runnable[Any, Any]:
    from langchain_core.output_parsers import StrOutputParser

    same = check_model(spec, flag)[0] == check_model(job.model or "local")[0]
    url = job.base_url if same or flag == "--model" else None  # a server speaks one provider's protocol
    model = build_model(spec, job.model_options, url, flag=flag, quiet=quiet)
    return prompt | model | StrOutputParser()
