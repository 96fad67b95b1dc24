"""Builds a job's chain and its fallbacks, for rows with known columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.cli.chains.models import build_model, check_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    from cottonpalm.cli.chains.prompts import RowPrompt
    from cottonpalm.cli.chains.schema import Form
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredRows
    from cottonpalm.cli.spec import RunSpec


class Built(NamedTuple):
    """The chain that answers rows, its fallbacks, and the form that answers must have.

    Attributes:
        replicas: chains like `chain`, on other servers.
    """

    chain: Runnable[Any, Any]
    fallbacks: list[Runnable[Any, Any]]
    form: Form | None
    replicas: list[Runnable[Any, Any]]

    @property
    def validate(self) -> Callable[[Any], object] | None:
        """Return the function that refuses an answer without the form; None if there is no form."""
        return None if self.form is None else self.form.check


def build(job: RunSpec, rows: InputRows | StoredRows, *, quiet: bool = False) -> Built:
    """Build a job's chain, one more for each further `--base-url`, and one for each `--fallback`, with the same prompt.

    Raises:
        Problem: a chain cannot be made; nothing was called yet.
    """
    if job.chain is not None:
        from cottonpalm.cli.chains.importing import load_chain

        return Built(load_chain(job.chain, job.folder), [], None, [])
    form = form_of(job)
    wanted = _Wanted(job, prompt_of(job, rows), form, quiet)
    model = job.model or "local"
    chain, *replicas = (
        _answering(wanted, model, "--model", url) for url in (job.base_url, *job.replica_urls)
    )
    same = check_model(model)[0]  # a server speaks the protocol of only one provider
    fallbacks = [
        _answering(wanted, spec, "--fallback", job.base_url if check_model(spec)[0] == same else None)
        for spec in job.fallbacks
    ]
    return Built(chain, fallbacks, form, replicas)


def form_of(job: RunSpec) -> Form | None:
    """Return the form of the answers, if the job names one."""
    if job.schema is None:
        return None
    from cottonpalm.cli.chains.schema import load_form

    return load_form(job.schema, job.folder)


def prompt_of(job: RunSpec, rows: InputRows | StoredRows) -> RowPrompt:
    """Return the prompt of a job without a chain. From now on, a row that lacks one of its columns is a bad row."""
    from cottonpalm.cli.chains.prompts import row_prompt

    literal = job.literal_braces
    prompt = row_prompt(job.prompt or "", job.system, rows.columns, job.source, literal=literal)
    rows.need(prompt.columns)
    return prompt


class _Wanted(NamedTuple):
    """The common part of the chains of all models."""

    job: RunSpec
    prompt: RowPrompt
    form: Form | None
    quiet: bool


def _answering(wanted: _Wanted, spec: str, flag: str, url: str | None) -> Runnable[Any, Any]:
    model = build_model(spec, wanted.job.model_options, url, flag=flag, quiet=wanted.quiet)
    if wanted.form is None:
        from langchain_core.output_parsers import StrOutputParser

        return wanted.prompt | model | StrOutputParser()
    from cottonpalm.cli.chains.schema import asking

    return wanted.prompt | asking(model, check_model(spec, flag)[0], wanted.form)
