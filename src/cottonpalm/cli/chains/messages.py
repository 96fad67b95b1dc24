"""Rows that are messages already: a column of them, images beside a prompt, requests of a batch file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias

import orjson
from langchain_core.messages import (
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
    messages_from_dict,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, PrivateAttr

from cottonpalm.cli.chains.prompts import RowPrompt  # noqa: TC001 - Pydantic reads it
from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

Row: TypeAlias = dict[str, Any]
AN_OBJECT: Final = re.compile(r'\s*(\[\s*)?\{\s*"')  # how messages begin that are written as JSON
ADDRESS: Final = re.compile(r"https?://", re.IGNORECASE)
DATA: Final = re.compile(r"data:(?P<kind>image/[\w.+-]+);base64,(?P<content>.*)", re.DOTALL)
KINDS: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
OURS: Final = ("messages", "model", "stream", "system")  # of a request: what is not a setting of the model


class RowMessages(RunnableSerializable[Row, list[BaseMessage]]):
    """A column that holds a row's messages: OpenAI's shape, LangChain's, JSON text of either, or a plain text.

    Attributes:
        column: the column.
        system: a system message before them; None: none.
    """

    column: str
    system: str | None = None
    cottonpalm_form: ClassVar[int] = 1

    @property
    def cottonpalm_reads(self) -> tuple[str, ...]:
        """All that it reads of a row."""
        return (self.column,)

    def invoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> list[BaseMessage]:  # noqa: A002, ARG002
        """The messages of one row."""
        found = messages_of(input[self.column], self.column)
        return found if self.system is None else [SystemMessage(self.system), *found]

    async def ainvoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, on the loop: nothing here waits."""
        return self.invoke(input, config, **kwargs)


class RowImages(RunnableSerializable[Row, list[BaseMessage]]):
    """A prompt with images beside the text of its last message.

    Attributes:
        prompt: makes the messages of a row.
        images: the columns that hold an image each: a path, an address, a data URL or the bytes; an empty one has none.
    """

    prompt: RowPrompt | RowMessages
    images: tuple[str, ...]
    cottonpalm_form: ClassVar[int] = 1
    _folder: str = PrivateAttr(default="")  # where paths begin; not a part of the question

    @property
    def cottonpalm_reads(self) -> tuple[str, ...]:
        """All that it reads of a row."""
        return (*self.prompt.cottonpalm_reads, *self.images)

    def invoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> list[BaseMessage]:  # noqa: A002, ARG002
        """The messages of one row."""
        *before, last = self.prompt.invoke(input)
        blocks = last.content if isinstance(last.content, list) else [{"type": "text", "text": last.content}]
        shown = [_image(input[column], column, self._folder) for column in self.images if input[column]]
        return [*before, last.model_copy(update={"content": [*blocks, *shown]})]

    async def ainvoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, on the loop: small files are read quickly."""
        return self.invoke(input, config, **kwargs)


class RowRequest(RunnableSerializable[Row, Any]):
    """Rows that are requests, as in a provider's batch file: messages, and settings that go before the model's own.

    Attributes:
        model: is asked.
        column: holds the request.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    model: Runnable[Any, Any]
    column: str
    cottonpalm_form: ClassVar[int] = 1

    @property
    def cottonpalm_reads(self) -> tuple[str, ...]:
        """All that it reads of a row."""
        return (self.column,)

    def invoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The model's message."""
        request = request_of(input[self.column], self.column)
        return self.model.invoke(request.messages, config, **{**request.settings, **kwargs})

    async def ainvoke(self, input: Row, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, on the loop."""
        request = request_of(input[self.column], self.column)
        return await self.model.ainvoke(request.messages, config, **{**request.settings, **kwargs})


class Request(NamedTuple):
    """What one request asks."""

    messages: list[BaseMessage]
    settings: dict[str, Any]


def request_of(value: Any, column: str) -> Request:
    """Read a request; which model it names does not matter, as `--model` says which is asked.

    Raises:
        ValueError: it has no messages, or none of a known shape.
    """
    if not isinstance(value, dict) or "messages" not in value:
        raise ValueError(f"{column!r} holds no chat request: it has no messages")
    messages = messages_of(value["messages"], "messages")
    if system := value.get("system"):
        messages = [SystemMessage(system), *messages]
    return Request(messages, {name: given for name, given in value.items() if name not in OURS})


def messages_of(value: Any, column: str) -> list[BaseMessage]:
    """Make messages of what a column holds.

    Raises:
        ValueError: it holds none of a known shape.
    """
    if isinstance(value, str) and isinstance(value := _json_or_text(value, column), HumanMessage):
        return [value]
    if isinstance(value, dict):
        value = value.get("messages", [value])
    if value is None:
        value = []
    if hasattr(value, "tolist"):  # of a Parquet file
        value = value.tolist()
    try:
        found = [_message(each) for each in value]
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(
            f'{column!r} holds no messages, such as [{{"role": "user", "content": "…"}}]: {error}'
        ) from error
    if not found:
        raise ValueError(f"{column!r} holds no messages: it is empty")
    return found


def _json_or_text(text: str, column: str) -> Any:
    """What JSON text says, or the text as a message.

    Raises:
        ValueError: it begins as JSON of messages does, and is none.
    """
    if not text.lstrip().startswith(("[", "{")):
        return HumanMessage(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not AN_OBJECT.match(text):  # "[urgent] Where is my order?"
            return HumanMessage(text)
        raise ValueError(  # the error itself would count as an answer that is no JSON
            f"{column!r} holds no messages: it begins as JSON does, and is none: {error}"
        ) from None


def _message(value: Any) -> BaseMessage:
    if isinstance(value, dict):
        if "data" in value:  # as `messages_to_dict` writes it
            return messages_from_dict([value])[0]
        if isinstance(value.get("kwargs"), dict):  # as `dumpd` writes it
            value = value["kwargs"]
        value = {name: each for name, each in value.items() if each is not None}
    return convert_to_messages([value])[0]


def _image(value: Any, column: str, folder: str) -> dict[str, str]:
    if isinstance(value, dict):  # as Hugging Face's datasets hold it
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        if ADDRESS.match(value):
            return {"type": "image", "url": value}
        if (inline := DATA.fullmatch(value)) is not None:
            return {"type": "image", "base64": inline["content"], "mime_type": inline["kind"]}
        value = _read(Path(folder, value).expanduser(), column)
    if not isinstance(value, bytes):
        raise TypeError(f"{column!r} holds no image: a path, an address or bytes, not {type(value).__name__}")
    kind = next((kind for begins, kind in KINDS if begins.match(value)), None)
    if kind is None:
        raise ValueError(f"{column!r} holds no image: its bytes are not PNG, JPEG, GIF or WebP")
    return {"type": "image", "base64": base64.b64encode(value).decode(), "mime_type": kind}


def _read(path: Path, column: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{column!r} names an image that cannot be read: {path}: {error.strerror}"
        ) from error


def shown(content: Any) -> str:
    """A message's content for a person: images by their kind and size."""
    if not isinstance(content, list):
        return str(content)
    return "\n".join(_shown(block) for block in content)


def _shown(block: Any) -> str:
    if not isinstance(block, dict) or block.get("type") != "image":
        return str(block.get("text", block)) if isinstance(block, dict) else str(block)
    if "url" in block:
        return f"[image {block['url']}]"
    return f"[{block['mime_type']}, {len(base64.b64decode(block['base64'])):,} bytes]"


def with_images(
    prompt: RowPrompt | RowMessages, images: list[str], columns: Mapping[str, Any] | list[str], folder: str
) -> RowImages:
    """Put images beside a prompt.

    Raises:
        Problem: one is no column.
    """
    for column in images:
        if column not in columns:
            raise Problem(f"--image {column}: the input has no such column; it has {', '.join(columns)}")
    made = RowImages(prompt=prompt, images=tuple(images))
    made._folder = folder  # noqa: SLF001 - a private part of the question's class, set by its maker
    return made
