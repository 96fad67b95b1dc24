"""Parses a model's settings from the command line, and decides which of them may be stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from cottonpalm.cli.problems import Problem
from cottonpalm.redact import is_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECRET: Final = re.compile(r"(api_?key|token|secret|password|authorization|credential)s?$", re.IGNORECASE)
MAY_HOLD_SECRETS: Final = re.compile(r"headers|query|cookie|client", re.IGNORECASE)
WITH_A_USER: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)  # such as a proxy's address
COUNTS: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

PROVIDERS: Final = (  # whose models `--model` names, for completion in the shell
    "local",
    "openai",
    "anthropic",
    "google",
    "ollama",
    "vllm",
    "llamacpp",
    "lmstudio",
    "litellm",
    "deepseek",
    "qwen",
    "glm",
    "kimi",
    "doubao",
    "mistral",
    "groq",
    "openrouter",
    "together",
    "fireworks",
    "xai",
    "azure_openai",
    "bedrock",
    "bedrock_converse",
    "google_vertexai",
    "cohere",
    "huggingface",
    "nvidia",
    "ibm",
    "perplexity",
    "upstage",
)


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` pairs. A value that is JSON is parsed as JSON; any other value is text.

    Raises:
        Problem: a pair has no `=`, or gives a key or password.
    """
    import orjson

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise Problem(f"--model-option {pair}: write KEY=VALUE, for instance temperature=0")
        if SECRET.search(key) and key not in COUNTS:
            raise Problem(
                f"--model-option {key}: a key on the command line can be read by every user of this machine; "
                "set the provider's environment variable instead"
            )
        if WITH_A_USER.match(value):
            raise Problem(
                f"--model-option {key}: a password on the command line can be read by every user of this machine; "
                "that of a proxy belongs in HTTPS_PROXY or HTTP_PROXY"
            )
        try:
            options[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            options[key] = value
    return options


def keepable(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that may be stored, and the names of those that may hold secrets and are not stored."""
    kept = {key: value for key, value in options.items() if not _may_be_secret(key, value)}
    return kept, sorted(set(options) - set(kept))


def _may_be_secret(key: str, value: Any) -> bool:
    if MAY_HOLD_SECRETS.search(key) or (SECRET.search(key) and key not in COUNTS):
        return True
    if isinstance(value, str):
        return WITH_A_USER.match(value) is not None
    return isinstance(value, dict) and any(_may_be_secret(name, part) for name, part in value.items())


def check_urls(urls: Sequence[str]) -> None:
    """Check that base URLs are http(s), differ, and hold no password or key, since the store keeps them."""
    for number, url in enumerate(urls):
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Problem(f"--base-url {url}: write the whole address, for instance http://127.0.0.1:8000/v1")
        if parts.password is not None or parts.username is not None:
            raise Problem(
                "--base-url must not hold a user name or password; set the provider's environment variable"
            )
        if any(is_secret(name, value) for name, value in parse_qsl(parts.query)):
            raise Problem("--base-url must not hold a key; set the provider's environment variable")
        if url.rstrip("/") in [before.rstrip("/") for before in urls[:number]]:
            raise Problem(f"--base-url {url} is given twice; once is enough, its limit is found by itself")


def absolute_model(spec: str | None) -> str | None:
    """Name the same model so that it is found from any folder."""
    return None if spec is None else _absolute(spec)


def absolute_models(specs: list[str]) -> list[str]:
    """Do the same for several models."""
    return list(map(_absolute, specs))


def _absolute(spec: str) -> str:
    provider, _, name = spec.partition(":")
    return f"local:{Path.cwd() / Path(name).expanduser()}" if provider == "local" and name else spec
