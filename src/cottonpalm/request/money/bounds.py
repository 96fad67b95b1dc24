"""Computes the most that a request can use, from its body and from what is known about its model. No I/O.

Input: no tokenizer makes more tokens of a text than the text has bytes. So the bytes of the body, plus an allowance for
what providers add, bound the input that is in the body. Input outside the body (files, kept conversations, documents
by reference) is at most the model's context window; the provider's own tools may read it again at each use.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.money.rules.rates import Extent

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.rules.prices import Tariff

MESSAGE_TOKENS: Final = 8  # providers add tokens to each message: 3 or 4, as documented
TOOLS_TOKENS: Final = 1_024  # providers add a prompt that explains tools: up to 735 tokens, as documented
IMAGE_TOKENS: Final = 50_000  # more than any listed provider counts for an image: 48,169, as documented
_IMAGE: Final = re.compile(
    rb'"(?:image_url|input_image|inline_data|inlineData|images)"|"type"\s*:\s*"(?:image|input_image)"'
)
_MEDIA: Final = re.compile(
    rb'"(?:input_audio|inline_data|inlineData|file_data|fileData|modalities|responseModalities|images?|image_url)"'
    rb'|"type"\s*:\s*"(?:image|input_image)"'
)
_ELSEWHERE: Final = re.compile(
    rb'"(?:previous_response_id|file_id|fileUri|file_uri|file_url|cachedContent|cached_content)"\s*:\s*"'
    rb'|"conversation"\s*:\s*[{"]|"prompt"\s*:\s*\{\s*"(?:id|variables|version)"'
    rb'|"type"\s*:\s*"(?:document|file|input_file|container_upload|video|video_url)"'
    rb'|"mime_?[tT]ype"\s*:\s*"(?:video/|application/pdf)'
)
_TOOL: Final = re.compile(
    rb'"type"\s*:\s*"(web_search|file_search|web_fetch|code_execution|code_interpreter|mcp|image_generation'
    rb"|computer_use_preview|local_shell|shell|tool_search|advisor)"
    rb'|"(google_search|googleSearch|google_search_retrieval|googleSearchRetrieval|url_context|urlContext'
    rb'|code_execution|codeExecution|google_maps|googleMaps|web_search_options|mcp_servers|plugins)"\s*:\s*[{\[]'
)
_SOLD: Final = frozenset({b"web_search", b"file_search", b"web_fetch"})  # tools whose uses we can count
_SEARCHES: Final = ("web_search", "file_search", "web_fetch")


# The fields of a common request. A body with only these fields need not be searched for the words above.
_PLAIN: Final = frozenset(
    {
        *(
            "model",
            "messages",
            "system",
            "instructions",
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
        ),
        *(
            "temperature",
            "top_p",
            "top_k",
            "stop",
            "stop_sequences",
            "seed",
            "stream",
            "stream_options",
            "user",
        ),
        *("service_tier", "reasoning_effort", "reasoning", "presence_penalty", "frequency_penalty", "store"),
        "response_format",
    }
)
_TEXT_FORMATS: Final = ("text", "json_object", "json_schema")  # of an answer


def text_input(call: Call) -> int | None:
    """Return the most input tokens of a request that asks for one plain-text answer; None for any other request.

    This is a fast path for the common case: input and output are text alone, and all input is in the body.
    """
    body = call.body
    if not _PLAIN.issuperset(body) or ("system" in body and type(body["system"]) is not str):
        return None
    if (form := body.get("response_format")) is not None and not _is_text(form):
        return None
    messages = body.get("messages")
    if type(messages) is not list:
        return None
    for one in messages:
        if type(one) is not dict or len(one) != 2 or type(one.get("content")) is not str:
            return None
    return len(call.content) + MESSAGE_TOKENS * (len(messages) + 1)


def _is_text(form: Any) -> bool:
    """Whether this form of an answer is text; its schema is in the body, and read like the messages."""
    return type(form) is dict and form.get("type") in _TEXT_FORMATS


def extent(call: Call, tariff: Tariff, output_tokens: int | None = None) -> Extent | str:
    """Return the most that this request can use; or a text that says why this is unknown and what the user can set.

    Args:
        call: the request.
        tariff: what is known about its model.
        output_tokens: a maximum of one answer that replaces the request's own maximum.
    """
    maximum, body = call.family.maximum, call.body
    output = output_tokens or call.most_output
    if output is None:
        return (
            f"requests to {call.model!r} name no maximum of output tokens: set max_tokens on the model, "
            "or Budget(max_output_tokens=...) (--max-output-tokens)"
        )
    if (plain := text_input(call)) is not None:
        return Extent(plain, output)
    uses = _uses(call, tariff)
    if isinstance(uses, str):
        return uses
    read = _input(call, tariff, out_of_sight=uses > 0)
    if isinstance(read, str):
        return read
    answers, rounds = maximum.answers_of(body), uses + 1
    media = _MEDIA.search(call.content) is not None or read == tariff.window
    return Extent(read * answers * rounds, output * answers * rounds, media, uses * answers)


def _input(call: Call, tariff: Tariff, *, out_of_sight: bool) -> int | str:
    """Return the most tokens that the model can read at once for this request."""
    if not (out_of_sight or reads_elsewhere(call)):
        return _seen(call)
    if tariff.window is None:
        return (
            f"what a request to {call.model!r} reads cannot be bounded: it refers to files, a kept conversation, a "
            "stored prompt or tools that the provider runs, and the model's context window is not known; run it "
            "without a budget"
        )
    return tariff.window


def _seen(call: Call) -> int:
    body, content = call.body, call.content
    messages = next((part for name in ("messages", "input", "contents") if (part := body.get(name))), None)
    count = len(messages) if isinstance(messages, list) else 1
    tools = TOOLS_TOKENS if body.get("tools") or body.get("functions") else 0
    images = IMAGE_TOKENS * len(_IMAGE.findall(content))
    return len(content) + MESSAGE_TOKENS * (count + 1) + tools + images


def reads_elsewhere(call: Call) -> bool:
    """Whether the model reads things outside the body: files, kept conversations, stored prompts, document pages."""
    return _ELSEWHERE.search(call.content) is not None


def uses_tools_of_the_provider(call: Call) -> bool:
    """Whether the provider may run tools of its own before it answers."""
    return _TOOL.search(call.content) is not None


def _uses(call: Call, tariff: Tariff) -> int | str:
    """Return the most times that the model can use the provider's own tools."""
    kinds = {one or other for one, other in _TOOL.findall(call.content)}
    if not kinds:
        return 0
    if unknown := sorted(kinds - _SOLD):
        return (
            f"a request to {call.model!r} uses a tool that the provider runs ({unknown[0].decode()}), whose fee is not "
            "known; run it without a budget"
        )
    most = _most_uses(call.body)
    if most is None:
        return (
            f"a request to {call.model!r} lets the provider search as often as it likes: set max_uses on the tool "
            "(max_tool_calls on the request, with OpenAI), or run it without a budget"
        )
    fees = {
        b"web_search": tariff.rates and tariff.rates.web_search,
        b"file_search": tariff.rates and tariff.rates.file_search,
    }
    if unsold := sorted(kind for kind in kinds & fees.keys() if fees[kind] is None):
        return f"the fee of {unsold[0].decode()} with {call.model!r} is not known: pass prices= as a function"
    return most


def _most_uses(body: dict[str, Any]) -> int | None:
    whole = body.get("max_tool_calls")
    if type(whole) is int and whole > 0:
        return whole
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, dict)]
    own = [tool.get("max_uses") for tool in tools if str(tool.get("type", "")).startswith(_SEARCHES)]
    uses = [use for use in own if type(use) is int]
    return sum(uses) if uses and len(uses) == len(own) else None
