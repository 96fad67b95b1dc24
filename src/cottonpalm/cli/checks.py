"""What `run` was told, checked before anything is opened: one line that says what to mend."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.model_options import check_urls
from cottonpalm.cli.models import check_model
from cottonpalm.cli.money import check_money
from cottonpalm.cli.problems import Problem, os_problem

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.cli.job import Job


SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def check_what(job: Job) -> None:
    """What can be said of a command without looking at its rows.

    Raises:
        Problem: it says nothing to do, two things, or a number that cannot be meant.
    """
    if job.chain is not None:
        _chain_alone(job)
    elif job.prompt is None:
        raise Problem(
            "say what to do with each row: --prompt 'Is this positive? {text}', or --chain MODULE:ATTRIBUTE"
        )
    elif not job.prompt.strip():
        raise Problem(
            "the prompt is empty; name a column in it, for instance --prompt 'Is this positive? {text}'"
        )
    if not job.timeout_s > 0:
        raise Problem(f"--timeout {job.timeout_s:g}: say a number of seconds above 0")
    check_money(job)
    if job.model is not None:
        check_model(job.model)
    for spec in job.fallbacks:
        check_model(spec, "--fallback")
    job.limits()
    check_urls([job.base_url, *job.replica_urls] if job.base_url else [])


def _chain_alone(job: Job) -> None:
    given: dict[str, Any] = {
        "--model": job.model,
        "--prompt": job.prompt,
        "--system": job.system,
        "--schema": job.schema,
        "--base-url": job.base_url,
        "--model-option": job.model_options or None,
        "--fallback": job.fallbacks or None,
    }
    if clash := [name for name, value in given.items() if value is not None]:
        raise Problem(f"--chain brings its own model and prompt; leave out {clash[0]}")


def share_or_number(text: str | None) -> float | None:
    """`5`: more than five failed rows; `5%`: more than a share of 0.05.

    Raises:
        Problem: it is neither.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return int(text)
    share = SHARE.fullmatch(text.strip())
    if share is None or not 0 < float(share[1]) < 100:
        raise Problem(
            f"--max-failures {text}: say a number of rows (0: none may fail), or a share such as 5%"
        )
    return float(share[1]) / 100


def read_prompt(prompt: str | None, file: Path | None) -> str | None:
    """The prompt, from the option or from a file.

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
