"""Where each wire format keeps the maximum of an answer's tokens, and how it is lowered on a copy of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from cottonpalm.providers.answer import count, sub

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maximum:
    """The fields of one format.

    Attributes:
        fields: where the maximum of one answer may stand, the one that counts first.
        answers: where the number of answers may stand.
        thinking: where a budget of tokens for thinking may stand; it is spent out of the maximum.
        least: the smallest maximum that the provider takes.
    """

    fields: tuple[Path, ...]
    answers: tuple[Path, ...] = ()
    thinking: tuple[Path, ...] = ()
    least: int = 1

    def of(self, body: dict[str, Any]) -> int | None:
        """The most tokens of one answer, as the request itself says; None where it does not."""
        return _first(body, self.fields) or None

    def answers_of(self, body: dict[str, Any]) -> int:
        """How many answers it asks for."""
        return max(1, _first(body, self.answers))

    def thinking_of(self, body: dict[str, Any]) -> int:
        """Tokens that it lets the model think."""
        return _first(body, self.thinking)

    def put(self, body: dict[str, Any], tokens: int, otherwise: Path) -> dict[str, Any]:
        """A copy of the body with this maximum, in the fields it uses already, else in `otherwise`."""
        used = [path for path in self.fields if _at(body, path)] or [otherwise]
        for path in used:
            body = _with(body, path, tokens)
        return body


CHAT = Maximum((("max_completion_tokens",), ("max_tokens",)), (("n",),))
RESPONSES = Maximum((("max_output_tokens",),), least=16)
MESSAGES = Maximum((("max_tokens",),), thinking=(("thinking", "budget_tokens"),))
GENERATE = Maximum(
    (("generationConfig", "maxOutputTokens"), ("generation_config", "max_output_tokens")),
    (("generationConfig", "candidateCount"), ("generation_config", "candidate_count")),
    (
        ("generationConfig", "thinkingConfig", "thinkingBudget"),
        ("generation_config", "thinking_config", "thinking_budget"),
    ),
)
OLLAMA = Maximum((("options", "num_predict"),))


def _first(body: dict[str, Any], paths: tuple[Path, ...]) -> int:
    for path in paths:  # plain loops: every request passes here
        if found := _at(body, path):
            return found
    return 0


def _at(body: dict[str, Any], path: Path) -> int:
    if len(path) == 1:
        return count(body.get(path[0]))
    return count(sub(body, *path[:-1]).get(path[-1]))


def _with(body: dict[str, Any], path: Path, tokens: int) -> dict[str, Any]:
    name, *inner = path
    return {**body, name: _with(sub(body, name), tuple(inner), tokens) if inner else tokens}
