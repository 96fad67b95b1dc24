"""Translates the library's messages into the words of the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cottonpalm.cli.chains.models import PROVIDERS
from cottonpalm.observers.words.formatting import money
from cottonpalm.types import pico

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.errors import RunStopped

SPENT: Final = "the budget does not allow for another request"
SAID: Final[list[tuple[str, str | Callable[[re.Match[str]], str]]]] = [
    (r"the prompt changed \(steps\[\d+\] RowPrompt\)", "the prompt changed"),
    # follow the prompt's
    (r"steps\[\d+\] RowPrompt: columns(\[\d+\])? changed: .*?(?:; |(?=\. (?:Give run)))", ""),
    (r"steps\[\d+\] RowPrompt: (\w+)", r"the prompt: its \1"),
    (r"steps\[\d+\] Chat\w+: model(?:_name)? changed", "the model changed"),
    (r"steps\[\d+\] (Chat\w+): (\w+)", r"the model: its \2"),
    # (a pattern for the words in Python, the words on the command line)
    (
        r"Give run= another name, or forget this run first: cottonpalm rm\.",
        r"Say --fresh to begin anew and pay again, or --run NAME, with another -o, for a run of its own.",
    ),
    (
        r"set max_tokens on the model, or Budget\(max_output_tokens=\.\.\.\) \(--max-output-tokens\)",
        r"say --model-option max_tokens=N, or --max-output-tokens N",
    ),
    (r"set max_tokens on the model", r"say --model-option max_tokens=N"),  # after the longer pattern
    (r"check base_url, and", "check --base-url, and"),
    (r"set max_failures=1\.0", "say --max-failures 100%"),
    (r" (rows?) failed, max_failures=", r" \1 failed, more than --max-failures "),
    (
        SPENT + r" to (.+?)$",
        (
            r"the budget does not allow for another request to \1; a higher --budget or --budget-per-hour, or a "
            r"smaller --max-output-tokens, lets it go on"
        ),
    ),
    (
        r"which can cost \$(.+?); \$(.+?) is left",
        lambda said: f"which can cost {_money(said[1])}; {_money(said[2])} is left",
    ),
    (r"prices=\{(.+?): \(in, out\)\} \(--price (.+?)\) says it", r"--price \2 says it"),
    (r"pass prices= \(--price (.+?)\)", r"say --price \1, dollars per million tokens"),
    (
        r"pass prices=\{(.+?): \(in, out\)\}, dollars per million tokens \(--price (.+?)\)",
        r"say --price \2, dollars per million tokens",
    ),
    (
        r"pass output_type=(.+?) so that it can be rebuilt",
        r"say what the function that makes it returns (def answer(row) -> \1), or return its model_dump()",
    ),
]


def _money(dollars: str) -> str:
    return money(pico(float(dollars)))


def here(message: str) -> str:
    """Return the same message with flags in place of parameters."""
    for python, flag in SAID:
        message = re.sub(python, flag, message)
    return message


SETTINGS: Final = re.compile(
    r"\b(mode|executor|transport|workers|ray_address|deadline|detach)=(?:\.\.\.|True|(?P<quote>['\"])(.*?)(?P=quote))"
)


def as_flags(message: str) -> str:
    """Return what is said of settings in the words of the command line: `--mode batch`, `--detach`."""
    return SETTINGS.sub(_flag, message)


def _flag(said: re.Match[str]) -> str:
    return f"--{said[1].replace('_', '-')} {said[3] or ''}".rstrip()


def why(stopped: RunStopped) -> str:
    """Return only the reason, since the summary below counts the rows."""
    said = str(stopped).partition(". What is done is kept")[0]
    reason = re.sub(r"^the run stopped after \d+ rows?: ", "", said)
    return f"the run stopped: {here(reason)}{_key_hint(stopped.__cause__)}"


def ended_by_budget(stopped: RunStopped) -> bool:
    """Whether the run can go on with more money or in another hour; it cannot if a cost has no bound."""
    return stopped.reason == "budget" and SPENT in str(stopped)


def lacking(stopped: RunStopped) -> str:
    """What the same command lacks where a budget is set and a request's cost has no bound; "" for nothing."""
    if stopped.reason != "budget":
        return ""
    found = re.search(r"\((--price .+?=IN:OUT|--max-output-tokens)\)", str(stopped))
    if found is None:
        return ""
    return f" {found[1]}" if found[1].startswith("--price") else f" {found[1]} N"


def _key_hint(cause: BaseException | None) -> str:
    """Say which environment variable holds the key that was refused."""
    name = type(cause).__name__
    if cause is None or not ("Authentication" in name or "api key" in str(cause).lower()):
        return ""
    variables = [
        known.keys[0]
        for provider, known in PROVIDERS.items()
        if known.keys and name.lower().startswith(provider)
    ]
    return f" (check {variables[0]})" if variables else ""
