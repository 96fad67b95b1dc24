"""What can be read from a provider's answer, in one shape for all of them; and where a request keeps its maximum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Kind, Usage

Stop: TypeAlias = Literal["cut", "filtered"]


@dataclass(slots=True)
class Complaint:
    """An error answer: its status, every code or type it names, its message, and its details."""

    status: int
    codes: frozenset[str] = frozenset()
    message: str = ""
    details: Any = None


@dataclass(slots=True)
class Answer:
    """What an answer says about itself.

    Attributes:
        complete: False where the body or the stream broke off or has not the expected shape.
        stop: "cut" at a length limit, "filtered" by the provider or refused by the model, None otherwise.
        error: an error that came with a good status.
        text: the text so far, kept only for answers that were cut or filtered, or do not say what they used.
        tier: of the service that answered, where the answer says so.
    """

    complete: bool = False
    usage: Usage | None = None
    model: str | None = None
    stop: Stop | None = None
    text: str = ""
    error: Complaint | None = None
    tier: str | None = None

    @property
    def text_wanted(self) -> bool:
        """Whether `text` is of any use."""
        return self.stop is not None or self.usage is None


class Stream(Protocol):
    """Reads one streamed answer line by line."""

    def feed(self, line: bytes) -> None:
        """Take one line, without its line break."""

    def answer(self) -> Answer:
        """What is known after the last line."""


class Family(Protocol):
    """One wire format: how its requests are recognised and bounded, how its answers and errors are read."""

    name: str
    maximum: Maximum

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether a JSON body has the shape of this format's request."""

    def read(self, body: Mapping[str, Any]) -> Answer:
        """An answer that came whole."""

    def stream(self) -> Stream:
        """A reader for an answer that comes in pieces."""

    def kind(self, complaint: Complaint) -> Kind | None:
        """What this provider's own codes (last: words) mean, or None where the status decides."""


@dataclass(slots=True)
class Lines:
    """Splits pieces of bytes into lines; the last, unfinished one is kept for the next piece."""

    rest: bytes = b""

    def cut(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        *whole, self.rest = (self.rest + piece).split(b"\n")
        return whole


def read_bytes(family: Family, content: bytes) -> Answer:
    """An answer from its whole content: a JSON object, or the lines of a stream."""
    body = loads(content)
    if isinstance(body, list) and body and isinstance(body[0], dict):
        return replayed(
            family, [orjson.dumps(part) for part in body]
        )  # Gemini's stream without SSE is one array
    if isinstance(body, dict):
        return family.read(body)
    return replayed(family, content.split(b"\n"))


def replayed(family: Family, lines: list[bytes]) -> Answer:
    """The answer that these lines of a stream add up to."""
    stream = family.stream()
    for line in lines:
        stream.feed(line)
    return stream.answer()


def loads(content: bytes | str) -> Any:
    """The JSON value, or None for anything else."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def data(line: bytes) -> dict[str, Any]:
    """The JSON object of one line of a stream: with SSE's `data:` or bare; empty for anything else."""
    value = loads(line[5:] if line.startswith(b"data:") else line)
    return value if isinstance(value, dict) else {}


def count(value: object) -> int:
    """A token count; 0 for anything that is none."""
    return value if type(value) is int and value > 0 else 0  # not isinstance: True is no count


def sub(value: object, *names: str) -> dict[str, Any]:
    """The object found under these names, one inside the other; without names the value itself. Empty where none is."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """A string as it is; "" for anything else."""
    return value if isinstance(value, str) else ""


@dataclass(slots=True)
class Kept:
    """The lines that carry text, kept raw: they are parsed only if the answer turns out cut."""

    lines: list[bytes] = field(default_factory=list)

    def text(self, *paths: tuple[str | int, ...]) -> str:
        """All text found under these paths, in order."""
        return "".join(text_of(dig(data(line), path)) for line in self.lines for path in paths)


def dig(value: object, path: tuple[str | int, ...]) -> object:
    """The value under a path of keys and indices, or None."""
    for step in path:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


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
