"""The terms of the providers' prompt caches, as documented: what is cached, for how long, and how it is asked for.

Prices are not here: those of the price list count. `discount` only says that a read is cheaper where the list does not.
Where a provider says nothing, the careful value stands: the answer's end, five minutes.

Sources, read in November 2026, are the pages named "Prompt caching" (Google: "Context caching") of
developers.openai.com, learn.microsoft.com (Azure), platform.claude.com, docs.aws.amazon.com (Bedrock), ai.google.dev,
docs.mistral.ai, console.groq.com, api-docs.deepseek.com, docs.x.ai, docs.together.ai, docs.fireworks.ai,
help.aliyun.com (Qwen) and platform.kimi.ai.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

Asked: TypeAlias = Literal["itself", "cache_control", "breakpoints"]
Usable: TypeAlias = Literal["begins", "ends"]

MINUTES: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How one provider caches the prompts of one model.

    Attributes:
        minimum: tokens that a prefix must have.
        step: tokens to which a prefix is rounded down.
        life_s: seconds for which an entry is kept after its last use.
        usable: an entry can be read once the answer that wrote it begins, or ends.
        asked: the provider caches by itself, or where the request says so, in Anthropic's or in OpenAI's way.
        first: requests of a prefix that must be answered before others read it.
        key: the field that keeps requests of one prefix together; None where there is none, or where it does not help
            requests that share their start (OpenAI sends these to one place by themselves).
        discount: what a token that was read costs, as a part of the input price.
        guessed: the host is not known: it is taken for a gateway.
    """

    minimum: int
    step: int = 1
    life_s: float = 5 * MINUTES
    usable: Usable = "ends"
    asked: Asked = "itself"
    first: int = 1
    key: str | None = None
    discount: float = 0.5
    guessed: bool = False


_OPENAI: Final = Terms(minimum=1_024, step=128)
_OPENAI_NEW: Final = Terms(minimum=1_024, life_s=30 * MINUTES, asked="breakpoints", discount=0.1)
_ANTHROPIC: Final = Terms(minimum=1_024, usable="begins", asked="cache_control", discount=0.1)
_GEMINI: Final = Terms(minimum=4_096, discount=0.1)

_NEW: Final = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")  # from GPT-5.6 on
_CLAUDE: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"(opus|sonnet|fable|mythos)-5([.-]5)?(-|$)|(fable|mythos)-5", 512),
        (r"opus-4[.-]7", 2_048),
        (r"opus-4[.-][56]|haiku-4[.-]5", 4_096),
        (r"haiku-3", 2_048),
    )
)
_SONNET_5: Final = re.compile(r"sonnet-5(-\d{8})?$")  # 1,024, other than Sonnet 5.5

# By the end of the host's name.
_HOSTS: Final[tuple[tuple[str, Terms], ...]] = (
    ("openai.com", _OPENAI),
    ("azure.com", _OPENAI),
    ("anthropic.com", _ANTHROPIC),
    ("amazonaws.com", replace(_ANTHROPIC, usable="ends")),
    ("generativelanguage.googleapis.com", _GEMINI),
    ("aiplatform.googleapis.com", _GEMINI),
    ("mistral.ai", Terms(minimum=64, step=64, key="prompt_cache_key", discount=0.1)),
    ("groq.com", Terms(minimum=1_024, life_s=120 * MINUTES)),
    ("deepseek.com", Terms(minimum=64, step=64, life_s=120 * MINUTES, first=2, discount=0.1)),
    ("x.ai", Terms(minimum=1_024, step=128, discount=0.25)),
    ("together.xyz", Terms(minimum=1_024, life_s=60 * MINUTES, key="prompt_cache_key")),
    ("together.ai", Terms(minimum=1_024, life_s=60 * MINUTES, key="prompt_cache_key")),
    ("fireworks.ai", Terms(minimum=1_024, key="prompt_cache_key")),
    ("aliyuncs.com", Terms(minimum=1_024, discount=0.2)),
    ("moonshot.ai", Terms(minimum=256, discount=0.1)),
    ("moonshot.cn", Terms(minimum=256, discount=0.1)),
    ("openrouter.ai", Terms(minimum=1_024)),
)
# By the model's name, where the host is a gateway's.
_MODELS: Final[tuple[tuple[re.Pattern[str], Terms], ...]] = (
    (re.compile(r"(openai/)?(gpt-[3-9]|gpt-\d\d|o[134](-|$))"), _OPENAI),
    (re.compile(r"(.*[/.])?claude-"), _ANTHROPIC),
    (re.compile(r"(.*/)?gemini-"), _GEMINI),
)


@lru_cache(maxsize=256)
def terms_of(url: str, model: str) -> Terms | None:
    """Return the terms for this model at this address; None where nothing is known.

    A host that is not known is taken for a gateway to the provider that the model's name tells.
    """
    host, model = urlsplit(url).hostname or "", model.lower()
    found = next((terms for end, terms in _HOSTS if host == end or host.endswith(f".{end}")), None)
    if found is not None:
        return _of_model(found, model)
    guess = next((terms for pattern, terms in _MODELS if pattern.match(model)), None)
    return None if guess is None else replace(_of_model(guess, model), guessed=True)


def _of_model(terms: Terms, model: str) -> Terms:
    """What differs from model to model."""
    if terms is _OPENAI:
        if _NEW.search(model):
            return _OPENAI_NEW
        return replace(terms, minimum=2_048, step=1) if "gpt-5.5" in model else terms
    if "claude" in model:
        minimum = next((tokens for pattern, tokens in _CLAUDE if pattern.search(model)), terms.minimum)
        return replace(terms, minimum=1_024 if _SONNET_5.search(model) else minimum)
    return replace(terms, minimum=2_048) if "gemini-2" in model else terms
