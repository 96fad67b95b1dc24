"""Says what a failure means: one table for raw error answers and for the exceptions that SDKs make of them."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.errors import RowFailed, words_of
from cottonpalm.providers import hints, langchain, raised, unseen
from cottonpalm.providers.answer import Complaint, Family, loads, status_of, sub, text_of
from cottonpalm.providers.paths import ANTHROPIC, COHERE, GOOGLE, OPENAI_CHAT, family_of
from cottonpalm.providers.quotas import allows_nothing
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

BY_STATUS: Final[dict[int, Kind]] = {
    400: Kind.FAIL_ROW,
    401: Kind.STOP_RUN,
    402: Kind.STOP_RUN,
    403: Kind.FAIL_ROW,  # one flagged input, say: only named codes stop a run, and bare ones that repeat
    404: Kind.FAIL_ROW,
    407: Kind.STOP_RUN,  # of a proxy on the way, which lets no row through
    408: Kind.TRANSIENT,
    409: Kind.TRANSIENT,
    413: Kind.DEGRADE,
    424: Kind.TRANSIENT,
    425: Kind.TRANSIENT,
    429: Kind.THROTTLE,
    498: Kind.THROTTLE,
    499: Kind.TRANSIENT,
    503: Kind.THROTTLE,
    529: Kind.THROTTLE,
}
SLOWER: Final = frozenset({"slow_down"})  # a 503 that means the one who asks
# put into an answer that turned out to be of all rows, for whoever reads it next
STOPS: Final = "x-cottonpalm-stops"
# put into the answer that stands for an exception of ours: its class
REFUSES: Final = "x-cottonpalm-refuses"
OURS: Final[tuple[tuple[type[BaseException], Kind], ...]] = (
    (raised.CutAnswer, Kind.DEGRADE),
    (raised.FilteredAnswer, Kind.FAIL_ROW),
    (raised.BudgetBusy, Kind.TRANSIENT),
    (raised.BudgetReached, Kind.STOP_RUN),
    (raised.ProviderDown, Kind.TRANSIENT),
    (raised.SignatureExpired, Kind.TRANSIENT),
)
_OUR_KINDS: Final = {known.__name__: kind for known, kind in OURS}
_SDKS: Final = ("openai", "anthropic", "groq", "cerebras.cloud.sdk", "together", "fireworks", "perplexity")
_HTTP: Final = ("httpx", "httpx2")
_BROKEN: Final = (
    *((module, name) for module in _HTTP for name in ("TransportError", "DecodingError", "TooManyRedirects")),
    *((module, "APIConnectionError") for module in _SDKS),
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("requests.exceptions", "ChunkedEncodingError"),
    ("urllib3.exceptions", "TimeoutError"),
    ("urllib3.exceptions", "ProtocolError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("http.client", "IncompleteRead"),
)
_LOOPS: Final = ("Event loop is closed", "bound to a different event loop", "attached to a different loop")
# what the machine has no more of for now: open files, memory, room on the disk
_USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
_NO_THREAD: Final = "can't start new thread"  # Python has no class for it
_NO_HEADER: Final = "Illegal header"  # h11 has no class for it
_DEPTH: Final = 12
_WORST_FIRST: Final = (Kind.STOP_RUN, Kind.DEGRADE, Kind.REASK, Kind.THROTTLE, Kind.TRANSIENT)


def classify(exc: BaseException) -> Fault:
    """Return what an exception means for its row and the run. It follows the causes until one is known.

    It goes by class, status and code. Only a provider's own module looks at words, and does so last. An unknown
    exception, such as an error in the user's own code, fails only its row.
    """
    if any(map(_has_no_header, _causes(exc))):
        return _of(Kind.FAIL_ROW, exc)
    if any(map(_is_kept_out_by_a_proxy, _causes(exc))):
        return _of(Kind.STOP_RUN, exc)
    frames: list[FrameType] = []
    for link in _causes(exc):
        if (ours := _lost_in_litellm(link)) is not None:
            return replace(classify(ours), cause=exc)
        if fault := _tell(link):
            said = _answered(exc) if link is exc else None
            return replace(fault, type=type(exc).__name__, message=said or words_of(exc), cause=exc)
        frames = frames or unseen.frames_in_model(link)
        if frames and (fault := _of_unseen(link, frames)):
            return replace(fault, type=type(exc).__name__, cause=exc)
    return _of(Kind.FAIL_ROW, exc)


def judge_status(family: Family, status: int, headers: Mapping[str, str], content: bytes) -> Fault:
    """Say what an error answer to a model request means."""
    return judge(family, _complaint(status, loads(content), content, headers), headers)


def is_bare_refusal(family: Family, status: int, headers: Mapping[str, str], content: bytes) -> bool:
    """A refusal without a code that says whether it is of the key, of the model, or of this one input."""
    if status not in (403, 404):
        return False
    return family.kind(_complaint(status, loads(content), content, headers)) is None


def judge(family: Family, complaint: Complaint, headers: Mapping[str, str]) -> Fault:
    """Say what an error object means, by its codes, then by its status."""
    if (refusal := headers.get(REFUSES)) in _OUR_KINDS:
        return Fault(_OUR_KINDS[refusal], refusal, complaint.message)
    stops = STOPS in headers or (complaint.status == 429 and allows_nothing(headers))
    kind = Kind.STOP_RUN if stops else family.kind(complaint) or by_status(complaint.status)
    wait = hints.wait_s(headers, complaint.message, complaint.details)
    overload = kind is Kind.THROTTLE and _is_of_all(complaint)
    return Fault(
        kind, _name(complaint), complaint.message or f"HTTP {complaint.status}", wait, overload=overload
    )


def _is_of_all(complaint: Complaint) -> bool:
    """Whether the model's provider is overloaded by all its users.

    It says so by a code of its own. What stands in front of a model (a proxy's limit, a full queue) answers with a 503
    as well, and means us.
    """
    return complaint.status == 529 or (
        complaint.status == 503 and bool(complaint.codes) and not complaint.codes & SLOWER
    )


def by_status(status: int) -> Kind:
    """Say what an HTTP status alone means. An error under a good status counts as transient."""
    if (known := BY_STATUS.get(status)) is not None:
        return known
    return Kind.FAIL_ROW if 400 <= status < 500 else Kind.TRANSIENT


def never_sent(exc: BaseException) -> bool:
    """Whether it is certain that the request did not reach the provider, so that it was not billed."""
    sure = {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
        "InvalidURL",
    }
    by_class = any(name.__name__ in sure for name in type(exc).__mro__)
    return by_class or isinstance(exc, ConnectionRefusedError) or _has_no_header(exc)


def _of(kind: Kind, exc: BaseException) -> Fault:
    return Fault(kind, type(exc).__name__, words_of(exc), cause=exc)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exception, then its causes; of a group, its members, the most important first."""
    link: BaseException | None = exc
    for _ in range(_DEPTH):
        if link is None:
            return
        if isinstance(link, BaseExceptionGroup):
            faults = [(classify(member).kind, member) for member in link.exceptions]
            worst = next((kind for kind in _WORST_FIRST if any(kind is k for k, _ in faults)), None)
            yield from (member for kind, member in faults if kind is worst)
        yield link
        link = link.__cause__


def _tell(exc: BaseException) -> Fault | None:
    """Say what this one exception means without its causes; None if it does not tell."""
    if isinstance(exc, RowFailed):
        return Fault(exc.record.kind, exc.record.type, exc.record.message)
    if isinstance(exc, raised.BrokenAnswer):
        return _of(exc.kind, exc)
    ours = next((kind for known, kind in OURS if isinstance(exc, known)), None)
    kind = ours or langchain.sharper_than_status(exc)
    if kind is not None:
        return _of(kind, exc)
    kind = langchain.kind(exc) or _transport(exc) or _machine(exc)
    return _status_error(exc) or _wrapped(exc) or _told(kind, exc)


def _wrapped(exc: BaseException) -> Fault | None:
    """Judge the SDK's error behind an error of LangChain: it says more than the class that LangChain chose."""
    cause = exc.__cause__
    return _status_error(cause) if cause is not None and langchain.is_model_error(exc) else None


def _of_unseen(exc: BaseException, frames: list[FrameType]) -> Fault | None:
    """Judge the error answer behind an exception that a model raised whose requests we do not see."""
    if (answer := unseen.error_answer(exc, frames)) is None:
        return None
    words = words_of(exc)
    complaint = _complaint(answer.status, answer.body, words.encode(errors="replace"), answer.headers)
    fault = judge(OPENAI_CHAT, complaint, answer.headers)
    return replace(fault, message=words if complaint.message in words else f"{fault.type}: {fault.message}")


def _lost_in_litellm(exc: BaseException) -> BaseException | None:
    """The exception of ours that LiteLLM caught, and raised as an error of the server's; None: there is none."""
    link: BaseException | None = exc
    for _ in range(_DEPTH):
        if link is None or not type(link).__module__.startswith("litellm."):
            break
        link = link.__cause__ or link.__context__
    known = any(isinstance(link, kind) for kind, _ in OURS) or isinstance(link, raised.BrokenAnswer)
    return link if known and link is not exc else None


def _answered(exc: BaseException) -> str | None:
    """Describe an error answer in the provider's own words, with its status; SDKs would print the whole body."""
    fault = _status_error(exc) or _wrapped(exc)
    if fault is None or fault.message == words_of(exc):
        return None
    # 200: the error came inside a stream
    return fault.message if fault.type == "200 OK" else f"{fault.type}: {fault.message}"


def _told(kind: Kind | None, exc: BaseException) -> Fault | None:
    return _of(kind, exc) if kind is not None else None


def _status_error(exc: BaseException) -> Fault | None:
    """Judge an SDK's exception for an error answer, or an HTTP library's exception for a model request."""
    if (family := _family(exc)) is None:
        return None
    response = getattr(exc, "response", None)
    body = unseen.body_of(exc)
    body = body if body is not None else getattr(exc, "details", None)
    headers = unseen.headers_of(exc)
    text = words_of(exc).encode(errors="replace")
    return judge(family, _complaint(_status(exc, response), body, text, headers), headers)


def _status(exc: BaseException, response: object) -> int:
    """Return the status of the answer; 200 for an error that came inside a stream."""
    found = (
        getattr(exc, "status_code", None),
        getattr(response, "status_code", None),
        getattr(exc, "code", None),
    )
    return next((status for one in found if (status := status_of(one)) is not None), 200)


def _family(exc: BaseException) -> Family | None:
    """Return the format of the error answer behind this exception; None if there is no such answer."""
    for name in _SDKS:
        if _is(exc, name, "APIError") and not _is(exc, name, "APIConnectionError"):
            return ANTHROPIC if name == "anthropic" else _spoken_at(exc) or OPENAI_CHAT
    if _is(exc, "google.genai.errors", "APIError"):
        return GOOGLE
    if _is(exc, "cohere.core.api_error", "ApiError"):
        return COHERE
    if _is(exc, "ollama", "ResponseError"):
        return OPENAI_CHAT
    for name in _HTTP:
        if _is(exc, name, "HTTPStatusError"):  # an error of a service that is not a model tells nothing
            return family_of(exc.request.url.path)  # type: ignore[attr-defined]
    return None


def _spoken_at(exc: BaseException) -> Family | None:
    """Return the format spoken where an SDK sent its request; None where that is no path that we know."""
    path = getattr(getattr(getattr(exc, "request", None), "url", None), "path", None)
    return family_of(path) if isinstance(path, str) else None


def _transport(exc: BaseException) -> Kind | None:
    """Judge errors of the transport to and from the provider."""
    if any(_is(exc, module, name) for module, name in _BROKEN):
        return Kind.TRANSIENT
    if isinstance(exc, (TimeoutError, ConnectionError)) or _of_a_loop(exc) or _no_answer_by_urllib(exc):
        return Kind.TRANSIENT
    return None


def _machine(exc: BaseException) -> Kind | None:
    """Judge what this machine refuses to whoever asks: no row's fault, and another hour may have it."""
    if isinstance(exc, OSError):
        return Kind.TRANSIENT if exc.errno in _USED_UP else None
    is_refused = type(exc) is RuntimeError and str(exc).startswith(_NO_THREAD)
    return Kind.TRANSIENT if is_refused else None


def _has_no_header(exc: BaseException) -> bool:
    """A header cannot be sent, such as a key that ends in a line break. SDKs call it a broken connection."""
    if not any(_is(exc, name, "LocalProtocolError") for name in _HTTP):
        return False
    return words_of(exc).startswith(_NO_HEADER)


def _is_kept_out_by_a_proxy(exc: BaseException) -> bool:
    """A proxy that connects to the server asks for a password. SDKs call it a broken connection."""
    return any(_is(exc, name, "ProxyError") for name in _HTTP) and words_of(exc).startswith("407 ")


def _no_answer_by_urllib(exc: BaseException) -> bool:
    """Whether urllib reached nobody; an error answer is of the same class there."""
    return _is(exc, "urllib.error", "URLError") and not _is(exc, "urllib.error", "HTTPError")


def _of_a_loop(exc: BaseException) -> bool:
    """A connection or a lock met another event loop than its own: no row's fault. asyncio has no class for it."""
    return type(exc) is RuntimeError and any(words in str(exc) for words in _LOOPS)


def _is(exc: BaseException, module: str, name: str) -> bool:
    """Whether it is of this class. If the class's module is not loaded, it is not; we import nothing for this."""
    known = getattr(sys.modules.get(module), name, None)
    return known is not None and isinstance(exc, known)


def _complaint(status: int, body: object, content: bytes, headers: Mapping[str, str]) -> Complaint:
    """Read status, codes and message of an error body in any of the known shapes."""
    if isinstance(body, list) and body:
        body = body[0]
    outer = body if isinstance(body, dict) else {}
    error = sub(outer, "error") or outer
    details = error.get("details") or error.get("metadata")  # the latter is OpenRouter's
    codes = [
        error.get("code"),
        error.get("type"),
        error.get("status"),
        sub(error, "details").get("error_code"),
    ]
    codes.append(headers.get("x-amzn-errortype", "").partition(":")[0] or None)
    codes += [sub(error, "innererror").get("code"), *_reasons(details)]
    message = text_of(error.get("message")) or text_of(outer.get("error")) or text_of(outer.get("detail"))
    message = message or content[:500].decode(errors="replace").strip()
    return Complaint(status, frozenset(code for code in codes if isinstance(code, str)), message, details)


def _reasons(details: object) -> list[Any]:
    found = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    return [detail.get("reason") for detail in found]


def _name(complaint: Complaint) -> str:
    try:
        return f"{complaint.status} {HTTPStatus(complaint.status).phrase}"
    except ValueError:
        return f"HTTP {complaint.status}"
