"""Lists the paths to which model requests go, each with the format spoken there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cottonpalm.providers.anthropic import Messages
from cottonpalm.providers.cohere import CohereChat
from cottonpalm.providers.google import GenerateContent
from cottonpalm.providers.ollama import OllamaChat, OllamaText
from cottonpalm.providers.openai import Chat, Responses, Text
from cottonpalm.providers.qwen import QwenChat

if TYPE_CHECKING:
    from cottonpalm.providers.answer import Family

OPENAI_CHAT: Final[Family] = Chat()
ANTHROPIC: Final[Family] = Messages()
GOOGLE: Final[Family] = GenerateContent()
COHERE: Final[Family] = CohereChat()
_ENDINGS: Final[tuple[tuple[str, Family], ...]] = (
    ("/compatible-mode/v1/chat/completions", QwenChat()),
    ("/chat/completions", OPENAI_CHAT),
    ("/completions", Text()),
    ("/messages", ANTHROPIC),
    ("/responses", Responses()),
    ("/api/chat", OllamaChat()),
    ("/api/generate", OllamaText()),
    ("/v2/chat", COHERE),
    ("/v1/chat", COHERE),
    (":generateContent", GOOGLE),
    (":streamGenerateContent", GOOGLE),
    ("/invoke", ANTHROPIC),
)
_ARN: Final = re.compile(r"/model/arn:[^/]*/(?:.*/)?([^/]+)/[a-z-]+$")
_NAMED: Final = re.compile(r"/(?:deployments|models|model)/([^/:]+(?::[0-9]+)?)(?:/|:[a-z])")


@lru_cache(maxsize=256)
def family_of(path: str) -> Family | None:
    """Return the format spoken at this path, or None if it is not a model's path."""
    family = next((family for ending, family in _ENDINGS if path.endswith(ending)), None)
    return family if not path.endswith("/invoke") or model_in(path) else None


def family_in(endpoint: str) -> Family:
    """Return the format of a lane's endpoint, which Gemini's Batch API names without its path."""
    family = family_of(endpoint) or family_of(f":{endpoint}")
    assert family is not None, endpoint
    return family


def model_in(path: str) -> str | None:
    """Return the model or deployment that a path names (Azure, Google, Bedrock; the end of an ARN), or None."""
    found = _ARN.search(path) or _NAMED.search(path)
    return found[1] if found else None
