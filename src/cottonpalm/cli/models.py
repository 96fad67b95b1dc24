"""`--model PROVIDER:NAME`: which package makes it, where its key comes from, and what is said when one is missing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from pydantic import BaseModel

SECRET: Final = re.compile(r"(api_?key|token|secret|password|authorization|credential)s?$", re.IGNORECASE)
MAY_HOLD_SECRETS: Final = re.compile(r"headers|query|cookie|client", re.IGNORECASE)
ENGINE: Final = frozenset({"threads", "slots", "n_ctx", "grammar"})  # settings of the embedded engine itself
COUNTS: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs; a value that is JSON is taken as such, everything else as text.

    Raises:
        Problem: a pair has no `=`, or gives a key or password.
    """
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
        try:
            options[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            options[key] = value
    return options


def keepable(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options that may be kept in the store, and the names of those that may hold secrets and are not."""
    kept = {key: value for key, value in options.items() if not _may_be_secret(key, value)}
    return kept, sorted(set(options) - set(kept))


def _may_be_secret(key: str, value: Any) -> bool:
    if MAY_HOLD_SECRETS.search(key) or (SECRET.search(key) and key not in COUNTS):
        return True
    return isinstance(value, dict) and any(_may_be_secret(name, part) for name, part in value.items())


def check_url(url: str | None) -> None:
    """A base URL is http(s) and carries no password: it is kept in the store."""
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Problem(f"--base-url {url}: write the whole address, for instance http://127.0.0.1:8000/v1")
    if parts.password is not None or parts.username is not None:
        raise Problem(
            "--base-url must not hold a user name or password; set the provider's environment variable"
        )


def absolute_model(spec: str | None, folder: str) -> str | None:
    """The same model, named so that it is found from any folder."""
    provider, _, name = (spec or "").partition(":")
    return f"local:{Path(folder) / Path(name).expanduser()}" if provider == "local" and name else spec


def build_model(
    spec: str, options: Mapping[str, Any], base_url: str | None, *, quiet: bool = False
) -> BaseChatModel:
    """The chat model that `spec` names. The embedded one is fetched and started here, saying so unless `quiet`.

    Raises:
        Problem: no such provider, its package or key is missing, or an option does not suit it.
        LocalModelError: the embedded model cannot be had; one line that says what to do.
    """
    provider, _, name = spec.partition(":")
    make = MAKERS.get(provider)
    if make is None and provider != "local":
        known = ", ".join(["local", *MAKERS])
        raise Problem(f"--model {spec}: unknown provider {provider!r}; cottonpalm knows {known}")
    if not name and provider != "local":
        raise Problem(f"--model {spec}: name the model too, for instance {EXAMPLES[provider]}")
    try:
        if make is None:
            return _local(name, dict(options), base_url, quiet=quiet)
        model: BaseChatModel = make(name, dict(options), base_url)
    except ImportError as error:
        raise Problem(
            f"--model {spec} needs a package that is not installed ({error.name}): "
            f"pip install 'cottonpalm[{provider}]'"
        ) from error
    except (ValueError, TypeError) as error:
        raise Problem(f"--model {spec}: {_first_line(error)}") from error
    return model


def _openai(name: str, options: dict[str, Any], base_url: str | None) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    base_url = base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
    if not os.environ.get("OPENAI_API_KEY"):
        if base_url is None:
            raise _no_key("openai", "OPENAI_API_KEY")
        options["api_key"] = "none"  # a server of one's own asks for none, but the client insists on one
    _check_names("openai", options, ChatOpenAI)
    return ChatOpenAI(model=name, base_url=base_url, max_retries=0, **options)


def _anthropic(name: str, options: dict[str, Any], base_url: str | None) -> BaseChatModel:
    from langchain_anthropic import ChatAnthropic

    base_url = base_url or os.environ.get("ANTHROPIC_BASE_URL")
    if not os.environ.get("ANTHROPIC_API_KEY"):
        if base_url is None:
            raise _no_key("anthropic", "ANTHROPIC_API_KEY")
        options["api_key"] = "none"
    if base_url is not None:
        options["base_url"] = base_url
    _check_names("anthropic", options, ChatAnthropic)
    return ChatAnthropic(model_name=name, max_retries=0, **options)


def _local(name: str, options: dict[str, Any], base_url: str | None, *, quiet: bool) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    from cottonpalm.local.server import DEFAULT, model

    if base_url is not None:
        raise Problem("--base-url is for openai: and anthropic: models; a server of your own is openai:NAME")
    _check_names("local", {key: value for key, value in options.items() if key not in ENGINE}, ChatOpenAI)
    return model(name or DEFAULT, quiet=quiet, **options)


def _check_names(provider: str, options: Mapping[str, Any], model: type[BaseModel]) -> None:
    """A misspelt option would be sent along, and be refused for each row."""
    fields = model.model_fields
    names = {*fields, *(field.alias for field in fields.values() if field.alias)}
    for key in options:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = (
                f"; did you mean {near[0]}?" if near else "; what only the server knows goes into extra_body"
            )
            raise Problem(f"--model-option {key}: {provider} models have no option {key!r}{hint}")


def _no_key(provider: str, variable: str) -> Problem:
    return Problem(
        f"--model {provider}:… needs a key: export {variable}=… (or name a server with --base-url)"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


Maker = Callable[[str, dict[str, Any], str | None], Any]
MAKERS: Final[dict[str, Maker]] = {"openai": _openai, "anthropic": _anthropic}
EXAMPLES: Final = {"openai": "openai:gpt-4o-mini", "anthropic": "anthropic:claude-haiku-4-5"}
