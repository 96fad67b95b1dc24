"""Builds a job's chain and its fallbacks, for rows with known columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from cottonpalm.cli.chains.models import build_model, check_model
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.rows import listed, request_column

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    from cottonpalm.cli.chains.messages import RowImages, RowMessages
    from cottonpalm.cli.chains.prompts import RowPrompt
    from cottonpalm.cli.chains.schema import Form
    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.readers.rows import InputRows
    from cottonpalm.cli.readers.stored_rows import StoredInput

    Prompt: TypeAlias = RowPrompt | RowMessages | RowImages


class Built(NamedTuple):
    """The chain that answers rows, its fallbacks, and the form that answers must have.

    Attributes:
        replicas: chains like `chain`, on other servers.
        each: an answer is a list of several, each of which must have the form.
    """

    chain: Runnable[Any, Any]
    fallbacks: list[Runnable[Any, Any]]
    form: Form | None
    replicas: list[Runnable[Any, Any]]
    each: bool = False

    @property
    def validate(self) -> Callable[[Any], object] | None:
        """Return the function that refuses an answer without the form; None if there is no form."""
        if self.form is None:
            return None
        check = self.form.check
        return check if not self.each else lambda answers: [check(answer) for answer in answers]


def build(job: RunSpec, rows: InputRows | StoredInput, *, quiet: bool, unasked: bool = False) -> Built:
    """Build a job's chain, one more for each further `--base-url`, and one for each `--fallback`, with the same prompt.

    Args:
        job: what was asked for.
        rows: the input.
        quiet: say nothing while a model is fetched.
        unasked: nothing will be sent to a model, so that none needs a key.

    Raises:
        Problem: a chain cannot be made; nothing was called yet.
    """
    if job.chain is not None:
        from cottonpalm.cli.chains.importing import load_chain

        return Built(_often(job, load_chain(job.chain, job.folder)), [], None, [])
    form = form_of(job)
    wanted = _Wanted(job, None if job.requests else prompt_of(job, rows), rows, form, quiet, unasked)
    model = job.model or "local"
    chain, *replicas = (
        _answering(wanted, model, "--model", url) for url in (job.base_url, *job.replica_urls)
    )
    same = check_model(model)[0]  # a server speaks the protocol of only one provider
    fallbacks = [
        _answering(wanted, spec, "--fallback", job.base_url if check_model(spec)[0] == same else None)
        for spec in job.fallbacks
    ]
    return Built(chain, fallbacks, form, replicas, each=job.times > 1 and not job.vote)


def fields_of(job: RunSpec, built: Built) -> list[str] | None:
    """The fields of answers that become columns; None: an answer is one column."""
    if job.columns is not None:
        return [name.strip() for name in job.columns.split(",") if name.strip()]
    return None if built.form is None or built.each else built.form.fields


def form_of(job: RunSpec) -> Form | None:
    """Return the form of the answers, if the job names one."""
    if job.schema is None:
        return None
    from cottonpalm.cli.chains.schema import load_form

    return load_form(job.schema, job.folder)


def prompt_of(job: RunSpec, rows: InputRows | StoredInput) -> Prompt:
    """Return the prompt of a job without a chain. From now on, a row that lacks one of its columns is a bad row.

    Raises:
        Problem: it names what is no column.
    """
    text = _text_of(job, rows)
    prompt: Prompt = text
    if job.images:
        from cottonpalm.cli.chains.messages import with_images

        prompt = with_images(text, job.images, rows.columns, job.folder)
    rows.need(prompt.cottonpalm_reads)
    return prompt


def need_columns(job: RunSpec, rows: InputRows | StoredInput) -> None:
    """As while the job runs: from now on, a row that lacks a column of its question is a bad row.

    Raises:
        Problem: the input has no such column.
    """
    if job.requests:
        rows.need(("custom_id", request_column(rows.columns, job.source)))
    elif job.chain is None:
        prompt_of(job, rows)


def _text_of(job: RunSpec, rows: InputRows | StoredInput) -> RowPrompt | RowMessages:
    if job.messages is not None:
        from cottonpalm.cli.chains.messages import RowMessages

        if job.messages not in rows.columns:
            raise Problem(
                f"--messages {job.messages}: {job.source} has no such column; it has {listed(rows.columns)}"
            )
        return RowMessages(column=job.messages, system=job.system)
    from cottonpalm.cli.chains.prompts import row_prompt

    return row_prompt(job.prompt or "", job.system, rows.columns, job.source, literal=job.literal_braces)


class _Wanted(NamedTuple):
    """The common part of the chains of all models."""

    job: RunSpec
    prompt: Prompt | None  # None: the rows are requests
    rows: InputRows | StoredInput
    form: Form | None
    quiet: bool
    unasked: bool


def _answering(wanted: _Wanted, spec: str, flag: str, url: str | None) -> Runnable[Any, Any]:
    model = build_model(
        spec, wanted.job.model_options, url, flag=flag, quiet=wanted.quiet, unasked=wanted.unasked
    )
    if wanted.form is None:
        from langchain_core.output_parsers import StrOutputParser

        if wanted.prompt is None:
            from cottonpalm.cli.chains.messages import RowRequest

            column = request_column(wanted.rows.columns, wanted.job.source)
            wanted.rows.need(("custom_id", column))
            return _often(wanted.job, RowRequest(model=model, column=column) | StrOutputParser())
        return _after(wanted, model | StrOutputParser())
    from cottonpalm.cli.chains.schema import asking

    return _after(wanted, asking(model, check_model(spec, flag)[0], wanted.form))


def _after(wanted: _Wanted, answering: Runnable[Any, Any]) -> Runnable[Any, Any]:
    assert wanted.prompt is not None
    return wanted.prompt | _often(wanted.job, answering)


def _often(job: RunSpec, chain: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The chain, asked as often as the job says."""
    if job.times == 1:
        return chain
    from cottonpalm.cli.chains.several import Several

    return Several(chain=chain, times=job.times, vote=job.vote)
