"""What can be done about each thing that bound a run, and each kind of failed row, in words."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

FACTOR: Final = 2  # how much more of a limit is looked at
TWICE: Final = f"{FACTOR}\u00d7"


class Bound(NamedTuple):
    """How to loosen a bound: what to do, how it is named, how to do it, what it would be then."""

    what: str
    named: str
    how: str
    then: str = TWICE
    quota: Literal["tokens", "rows", ""] = ""


LIMITS: Final[dict[str, Bound]] = {
    "tokens": Bound(
        "Ask for a higher token quota.",
        "the provider's quota of tokens",
        "ask the provider, or add an endpoint with `--base-url`",
        quota="tokens",
    ),
    "requests": Bound(
        "Ask for a higher request quota.",
        "the provider's quota of requests",
        "ask the provider, or add an endpoint with `--base-url`",
        quota="rows",
    ),
    "pace": Bound(
        "Ask for a higher request rate.",
        "the rate at which the provider takes requests",
        "ask the provider, or add an endpoint with `--base-url`",
        quota="rows",
    ),
    "own requests": Bound(
        "Raise your rpm ceiling.",
        "your own ceiling of requests per minute",
        "a higher `--rpm`",
        quota="rows",
    ),
    "own tokens": Bound(
        "Raise your tpm ceiling.",
        "your own ceiling of tokens per minute",
        "a higher `--tpm`",
        quota="tokens",
    ),
    "maximum": Bound(
        "Allow more requests in flight.",
        "the most requests in flight that you allow",
        "a higher `--max-concurrency`, or `--concurrency`",
    ),
    "cap": Bound(
        "Allow more rows at once.",
        "your own limit on rows at once",
        "a higher `--concurrency`, or `max_concurrency` in Python",
    ),
    "concurrency": Bound(
        "Add an endpoint.",
        "the number of requests in flight that the provider takes",
        "ask the provider, or add an endpoint with `--base-url`",
    ),
}
WAITS: Final[dict[str, Bound]] = {
    "reader": Bound(
        "Read the results faster.",
        "whoever reads the results",
        "do less between two results, or do it on another thread",
        "without",
    ),
    "source": Bound(
        "Supply the rows faster.", "the source of the rows", "read them from a file or a list", "without"
    ),
    "store": Bound(
        "Put the store on a faster disk.", "writing to the store", "`--store` on a local disk", "without"
    ),
    "budget": Bound(
        "Raise the budget, or bound the answers.",
        "waiting for money",
        "a higher `--budget`, or a lower `--max-output-tokens`: a request books what it may cost at most",
        "without",
    ),
    "pause": Bound(
        "Add an endpoint for the pauses.",
        "waits after rejections",
        "another endpoint with `--base-url`, or a `--fallback`",
        "without",
    ),
    "down": Bound(
        "Give a fallback for failures of the provider.",
        "a provider that did not work",
        "a `--fallback`, or another endpoint with `--base-url`",
        "without",
    ),
}
FAILED: Final[dict[str, tuple[str, str, str]]] = {
    "throttle": (
        "Ask again for the rows that the provider turned away.",
        "were turned away at every try",
        "`cottonpalm retry`, or more `--retries`",
    ),
    "transient": (
        "Ask again for the rows whose failure may pass.",
        "failed in a way that may pass",
        "`cottonpalm retry`, or more `--retries`",
    ),
    "reask": (
        "State the form of the answer more clearly.",
        "got an answer that does not fit",
        "a prompt that shows the form, or a model with structured output",
    ),
    "degrade": (
        "Give long rows more room.",
        "had their answer cut, or are too long for the model",
        "a higher `--max-tokens` for answers that were cut, a `--fallback` with a longer context for the others",
    ),
    "fail_row": (
        "Look at the rows that cannot be answered.",
        "cannot be answered as they are",
        "`cottonpalm export` shows them",
    ),
}
