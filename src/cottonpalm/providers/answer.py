"""Reads answers of all providers into one shape, and knows the fields of a request that hold its maximum of tokens."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Kind, Usage

ABSURD: Final = 1 << 32  # tokens: no request has so many
_STATUS_DIGITS: Final = 3
_BEYOND: Final = b"0" * 19  # digits: an integer of so many may not fit into 64 bits
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)
Stop: TypeAlias = Literal["cut", "filtered"]


@dataclass(slots=True)
class Complaint:
    """The content of an error answer: its status, every code or type it names, its message, and its details."""

    status: int
    codes: frozenset[str] = frozenset()
    message: str = ""
    details: Any = None


@dataclass(slots=True)
class Answer:
    """What an answer says about itself.

    Attributes:
        complete: False if the body or the stream broke off, or does not have the expected shape.
        stop: "cut" at a length limit, "filtered" by the provider or refused by the model, None otherwise.
        gave_up: the word by which the server says that it did not finish the answer; empty otherwise.
        error: an error that came with a good status.
        usage: all 0 where what is reported is no count (`Usage.counted`). None for a stream that broke off: what it
            had counted until then is not what is billed.
        text: the text so far; kept only if the answer was cut or filtered, or does not report its usage.
        tier: the tier of service, if the answer names it.
    """

    complete: bool = False
    usage: Usage | None = None
    model: str | None = None
    stop: Stop | None = None
    gave_up: str = ""
    text: str = ""
    error: Complaint | None = None
    tier: str | None = None

    @property
    def text_wanted(self) -> bool:
        """Whether `text` is needed."""
        return self.stop is not None or self.usage is None or not self.usage.counted


class Stream(Protocol):
    """Reads one streamed answer line by line."""

    def feed(self, line: bytes) -> None:
        """Take one line, without its line break."""

    def answer(self) -> Answer:
        """Return what is known after the last line."""


class Family(Protocol):
    """One wire format: how its requests are recognised and bounded, how its answers and errors are read."""

    name: str
    maximum: Maximum

    def is_request(self, body: dict[str, Any]) -> bool:
        """Whether a JSON body has the shape of this format's request."""

    def read(self, body: Mapping[str, Any]) -> Answer:
        """Read an answer that came whole."""

    def stream(self) -> Stream:
        """Return a reader for an answer that comes in pieces."""

    def kind(self, complaint: Complaint) -> Kind | None:
        """Say what this provider's own codes mean (its words last); None if the status decides."""


@dataclass(slots=True)
class Lines:
    """Splits pieces of bytes into lines, and keeps the last, unfinished one for the next piece.

    As the SDKs do, it takes a lone carriage return for a line's end, too; a blank line more means nothing.
    """

    rest: bytes = b""

    def cut(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes."""
        *whole, self.rest = (self.rest + piece.replace(b"\r", b"\n")).split(b"\n")
        return whole


def read_bytes(family: Family, content: bytes, body: Any = None) -> Answer:
    """Read an answer from its whole content: a JSON object, or the lines of a stream. `body`: its JSON, where known."""
    if body is None:
        body = loads(content)
    if isinstance(body, list) and body and isinstance(body[0], dict):
        # Gemini's stream without SSE is one JSON array
        return replayed(family, [json.dumps(part).encode() for part in body])
    if isinstance(body, dict):
        return family.read(body)
    return replayed(family, content.split(b"\n"))


def replayed(family: Family, lines: list[bytes]) -> Answer:
    """Read the answer that these lines of a stream make together."""
    stream = family.stream()
    for line in lines:
        stream.feed(line)
    return so_far(stream)


def so_far(stream: Stream) -> Answer:
    """Return the answer of what a stream was fed. Where it broke off, what it had counted is not what is billed."""
    answer = stream.answer()
    if not answer.complete:
        answer.usage = None
    return answer


def loads(content: bytes) -> Any:
    """Return the JSON value as the SDKs would, with half a pair of surrogates and with all digits of an integer.

    None if the content is not JSON.
    """
    try:
        return exactly(content)
    except (orjson.JSONDecodeError, RecursionError):  # a model that is cut within an emoji writes "\\ud83d"
        with suppress(ValueError, RecursionError):
            return json.loads(content)
    return None


def written(value: Any, *, ordered: bool = False) -> bytes:
    """Return JSON of what `loads` has read. `ordered`: with the names in order, so that equal values are equal bytes.

    Raises:
        TypeError: it holds what is not JSON.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if ordered else None)
    except TypeError:  # half a pair of surrogates, or an integer beyond 64 bits
        return json.dumps(value, separators=(",", ":"), sort_keys=ordered).encode()


def exactly(content: bytes) -> Any:
    """Return the JSON value with all digits of its integers, of which orjson rounds those beyond 64 bits.

    Raises:
        JSONDecodeError: of orjson: it is no JSON.
        RecursionError: it has such integers, and is deeper than Python's own reader goes.
    """
    value = orjson.loads(content)
    return json.loads(content) if _BEYOND in content.translate(_AS_ZEROS) else value


def data(line: bytes) -> dict[str, Any]:
    """Return the JSON object in one line of a stream, with SSE's `data:` or bare; empty if there is none."""
    value = loads(line[5:] if line.startswith(b"data:") else line)
    return value if isinstance(value, dict) else {}


def count(value: object) -> int:
    """Return a token count; 0 if the value is not one."""
    return value if type(value) is int and 0 < value < ABSURD else 0  # not isinstance: True is not a count


def counted(counts: Mapping[str, Any], *names: str) -> bool:
    """Whether the counts under these names are such: whole numbers that a request can have, and not all of them 0."""
    some = False
    for name in names:
        value = counts.get(name)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < ABSURD:
            return False
        some = some or value > 0
    return some


def sub(value: object, *names: str) -> dict[str, Any]:
    """Return the object under these nested names (without names, the value itself); empty if there is none."""
    for name in names:
        if not isinstance(value, dict):
            return {}
        value = value.get(name)
    return value if isinstance(value, dict) else {}


def status_of(code: object) -> int | None:
    """Return a code that is an HTTP status, also one written as a text; None for any other."""
    if isinstance(code, str) and len(code) == _STATUS_DIGITS and code.isascii() and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def text_of(value: object) -> str:
    """Return a string as it is; "" for any other value."""
    return value if isinstance(value, str) else ""


@dataclass(slots=True)
class KeptLines:
    """The lines that carry text, kept raw. We parse them only if the text turns out to be needed."""

    lines: list[bytes] = field(default_factory=list)

    def text(self, *paths: tuple[str | int, ...]) -> str:
        """Return all text found under these paths, in order."""
        return "".join(text_of(dig(data(line), path)) for line in self.lines for path in paths)


def dig(value: object, path: tuple[str | int, ...]) -> object:
    """Return the value under a path of keys and indices, or None."""
    for step in path:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maximum:
    """The fields of one wire format that limit an answer.

    Attributes:
        fields: the fields that may hold the maximum of one answer; the first one that is set counts.
        answers: the fields that may hold the number of answers.
        thinking: the fields that may hold a budget of thinking tokens, which count towards the maximum.
        least: the smallest maximum that the provider accepts.
    """

    fields: tuple[Path, ...]
    answers: tuple[Path, ...] = ()
    thinking: tuple[Path, ...] = ()
    least: int = 1

    def of(self, body: dict[str, Any]) -> int | None:
        """Return the most tokens of one answer that the request allows; None if it names no maximum."""
        return _first(body, self.fields) or None

    def answers_of(self, body: dict[str, Any]) -> int:
        """Return how many answers the request asks for."""
        return max(1, _first(body, self.answers))

    def thinking_of(self, body: dict[str, Any]) -> int:
        """Return how many tokens the request lets the model use for thinking."""
        return _first(body, self.thinking)

    def put(self, body: dict[str, Any], tokens: int, otherwise: Path) -> dict[str, Any]:
        """Return a copy of the body with this maximum in the fields it already uses, else in `otherwise`."""
        used = [path for path in self.fields if _at(body, path)] or [otherwise]
        for path in used:
            body = _with(body, path, tokens)
        return body


CHAT = Maximum((("max_completion_tokens",), ("max_tokens",)), (("n",),))


@dataclass(frozen=True, slots=True)
class OfPrompts(Maximum):
    """The fields of a format that takes several prompts at once, each of which gets answers of its own."""

    def answers_of(self, body: dict[str, Any]) -> int:
        """Return how many answers the request asks for."""
        prompts = body.get("prompt")
        many = (
            len(prompts) if isinstance(prompts, list) and all(isinstance(one, str) for one in prompts) else 1
        )
        return max(1, _first(body, self.answers)) * max(1, many)


TEXT = OfPrompts((("max_tokens",),), (("best_of",), ("n",)))
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
COHERE = Maximum((("max_tokens",),), thinking=(("thinking", "token_budget"),))


def _first(body: dict[str, Any], paths: tuple[Path, ...]) -> int:
    for path in paths:  # a plain loop for speed: every request passes here
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
