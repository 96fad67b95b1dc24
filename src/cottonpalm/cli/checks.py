"""Checks the options of `run` before anything is opened. An error is one line that says what to mend."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cottonpalm.cli.chains.models import PROVIDERS, check_model, keys_set
from cottonpalm.cli.options.amounts import prices_of
from cottonpalm.cli.options.keywords import budget_of, limits_of
from cottonpalm.cli.options.model_options import check_urls
from cottonpalm.cli.problems import Problem, os_problem

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.cli.options.spec import RunSpec


def checked(job: RunSpec, prompt_file: Path | None) -> RunSpec:
    """Return the checked spec, with the prompt from its file if there is one.

    Raises:
        Problem: as for `check_what`; or the file cannot be read.
    """
    job = replace(job, prompt=read_prompt(job.prompt, prompt_file))
    if job.requests and job.id_field is None:
        job = replace(job, id_field="custom_id")
    check_what(job)
    return job


def check_what(job: RunSpec) -> None:
    """Check a command as far as possible without its rows.

    Raises:
        Problem: it says nothing to do, or two things, or a number that makes no sense.
    """
    _check_several(job)
    if job.chain is not None:
        _chain_alone(job)
    elif job.messages is not None or job.requests:
        _rows_alone(job)
    else:
        _check_prompt(job.prompt)
    if not job.timeout_s > 0:
        raise Problem(f"--timeout {job.timeout_s:g}: say a number of seconds above 0")
    check_money(job)
    if job.model is not None:
        check_model(job.model)
    elif job.chain is None and (keys := keys_set()):
        example = next(known.example for known in PROVIDERS.values() if keys[0] in known.keys)
        raise Problem(
            f"say which model: {keys[0]} is set, so perhaps --model {example}; "
            "--model local is the embedded model, which is fetched once"
        )
    for spec in job.fallbacks:
        check_model(spec, "--fallback")
    limits_of(job)
    check_urls([job.base_url, *job.replica_urls] if job.base_url else [])


def _chain_alone(job: RunSpec) -> None:
    given: dict[str, Any] = {
        "--model": job.model,
        "--prompt": job.prompt,
        "--messages": job.messages,
        "--image": job.images or None,
        "--requests": job.requests or None,
        "--system": job.system,
        "--schema": job.schema,
        "--base-url": job.base_url,
        "--model-option, --temperature and --max-tokens": job.model_options or None,
        "--fallback": job.fallbacks or None,
    }
    if clash := [name for name, value in given.items() if value is not None]:
        raise Problem(f"--chain brings its own model and prompt; leave out {clash[0]}")


def _check_prompt(prompt: str | None) -> None:
    if prompt is None:
        raise Problem(
            "say what to do with each row: --prompt 'Is this positive? {text}', or --chain MODULE:ATTRIBUTE; "
            "--messages COLUMN or --requests where the rows say it themselves"
        )
    if not prompt.strip():
        raise Problem(
            "the prompt is empty; name a column in it, for instance --prompt 'Is this positive? {text}'"
        )


def _rows_alone(job: RunSpec) -> None:
    """The rows say what is asked, so nothing else can."""
    flag = "--requests" if job.requests else "--messages"
    given: dict[str, Any] = {"--prompt": job.prompt}
    if job.requests:
        given |= {
            "--messages": job.messages,
            "--system": job.system,
            "--image": job.images or None,
            "--schema": job.schema,
        }
    if clash := [name for name, value in given.items() if value is not None]:
        raise Problem(f"with {flag} the rows say what is asked; leave out {clash[0]}")


def _check_several(job: RunSpec) -> None:
    if job.vote and job.times == 1:
        raise Problem("--vote needs --n, the number of answers among which it decides: --n 5 --vote")
    if job.times > 1 and job.mode != "live":
        raise Problem("--n asks live; leave out --mode")


def read_prompt(prompt: str | None, file: Path | None) -> str | None:
    """Return the prompt, from the option or from a file.

    Raises:
        Problem: both were given, or the file cannot be read.
    """
    if file is None:
        return prompt
    if prompt is not None:
        raise Problem("say --prompt or --prompt-file, not both")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(f"{file} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise os_problem("read", str(file), error) from error


def check_money(job: RunSpec) -> None:
    """Check that amounts make sense, and that no option is without the one it belongs to.

    Raises:
        Problem: one is wrong; the message says what to mend.
    """
    for flag, dollars in (("--budget", job.budget_usd), ("--budget-per-hour", job.budget_per_hour_usd)):
        if dollars is not None and not 0 <= dollars < math.inf:
            raise Problem(f"{flag} {dollars:g}: say a number of US dollars, 0 or more")
    if job.on_budget not in ("stop", "wait"):
        raise Problem(f"--on-budget {job.on_budget}: say stop or wait")
    if job.on_budget == "wait" and job.budget_per_hour_usd is None:
        raise Problem("--on-budget wait is for --budget-per-hour: more of a --budget never comes")
    if job.max_output_tokens is not None and budget_of(job) is None:
        raise Problem(
            "--max-output-tokens belongs to a --budget; the model's own maximum is --model-option max_tokens=N"
        )
    prices_of(job.prices)
