"""What the fast transport must do as the SDKs do: chains, what a provider may answer them, and who may listen."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
    StrOutputParser,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from tests.fast.wires import Wire, cut, wire

Make = Callable[[str], "Runnable[Any, Any]"]


class Review(BaseModel):
    """What structured chains ask for."""

    positive: bool
    words: list[str] = []


@dataclass(frozen=True)
class Case:
    """One chain and one answer to all its rows."""

    name: str
    make: Make
    wire: Wire
    rows: tuple[Any, ...] = tuple({"text": f"row {number}"} for number in range(4))
    fast: bool = True  # whether its requests are expected to go by the fast transport
    settings: dict[str, Any] = field(default_factory=dict)


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
}


def chat(
    message: dict[str, Any] | None = None, *, finish: str | None = "stop", **more: Any
) -> dict[str, Any]:
    said = {"role": "assistant", "content": "an answer", "refusal": None, "annotations": []} | (message or {})
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        **more,
    }


def tool_call(
    arguments: str = '{"positive": true, "words": ["warm"]}', name: str = "Review"
) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def said(
    content: list[dict[str, Any]] | None = None, *, stop: str = "end_turn", **more: Any
) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": content if content is not None else [{"type": "text", "text": "an answer"}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 2},
        **more,
    }


def openai(url: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        **{"model": "gpt-4o-mini", "base_url": f"{url}/v1", "api_key": "a-key", "max_retries": 0} | options
    )


def azure(url: str, **options: Any) -> AzureChatOpenAI:
    return AzureChatOpenAI(
        **{
            "azure_endpoint": url,
            "azure_deployment": "mine",
            "api_version": "2024-10-21",
            "api_key": "a-key",
            "max_retries": 0,
        }
        | options
    )


def claude(url: str, **options: Any) -> ChatAnthropic:
    return ChatAnthropic(
        **{"model": "claude-sonnet-4-6", "base_url": url, "api_key": "a-key", "max_retries": 0} | options
    )


PROMPT = ChatPromptTemplate.from_messages([("system", "You judge."), ("human", "Is this good? {text}")])
TEXT: Make = lambda url: PROMPT | openai(url) | StrOutputParser()  # noqa: E731
MESSAGE: Make = lambda url: PROMPT | openai(url)  # noqa: E731
FORM: Make = lambda url: PROMPT | openai(url).with_structured_output(Review, method="json_schema")  # noqa: E731
TOOL: Make = lambda url: PROMPT | openai(url).with_structured_output(Review, method="function_calling")  # noqa: E731
CLAUDE: Make = lambda url: PROMPT | claude(url)  # noqa: E731
FORMED = chat({"content": '{"positive": true, "words": ["warm", "good"]}'})
IMAGE = [
    {"type": "text", "text": "What is it?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]


def bodies() -> dict[str, dict[str, Any]]:
    """Answers of chat completions that a chain for text or messages may get."""
    bare = {"choices": [{"message": {"role": "assistant", "content": "an answer"}}]}
    two = chat()
    two["choices"] = [*two["choices"], {**two["choices"][0], "index": 1}]
    odd = {key: value for key, value in chat().items() if key not in ("system_fingerprint", "service_tier")}
    return {
        "full": chat(),
        "bare": bare,
        "no optional fields": odd,
        "usage null": chat(usage=None),
        "usage of another server": chat(
            usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5}
        ),
        "usage in floats": chat(usage={"prompt_tokens": 1.0, "completion_tokens": 2.0, "total_tokens": 3.0}),
        "usage in words": chat(usage={"prompt_tokens": "1", "completion_tokens": "2", "total_tokens": "3"}),
        "flex": chat(service_tier="flex"),
        "fields nobody knows": chat({"reasoning_content": "hm", "zeal": 3}, novelty={"a": [1]}),
        "content null": chat({"content": None}),
        "content a list": chat({"content": [{"type": "text", "text": "an answer"}]}),
        "a tool call": chat({"content": None, "tool_calls": [tool_call()]}, finish="tool_calls"),
        "two tool calls": chat({"tool_calls": [tool_call(), tool_call("{}")]}, finish="tool_calls"),
        "broken tool arguments": chat({"tool_calls": [tool_call("{oh")]}, finish="tool_calls"),
        "a custom tool call": chat(
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "x", "input": "y"}}]}
        ),
        "an old function call": chat(
            {"function_call": {"name": "x", "arguments": "{}"}}, finish="function_call"
        ),
        "a refusal": chat({"content": None, "refusal": "I will not."}),
        "filtered": chat({"content": ""}, finish="content_filter"),
        "cut": chat({"content": "an ans"}, finish="length"),
        "two answers": two,
        "log probabilities": _with_logprobs(),
        "log probabilities, bare": _with_logprobs(bare=True),
        "audio": chat({"audio": {"id": "a", "data": "AA==", "expires_at": 1, "transcript": "t"}}),
        "another role": chat({"role": "tool"}),
        "a name": chat({"name": "Bob"}),
        "finish reason null": chat(finish=None),
        "citations": chat(
            {"annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}]}
        ),
        "an error with 200": {"error": {"message": "no", "code": 429}},
        "an error beside choices": chat(error={"message": "odd"}),
        "choices null": chat(choices=None),
        "no choices": chat(choices=[]),
        "a message missing": chat(choices=[{"index": 0, "finish_reason": "stop"}]),
        "a list": [1],  # type: ignore[dict-item]
        "null": None,  # type: ignore[dict-item]
    }


def _with_logprobs(*, bare: bool = False) -> dict[str, Any]:
    body = chat()
    one = {"token": "an", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    if bare:
        del one["bytes"]
    body["choices"][0]["logprobs"] = {"content": [one]} if bare else {"content": [one], "refusal": None}
    return body


def _bodies() -> Iterator[Case]:
    for name, body in bodies().items():
        yield Case(f"text, {name}", TEXT, wire(body))
        yield Case(f"message, {name}", MESSAGE, wire(body))
        yield Case(f"message, {name}, accepted", MESSAGE, wire(body), settings={"accept_truncated": True})
    for name in (
        "full",
        "bare",
        "a refusal",
        "filtered",
        "cut",
        "a tool call",
        "content null",
        "two answers",
    ):
        yield Case(f"structured, {name}", FORM, wire(bodies()[name]))
        yield Case(
            f"structured, {name}, accepted", FORM, wire(bodies()[name]), settings={"accept_truncated": True}
        )
    yield Case("structured", FORM, wire(FORMED))
    yield Case("structured, wrong", FORM, wire(chat({"content": '{"positive": "perhaps"}'})))
    yield Case("structured, no JSON", FORM, wire(chat({"content": "it is good"})))
    yield Case("by tool", TOOL, wire(chat({"content": None, "tool_calls": [tool_call()]})))
    yield Case("by tool, wrong", TOOL, wire(chat({"tool_calls": [tool_call('{"positive": "perhaps"}')]})))
    yield Case("by tool, text", TOOL, wire(chat()))


def _forms() -> Iterator[Case]:
    text, form = wire(chat()), wire(FORMED)
    schema = {
        "title": "R",
        "description": "d",
        "type": "object",
        "properties": {"positive": {"type": "boolean"}},
    }
    models = {
        "model_kwargs": {"model_kwargs": {"prompt_cache_key": "k"}},
        "extra_body": {"extra_body": {"top_k": 3}},
        "default headers": {"default_headers": {"X-Who": "me"}, "default_query": {"q": "1"}},
        "organization": {"organization": "org-1"},
        "parameters": {"temperature": 0.1, "top_p": 1e-05, "seed": 3, "stop": ["x"], "max_tokens": 5, "n": 2},
        "reasoning model": {"model": "o4-mini", "reasoning_effort": "low"},
        "v1 content": {"output_version": "v1"},
    }
    for name, options in models.items():
        yield Case(
            f"text, {name}", lambda url, o=options: PROMPT | openai(url, **o) | StrOutputParser(), text
        )
        yield Case(f"message, {name}", lambda url, o=options: PROMPT | openai(url, **o), text)
    chains: dict[str, tuple[Make, Wire]] = {
        "the model alone": (lambda url: RunnableLambda(lambda row: row["text"]) | openai(url), text),
        "a plain template": (lambda url: PromptTemplate.from_template("{text}") | openai(url), text),
        "a partial template": (
            lambda url: PROMPT.partial(text="fixed") | openai(url) | StrOutputParser(),
            text,
        ),
        "bound tools": (lambda url: PROMPT | openai(url).bind_tools([Review]), wire(bodies()["a tool call"])),
        "bound stop": (lambda url: PROMPT | openai(url).bind(stop=["a"], temperature=0.3), text),
        "bound headers": (lambda url: PROMPT | openai(url).bind(extra_headers={"X-A": "b"}), text),
        "bound timeout": (lambda url: PROMPT | openai(url).bind(timeout=30), text),
        "bound log bias": (lambda url: PROMPT | openai(url).bind(logit_bias={1: 2}), text),
        "json mode": (
            lambda url: PROMPT | openai(url).with_structured_output(Review, method="json_mode"),
            form,
        ),
        "a schema": (lambda url: PROMPT | openai(url).with_structured_output(schema), form),
        "strict": (lambda url: PROMPT | openai(url).with_structured_output(Review, strict=True), form),
        "with the raw message": (
            lambda url: PROMPT | openai(url).with_structured_output(Review, include_raw=True),
            form,
        ),
        "JSON parser": (lambda url: PROMPT | openai(url) | JsonOutputParser(), form),
        "JSON parser, no JSON": (lambda url: PROMPT | openai(url) | JsonOutputParser(), text),
        "Pydantic parser": (
            lambda url: PROMPT | openai(url) | PydanticOutputParser(pydantic_object=Review),
            form,
        ),
        "parallel": (lambda url: RunnableParallel(a=TEXT(url), b=RunnablePassthrough()), text),
        "assign": (lambda url: RunnablePassthrough.assign(answer=TEXT(url)), text),
        "lambda after": (lambda url: TEXT(url) | RunnableLambda(str.upper), text),
        "two requests": (lambda url: TEXT(url) | (lambda t: {"text": t}) | TEXT(url), text),
        "fallback": (lambda url: TEXT(url).with_fallbacks([TEXT(url)]), text),
        "named": (lambda url: (PROMPT | openai(url)).with_config(run_name="mine", tags=["t"]), text),
        "Azure": (lambda url: PROMPT | azure(url), wire(chat(prompt_filter_results=[{"prompt_index": 0}]))),
        "Azure, structured": (lambda url: PROMPT | azure(url).with_structured_output(Review), form),
        "Azure, filtered": (lambda url: PROMPT | azure(url), wire(bodies()["filtered"])),
    }
    for name, (make, answer) in chains.items():
        yield Case(name, make, answer)
    history = [
        SystemMessage("s"),
        HumanMessage("h"),
        AIMessage("", tool_calls=[{"name": "x", "args": {}, "id": "1"}]),
    ]
    rows = tuple(
        {"history": [*history, ToolMessage("t", tool_call_id="1"), HumanMessage(f"row {n}")]}
        for n in range(4)
    )
    placed = ChatPromptTemplate.from_messages([MessagesPlaceholder("history")])
    yield Case("a conversation", lambda url: placed | openai(url), text, rows)
    yield Case("a conversation, Claude", lambda url: placed | claude(url), wire(said()), rows)
    asked, told = HumanMessage("a question"), SystemMessage("Be brief.")
    turns = ([asked], [asked], [told, asked], [told, asked])
    for name, order in (("at last", turns), ("at first", turns[::-1])):
        some = tuple({"history": messages} for messages in order)
        yield Case(f"system messages {name}, Claude", lambda url: placed | claude(url), wire(said()), some)
    images = tuple({"history": [HumanMessage(content=IMAGE)]} for _ in range(4))
    yield Case("an image", lambda url: placed | openai(url), text, images)
    yield Case("an image, Claude", lambda url: placed | claude(url), wire(said()), images)
    yield Case(
        "text that breaks lines",
        TEXT,
        text,
        tuple({"text": f'"\\\n\u2028\x00 ü \U0001f600 {n}'} for n in range(4)),
    )
    yield Case("half a character", TEXT, text, tuple({"text": f"\ud83d {n}"} for n in range(4)), fast=False)
    yield Case("a variable missing", TEXT, text, ({"text": "a"}, {"test": "b"}, {"text": "c"}, {"text": "d"}))


def shapes() -> dict[str, Make]:
    """Chains as people build them round a prompt and a model."""

    def passed(url: str) -> Runnable[Any, Any]:
        return RunnableLambda(itemgetter("text")) | {"text": RunnablePassthrough()} | TEXT(url)

    return {
        "a passthrough": passed,
        "an item": lambda url: {"text": itemgetter("text")} | TEXT(url),
        "two items": lambda url: {"text": itemgetter("text"), "more": itemgetter("text")} | TEXT(url),
        "an item that is missing": lambda url: {"text": itemgetter("test")} | TEXT(url),
        "a function before": lambda url: {"text": lambda row: row["text"].upper()} | TEXT(url),
        "a function that raises": lambda url: TEXT(url) | (lambda text: {}[text]),
        "a function with a config": lambda url: TEXT(url) | RunnableLambda(_of_config),
        "a coroutine after": lambda url: TEXT(url) | RunnableLambda(_later),
        "a coroutine that raises": lambda url: TEXT(url) | RunnableLambda(_fails_later),
        "a coroutine that gives a chain": lambda url: RunnableLambda(_gives(TEXT(url))),
        "a generator": lambda url: TEXT(url) | RunnableLambda(_letters),
        "an answer beside the row": lambda url: RunnablePassthrough.assign(answer=TEXT(url)),
        "an answer beside no row": lambda url: itemgetter("text") | RunnablePassthrough.assign(a=TEXT(url)),
        "a pick": lambda url: RunnablePassthrough.assign(answer=TEXT(url)).pick("answer"),
        "picks": lambda url: RunnablePassthrough.assign(answer=TEXT(url)).pick(["answer", "text"]),
        "an answer, then another": lambda url: TEXT(url) | {"text": RunnablePassthrough()} | TEXT(url),
        "a branch": lambda url: RunnableBranch((lambda row: "1" in row["text"], TEXT(url)), MESSAGE(url)),
        "tried again": lambda url: TEXT(url).with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
        "a model tried again": lambda url: (
            PROMPT | openai(url).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        ),
        "a fallback that is no chat": lambda url: TEXT(url).with_fallbacks(
            [RunnableLambda(lambda row: row["text"])]
        ),
        "a fallback for other errors": lambda url: TEXT(url).with_fallbacks(
            [RunnableLambda(lambda row: row["text"])], exceptions_to_handle=(KeyError,)
        ),
        "what was found, and a question": lambda url: (
            RunnableLambda(itemgetter("text"))
            | {"text": Finds() | _joined, "question": RunnablePassthrough()}
            | TEXT(url)
        ),
        "a Runnable of one's own": lambda url: Own() | TEXT(url),
        "a mapped chain": lambda url: RunnableLambda(lambda row: [row, row]) | TEXT(url).map(),
        "a parser of one's own": lambda url: PROMPT | openai(url) | Shouts(),
        "a tagged function": lambda url: TEXT(url) | RunnableLambda(_of_config).with_config(tags=["x"]),
        "a named chain of functions": lambda url: (TEXT(url) | _of_config).with_config(run_name="mine"),
    }


class Finds(BaseRetriever):
    """A retriever of the user's."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(page_content=f"{query}, {word}") for word in ("this", "that")]


def _joined(found: list[Document]) -> str:
    return "; ".join(one.page_content for one in found)


class Own(Runnable[Any, Any]):
    """A Runnable of the user's, with its own names."""

    def invoke(self, row: Any, how: RunnableConfig | None = None, **_: Any) -> Any:  # type: ignore[override]
        assert how is not None
        return {"text": row["text"].upper()}


class Shouts(BaseOutputParser[str]):
    """A parser of the user's."""

    def parse(self, text: str) -> str:
        return text.upper()


def _of_config(text: str, config: RunnableConfig) -> str:
    return f"{text} {config['tags']} {config['configurable']} {config['recursion_limit']}"


async def _later(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


async def _fails_later(text: str) -> str:
    await asyncio.sleep(0)
    raise LookupError(text)


def _gives(chain: Runnable[Any, Any]) -> Callable[[Any], Awaitable[Any]]:
    async def give(_: Any) -> Any:
        return chain

    return give


def _letters(text: str) -> Iterator[str]:
    yield from text


def _shapes() -> Iterator[Case]:
    refused = wire({"error": {"message": "It failed.", "type": "kind_of", "code": "a_code"}}, "400 Oh")
    none_sent = ("an item that is missing", "an answer beside no row")
    for name, make in shapes().items():
        fast = name not in none_sent
        yield Case(name, make, wire(chat()), fast=fast)
        if name != "a mapped chain":  # of which one request may be cut off by the other
            yield Case(f"{name}, 400", make, refused, fast=fast)


def _claude() -> Iterator[Case]:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    use = {"type": "tool_use", "id": "t1", "name": "Review", "input": {"positive": True, "words": ["warm"]}}
    cited = {"type": "text", "text": "a", "citations": None}
    answers = {
        "text": said(),
        "two blocks": said([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        "no citations": said([cited]),
        "thinking": said([thought, {"type": "text", "text": "b"}]),
        "a tool": said([use], stop="tool_use"),
        "nothing": said([]),
        "cut": said(stop="max_tokens"),
        "a refusal": said(stop="refusal"),
        "cache written": said(
            usage={
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
                "service_tier": "standard",
            }
        ),
        "a new field": said(zeal=1),
        "an error with 200": {"type": "error", "error": {"type": "api_error", "message": "m"}},
        "no content": {"type": "message", "usage": {}},
    }
    for name, body in answers.items():
        yield Case(f"Claude, {name}", CLAUDE, wire(body))
        yield Case(f"Claude, {name}, accepted", CLAUDE, wire(body), settings={"accept_truncated": True})
    tools = wire(answers["a tool"])
    yield Case("Claude, text chain", lambda url: PROMPT | claude(url) | StrOutputParser(), wire(said()))
    yield Case("Claude, by tool", lambda url: PROMPT | claude(url).with_structured_output(Review), tools)
    yield Case("Claude, tools", lambda url: PROMPT | claude(url).bind_tools([Review]), tools)
    yield Case(
        "Claude, betas", lambda url: PROMPT | claude(url, betas=["files-api-2025-04-14"]), wire(said())
    )
    yield Case(
        "Claude, by schema",
        lambda url: PROMPT | claude(url).with_structured_output(Review, method="json_schema"),
        wire(said([{"type": "text", "text": '{"positive": true, "words": []}'}])),
    )


def _errors() -> Iterator[Case]:
    error = {"error": {"message": "It failed.", "type": "kind_of", "param": "p", "code": "a_code"}}
    anthropics = {"type": "error", "error": {"type": "invalid_request_error", "message": "It failed."}}
    for status in (
        400,
        401,
        402,
        403,
        404,
        408,
        409,
        413,
        418,
        422,
        425,
        429,
        499,
        500,
        502,
        503,
        504,
        520,
        529,
    ):
        for name, make, body in (
            ("text", TEXT, error),
            ("structured", FORM, error),
            ("Claude", CLAUDE, anthropics),
        ):
            made = wire(body, f"{status} Oh", {"Retry-After": "0"} if status == 429 else {})
            yield Case(f"{name}, {status}", make, made)
    special = {
        "HTML": wire(b"<html>Bad Gateway</html>", "502 Bad Gateway", {"Content-Type": "text/html"}),
        "nothing": wire(b"", "500 Oh"),
        "packed": wire(error, "400 Oh", packed=True),
        "in chunks": wire(error, "400 Oh", chunks=3),
        "context": wire({"error": {"message": "too long", "code": "context_length_exceeded"}}, "400 Oh"),
        "no schema": wire({"error": {"message": "Invalid schema for response_format: no"}}, "400 Oh"),
        "quota": wire({"error": {"message": "no money", "code": "insufficient_quota"}}, "429 Oh"),
    }
    for name, made in special.items():
        yield Case(f"text, an error: {name}", TEXT, made)
        yield Case(f"structured, an error: {name}", FORM, made)


def _wires() -> Iterator[Case]:
    full, parts = wire(chat()), wire(chat(), chunks=4)
    good = {
        "packed": wire(chat(), packed=True),
        "in chunks": parts,
        "packed in chunks": wire(chat(), packed=True, chunks=5),
        "until the end": wire(chat(), until_close=True),
        "not kept": wire(chat(), headers={"Connection": "close"}),
        "after a hint": Wire((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", *full.pieces)),
        "byte by byte": Wire(tuple(bytes([byte]) for byte in b"".join(full.pieces))),
        "headers twice": wire(
            chat(), headers={"Set-Cookie": "a=1", "set-cookie": "b=2", "X-RateLimit-Limit-Requests": "9"}
        ),
        "line feeds alone": Wire((full.pieces[0].replace(b"\r\n", b"\n"), full.pieces[1])),
        "a folded header": Wire((full.pieces[0].replace(b": ", b":\r\n  ", 1), full.pieces[1])),
        "deflated": wire(zlib.compress(json.dumps(chat()).encode()), headers={"Content-Encoding": "deflate"}),
        "packed in a way that nobody knows": wire(chat(), headers={"Content-Encoding": "utf-8"}),
        "the gateway": wire(chat(), headers={"X-LangSmith-Gateway-Metadata": '{"a": 1}'}),
    }
    for name, made in good.items():
        yield Case(f"text, {name}", TEXT, made)
        yield Case(f"message, {name}", MESSAGE, made)
    bad = {
        "cut in the head": cut(full, len(full.pieces[1]) + 20),
        "cut in the body": cut(full, 20),
        "cut in a chunk": cut(parts, 40),
        "cut at the last chunk": cut(parts, 5),
        "no answer": Wire((b"",), "close"),
        "reset": Wire((b"",), "reset"),
        "garbage": Wire((b"oh no\r\n\r\n",), "close"),
        "no JSON": wire(b"<html>", headers={"Content-Type": "text/html"}),
        "half of the JSON": wire(b'{"id": "x", "choices": ['),
        "an empty body": wire(b""),
        "a broken pack": wire(b"not gzip", headers={"Content-Encoding": "gzip"}),
        "a broken deflation": wire(b"not deflated", headers={"Content-Encoding": "deflate"}),
        "bad chunk size": Wire((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",), "close"),
        "no content": wire(b"", "204 No Content"),
    }
    for name, made in bad.items():
        yield Case(f"text, {name}", TEXT, made)
        yield Case(f"structured, {name}", FORM, made)
    slow = {"timeout": 0.3}
    yield Case(
        "text, too slow", TEXT, Wire((b"",), "hang"), settings=slow, rows=({"text": "a"}, {"text": "b"})
    )
    impatient: Make = lambda url: PROMPT | openai(url, timeout=0.3)  # noqa: E731
    hangs = Wire((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",), "hang")
    yield Case("message, the client is impatient", impatient, hangs, rows=({"text": "a"}, {"text": "b"}))


def _stock() -> Iterator[Case]:
    """What the SDKs do themselves."""
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-5",
        "status": "completed",
        "output": [
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "an answer", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    events = [
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "an answer"}}],
        },
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        },
    ]
    lines = (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    )
    streamed = wire(lines, headers={"Content-Type": "text/event-stream"})
    for case in (
        Case("Responses", lambda url: PROMPT | openai(url, use_responses_api=True), wire(response)),
        Case("streamed", lambda url: PROMPT | openai(url, streaming=True), streamed),
        Case(
            "its headers wanted",
            lambda url: PROMPT | openai(url, include_response_headers=True),
            wire(chat()),
        ),
        Case("a key made each time", lambda url: PROMPT | openai(url, api_key=lambda: "a-key"), wire(chat())),
        Case(
            "Azure, a token",
            lambda url: PROMPT | azure(url, api_key=None, azure_ad_token_provider=lambda: "t"),
            wire(chat()),
        ),
        Case(
            "a subclass with results of its own",
            lambda url: PROMPT | Loud(model="m", base_url=url, api_key="k"),
            wire(chat()),
        ),
    ):
        yield replace(case, fast=False)


class Loud(ChatOpenAI):
    """Overrides what the fast transport stands in for."""

    def _create_chat_result(self, response: Any, generation_info: Any = None) -> Any:
        result = super()._create_chat_result(response, generation_info)
        result.generations[0].message.content = type(response).__name__
        return result


def all_cases() -> list[Case]:
    """Every case."""
    return [*_bodies(), *_forms(), *_shapes(), *_claude(), *_errors(), *_wires(), *_stock()]
