"""`--model PROVIDER:NAME`: finds the package that makes the model and its key, and says what is missing."""

from __future__ import annotations

import difflib
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.cli.chains.compatible import BY_LANGCHAIN, COMPATIBLE
from cottonpalm.cli.plugins import load, named, plugins
from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.language_models import BaseChatModel
    from pydantic import BaseModel

ENGINE: Final = frozenset({"threads", "slots", "n_ctx", "grammar"})  # settings of the embedded engine

MAKERS: Final = {  # whose a model is that is named alone
    "openai": r"gpt-|o\d|chatgpt",
    "anthropic": r"claude",
    "google": r"gemini",
    "deepseek": r"deepseek-(chat|reasoner)",
    "xai": r"grok",
    "mistral": r"(open-)?mistral|mixtral|codestral|ministral|magistral",
    "cohere": r"command",
    "perplexity": r"sonar",
}


class Wish(NamedTuple):
    """What the function that makes a provider's model gets.

    Attributes:
        name: the model's name.
        options: options of the model; those that a fallback's class does not know are left out.
        flag: the option that named the model, for messages.
        unasked: nothing will be sent to it, so that it needs no key.
    """

    name: str
    options: dict[str, Any]
    base_url: str | None
    flag: str
    quiet: bool
    unasked: bool = False


class Provider(NamedTuple):
    """One provider of models.

    Attributes:
        keys: environment variables that may hold its key, the usual one first.
        urls: environment variables that may name another server.
        example: one of its models.
        make: makes the LangChain model.
    """

    keys: tuple[str, ...]
    urls: tuple[str, ...]
    example: str
    make: Callable[[Wish], BaseChatModel]


def build_model(
    spec: str,
    options: Mapping[str, Any],
    base_url: str | None,
    *,
    flag: str = "--model",
    quiet: bool = False,
    unasked: bool = False,
) -> BaseChatModel:
    """Make the chat model that `spec` names. The embedded model is fetched and started here; unless `quiet`, we say so.

    Args:
        spec: PROVIDER:NAME.
        options: options of the model. A `--fallback` gets only those it knows: the others are for another model.
        base_url: another server, or None.
        flag: the option that named the model.
        quiet: say nothing while fetching.
        unasked: nothing will be sent to it, so that it needs no key.

    Raises:
        Problem: no such provider, its package or key is missing, or an option does not suit it.
        LocalModelError: the embedded model cannot be had; one line that says what to do.
    """
    provider, name = check_model(spec, flag)
    if provider in PROVIDERS and "base_url" in options:
        raise Problem("--model-option base_url: write --base-url URL instead")
    wish = Wish(name, dict(options), base_url, flag, quiet, unasked)
    try:
        if provider in PROVIDERS:
            return PROVIDERS[provider].make(wish)
        if provider not in BY_LANGCHAIN:
            return _brought(provider, wish)
        return _by_langchain(provider, wish)
    except ImportError as error:
        own = BY_LANGCHAIN.get(provider)  # by `init_chat_model` of langchain, which may be missing as well
        package = f"langchain {own}" if own else f"'cottonpalm[{_extra(provider)}]'"
        missing = f" ({error.name})" if error.name else ""
        raise Problem(
            f"{flag} {spec} needs a package that is not installed{missing}: pip install {package}"
        ) from error
    except (ValueError, TypeError) as error:
        raise Problem(f"{flag} {spec}: {_first_line(error)}") from error


def check_model(spec: str, flag: str = "--model") -> tuple[str, str]:
    """Split `PROVIDER:NAME` into provider and name; a well-known name alone has its provider, as in `init_chat_model`.

    Raises:
        Problem: no such provider, or no name.
    """
    provider, colon, name = spec.partition(":")
    known = [*PROVIDERS, *BY_LANGCHAIN]
    known += [brought for brought in plugins("providers") if brought not in known]
    if provider not in known:
        if not colon and (maker := maker_of(spec)):
            return maker, spec
        raise Problem(f"{flag} {spec}: {_unknown(provider, name, known)}")
    if not name and provider != "local":
        example = PROVIDERS[provider].example if provider in PROVIDERS else f"{provider}:NAME"
        raise Problem(f"{flag} {spec}: name the model too, for instance {example}")
    return provider, name


def maker_of(name: str) -> str | None:
    """Return the provider of a well-known model's name; None: it is not known."""
    return next((maker for maker, start in MAKERS.items() if re.match(start, name)), None)


def _unknown(provider: str, name: str, known: list[str]) -> str:
    """Say what is wrong with a spec whose provider is not known, first what to write."""
    before, slash, after = f"{provider}{name and ':'}{name}".partition("/")
    if slash and before.lower() in known:
        return f"write {before.lower()}:{after}"
    near = difflib.get_close_matches(provider.lower(), known, n=1)
    lead = f"did you mean {near[0]}? " if near else "write PROVIDER:NAME, for instance openai:gpt-4o-mini; "
    return f"unknown provider {provider!r}; {lead}cottonpalm knows {', '.join(known)}"


def _extra(provider: str) -> str:
    """The extra that installs a provider's package."""
    return "openai" if provider in COMPATIBLE else provider


def keys_set() -> list[str]:
    """Return the environment variables that are set and hold a provider's key."""
    return [key for known in PROVIDERS.values() for key in known.keys if os.environ.get(key)]


def _by_langchain(provider: str, wish: Wish) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    options = dict(wish.options) | ({} if wish.base_url is None else {"base_url": wish.base_url})
    made: BaseChatModel = init_chat_model(wish.name, model_provider=provider, **options)
    return made


def _brought(provider: str, wish: Wish) -> BaseChatModel:
    """The model of a provider that another package brings."""
    make, what = load("providers", provider), f"{wish.flag} {provider}:{wish.name}"
    with named(what, let=(ValueError, TypeError)):
        made: BaseChatModel = make(wish.name, base_url=wish.base_url, **wish.options)
    if not hasattr(made, "ainvoke"):
        raise Problem(f"{what}: the plugin made no chat model of it ({type(made).__name__})")
    return made


def _compatible(provider: str, wish: Wish) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    known = COMPATIBLE[provider]
    options = _suiting(provider, wish, ChatOpenAI)
    key = os.environ.get(known.key or "") or "none"
    if known.key is not None and key == "none" and wish.base_url is None and not wish.unasked:
        server = "--base-url" if wish.flag == "--model" else "--model … --base-url"
        raise Problem(
            f"{wish.flag} {provider}:… needs a key: export {known.key}=… (or name a server with {server})"
        )
    given: dict[str, Any] = {"base_url": wish.base_url or known.url, "api_key": key}
    return ChatOpenAI(model=wish.name, max_retries=0, **options, **given)


def _local(wish: Wish) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    from cottonpalm.local.server import DEFAULT, model

    if wish.base_url is not None:
        raise Problem("--base-url names another provider's server; a server of your own is openai:NAME")
    options = _suiting("local", wish, ChatOpenAI, ENGINE)
    return model(wish.name or DEFAULT, quiet=wish.quiet, **options)


def _openai(wish: Wish) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    url, key = _place("openai", wish)
    options = _suiting("openai", wish, ChatOpenAI) | key
    return ChatOpenAI(model=wish.name, base_url=url, max_retries=0, **options)


def _anthropic(wish: Wish) -> BaseChatModel:
    from langchain_anthropic import ChatAnthropic

    url, key = _place("anthropic", wish)
    options = _suiting("anthropic", wish, ChatAnthropic) | key
    if url is not None:
        options["base_url"] = url
    return ChatAnthropic(model_name=wish.name, max_retries=0, **options)


def _google(wish: Wish) -> BaseChatModel:
    from langchain_google_genai import ChatGoogleGenerativeAI

    from cottonpalm.cli.chains.google import gemini

    url, key = _place("google", wish)
    return gemini(wish.name, url, _suiting("google", wish, ChatGoogleGenerativeAI) | key)


def _place(provider: str, wish: Wish) -> tuple[str | None, dict[str, Any]]:
    """Return the server, and a placeholder key where none is needed: the client needs one all the same."""
    known = PROVIDERS[provider]
    url = next(filter(None, [wish.base_url, *map(os.environ.get, known.urls)]), None)
    if any(map(os.environ.get, known.keys)):
        return url, {}
    if url is None and not wish.unasked:
        key, server = known.keys[0], "--base-url" if wish.flag == "--model" else known.urls[0]
        raise Problem(
            f"{wish.flag} {provider}:… needs a key: export {key}=… (or name a server with {server})"
        )
    return url, {"api_key": "none"}


def _suiting(
    provider: str, wish: Wish, model: type[BaseModel], more: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the options that the model knows. The model would send a misspelt one, and each row would be refused."""
    fields = model.model_fields
    names = {*fields, *(field.alias for field in fields.values() if field.alias), *more}
    if wish.flag == "--fallback":
        return {key: value for key, value in wish.options.items() if key in names}
    for key in wish.options.keys() - names:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; what only the server knows goes into extra_body"
        raise Problem(f"--model-option {key}: {provider} models have no option {key!r}{hint}")
    return dict(wish.options)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


PROVIDERS: Final[dict[str, Provider]] = {
    "local": Provider((), (), "local", _local),
    "openai": Provider(
        ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"), "openai:gpt-4o-mini", _openai
    ),
    "anthropic": Provider(
        ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",), "anthropic:claude-haiku-4-5", _anthropic
    ),
    "google": Provider(
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("GOOGLE_GEMINI_BASE_URL",),
        "google:gemini-2.5-flash",
        _google,
    ),
    **{
        name: Provider(
            () if known.key is None else (known.key,), (), known.example, partial(_compatible, name)
        )
        for name, known in COMPATIBLE.items()
    },
}
