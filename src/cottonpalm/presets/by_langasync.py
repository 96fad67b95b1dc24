"""Rows through langasync, where it is installed and carries a chain whole; its known defects are kept from the rows.

langasync 0.2.3 sends only some of a model's parameters, so a chain is taken only where the body that it would send is
the live one. It gives up results of batches that expired or were cancelled, trips over lines without an answer, and
moves rows up where one is missing: its adapter is replaced by one that does not. Its job files hold pickles: none is
written or read. What came back without a good answer is left to the caller.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import RunnableBinding, RunnableSequence

from cottonpalm import clock
from cottonpalm.config import BatchLane
from cottonpalm.errors import CottonpalmError
from cottonpalm.presets.langasync_batch import Job, ended, found, refused
from cottonpalm.providers.answer import sub
from cottonpalm.providers.batches.choice import lane_for
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.paths import OPENAI_CHAT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from pathlib import Path

    from cottonpalm.types import Usage

log = logging.getLogger("cottonpalm")
INSTALLED: Final = find_spec("langasync") is not None
ROWS: Final = 50_000  # it makes one batch of them all
BYTES: Final = 50_000_000  # and uploads it within a minute
_STRANGE: Final = (  # of a model: it would not send these
    "default_headers",
    "default_query",
    "openai_organization",
    "http_client",
    "http_async_client",
    "openai_proxy",
)


class Missing:
    """The type of MISSING: a row that came back without a good answer."""


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Carried:
    """A chain that langasync carries whole: its model's name, key and address, and how often to look.

    `asking` is the chain as far as its model.
    """

    chain: Any
    asking: Any
    model: str
    key: str
    base_url: str
    lane: BatchLane


def carried(chain: Any, options: Mapping[str, Any]) -> Carried | str:  # noqa: PLR0911 - one for each reason
    """Return the chain as langasync takes it, or why it cannot.

    Args:
        chain: prompt | ChatOpenAI | parser, perhaps.
        options: all that the processor was given.
    """
    if not INSTALLED:
        return "it is not installed"
    if beyond := sorted(set(options) - {"lane"}):
        return f"it knows nothing of {beyond[0]}"
    steps = list(chain.steps) if isinstance(chain, RunnableSequence) else []
    at = next((number for number, step in enumerate(steps) if _model(step) is not None), -1)
    before, after = steps[: max(at, 0)], steps[at + 1 :]
    only = all(isinstance(step, BasePromptTemplate) for step in before)
    if at < 0 or not only or not after or not all(isinstance(step, BaseOutputParser) for step in after):
        return "it is no prompt | ChatOpenAI | parser"
    model = _model(steps[at])
    if given := [name for name in _STRANGE if getattr(model, name, None) is not None]:
        return f"it would not send {given[0]}"
    if model.openai_api_key is None or not hasattr(model.openai_api_key, "get_secret_value"):
        return "its key is no plain text"
    lane = options.get("lane") or BatchLane()
    base_url = str(model.root_async_client.base_url).rstrip("/")
    if not isinstance(lane_for(f"{base_url}/chat/completions", {}, {"model": "m"}, hosts=lane.hosts), Lane):
        return f"no Batch API is known at {base_url}"
    asking = RunnableSequence(*steps[: at + 1]) if at else steps[at]
    return Carried(chain, asking, model.model_name, model.openai_api_key.get_secret_value(), base_url, lane)


def _model(step: Any) -> Any:
    """The step's ChatOpenAI; None where it has none, or is more than that."""
    bound = step.bound if isinstance(step, RunnableBinding) and not step.config else step
    return bound if (type(bound).__module__, type(bound).__name__) == _CHAT_OPENAI else None


_CHAT_OPENAI: Final = ("langchain_openai.chat_models.base", "ChatOpenAI")


class Brought(NamedTuple):
    """What came of the rows.

    Attributes:
        answers: each row's output, the exception of a parser, or MISSING, in order.
        used: of each answer that the provider counted.
    """

    answers: list[Any]
    used: list[Usage]


async def answers(what: Carried, rows: Sequence[Any], file: Path) -> Brought | str:
    """Return what came of the rows; or why langasync cannot carry them: then nothing was sent.

    Args:
        what: the chain.
        rows: at most 50,000.
        file: remembers the batch until the caller removes it, so that the same call goes on with it.

    Raises:
        CottonpalmError: nobody knows whether the batch was made; the same call again looks for it.
    """
    from langasync import batch_chain  # noqa: PLC0415 - takes seconds, drags in much
    from langasync.exceptions import LangAsyncError  # noqa: PLC0415
    from langasync.settings import LangasyncSettings  # noqa: PLC0415

    settings = LangasyncSettings(
        openai_api_key=what.key, openai_base_url=what.base_url, base_storage_path=str(file.parent)
    )
    job = Job(file, len(rows), what.key)
    try:
        wrapper = batch_chain(what.chain, settings)
    except LangAsyncError as exc:
        return f"it does not take the chain: {exc}"
    adapter: Any = _adapter(settings, job, _Late(what.lane.listing_wait_s))
    try:
        if job.id is None and (why := _differs(wrapper, adapter, rows)):
            return why
        there = job.id is not None or await found(job, adapter, what.lane)
        if not there and (why := await _submitted(job, wrapper, adapter, rows)):
            return why
        return await _waited(job, wrapper, adapter, what.lane)
    finally:
        await adapter._client.aclose()  # noqa: SLF001 - it has no close of its own


def _differs(wrapper: Any, adapter: Any, rows: Sequence[Any]) -> str:
    """Why the body that it would send is not the live one; "" where it is."""
    model, bindings = wrapper.model, wrapper.model_bindings
    payload = model._get_request_payload  # noqa: SLF001 - nothing else tells the body
    try:
        asked = wrapper.preprocessing_chain.invoke(rows[0])
        body = adapter.body(model, bindings, asked)
        live = {name: value for name, value in payload(asked, **bindings).items() if value is not False}
        same = json.dumps(body, sort_keys=True) == json.dumps(live, sort_keys=True)
    except Exception as exc:  # noqa: BLE001 - then ours takes the rows, and says what is wrong with them
        return f"it cannot take the first row: {type(exc).__name__}"
    if not same:
        return "it would send another body than live"
    size = len(json.dumps(body)) * len(rows)
    return "" if len(rows) <= ROWS and size <= BYTES else "the rows are more than one batch"


async def _submitted(job: Job, wrapper: Any, adapter: Any, rows: Sequence[Any]) -> str:
    """Submit; return "", or why it was surely not made."""
    try:
        asked = await wrapper.preprocessing_chain.abatch(list(rows))
        batch = await adapter.create_batch(asked, wrapper.model, wrapper.model_bindings)
    except Exception as exc:
        if job.input_file is not None and not refused(exc):
            raise CottonpalmError(
                f"nobody knows whether the batch was made ({type(exc).__name__}): the same call again looks for it"
            ) from exc
        job.forget()
        return f"{type(exc).__name__}: {exc}"
    job.made(batch.id)
    return ""


async def _waited(job: Any, wrapper: Any, adapter: Any, lane: BatchLane) -> Brought:
    from langasync.core.batch_handle import BatchJobHandle  # noqa: PLC0415
    from langasync.exceptions import FailedPostProcessingError, LangAsyncError  # noqa: PLC0415
    from langasync.providers.interface import Provider, ProviderJob  # noqa: PLC0415

    batch = ProviderJob(id=job.id, provider=Provider.OPENAI, created_at=job.created_at)
    handle = BatchJobHandle(batch, adapter, wrapper.postprocessing_chain, job)
    if (done := await ended(handle, job, lane)) is None:
        return Brought([MISSING] * job.rows, [])
    results = done.results if done.results is not None else [MISSING] * job.rows
    for row, one in enumerate(results):
        if isinstance(one, FailedPostProcessingError):
            results[row] = await _parsed(wrapper, adapter.good[str(row)].content)
        elif isinstance(one, LangAsyncError):
            results[row] = MISSING
    return Brought(results, list(adapter.used.values()))


async def _parsed(wrapper: Any, message: Any) -> Any:
    """What the parser makes of an answer that is paid for, or its own exception: langasync keeps only its text."""
    try:
        return await wrapper.postprocessing_chain.ainvoke(message)
    except Exception as exc:  # noqa: BLE001 - the row's, as it would be live
        return exc


class _Late:
    """Waits for the answers of a batch that has ended, for as long as a listing may lag."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._until_s: float | None = None
        self._completed = self._all = 0

    def status(self, batch: dict[str, Any]) -> str:
        """What the provider says of it; nothing as long as it has not said where its answers are."""
        counts = sub(batch, "request_counts")
        self._completed = counts.get("completed") or 0
        self._all = self._completed + (counts.get("failed") or 0)
        if self._completed and not batch.get("output_file_id") and self._waits():
            return ""
        return str(batch["status"])

    def check(self, good: int, lines: int) -> None:
        """What came may have ended early.

        Raises:
            httpx.DecodingError: it is less than the provider counts; more of it may come.
        """
        if good < self._completed and lines < self._all and self._waits():
            raise httpx.DecodingError(f"{good} of {self._completed} answers came back")

    def _waits(self) -> bool:
        self._until_s = self._until_s or clock.now() + self._wait_s
        return clock.now() < self._until_s


async def _whole(fetched: Awaitable[Any]) -> None:
    """Fetch and read results.

    Raises:
        httpx.DecodingError: they end within a line, or are none (a gateway's page).
    """
    from langasync.exceptions import LangAsyncError  # noqa: PLC0415

    try:
        await fetched
    except LangAsyncError as exc:
        if not isinstance(exc.__cause__, ValueError | LookupError | TypeError | AttributeError):
            raise
        raise httpx.DecodingError("what came in place of its answers is no whole file of them") from exc


def _adapter(settings: Any, job: Job, late: _Late) -> Any:
    from langasync.providers.interface import BatchItem, BatchStatus, BatchStatusInfo  # noqa: PLC0415
    from langasync.providers.openai import OpenAIProviderJobAdapter, _to_openai_messages  # noqa: PLC0415

    class Guarded(OpenAIProviderJobAdapter):
        """Gives what a batch has done however it ended, each row in its place."""

        def body(self, model: Any, bindings: dict[str, Any], asked: Any) -> dict[str, Any]:
            """The body of a line."""
            return {**self._get_model_config(model, bindings), "messages": _to_openai_messages(asked)}

        async def _upload_batch_file(self, content: str) -> str:
            """See langasync. Which file it is is written down before the batch is made of it."""
            file = str(await super()._upload_batch_file(content))
            job.begin(file)
            return file

        async def get_status(self, batch_api_job: Any) -> Any:
            """See langasync. `cancelling` is no end; `expired` and `cancelled` are one with results."""
            response = await self._client.get(f"{self.base_url}/batches/{batch_api_job.id}")
            response.raise_for_status()
            data = response.json()
            ends = {"failed": BatchStatus.FAILED, **dict.fromkeys(_ENDED, BatchStatus.COMPLETED)}
            counts = data.get("request_counts") or {}
            return BatchStatusInfo(
                status=ends.get(late.status(data), BatchStatus.IN_PROGRESS),
                **{name: counts.get(name, 0) for name in ("total", "completed", "failed")},
            )

        async def get_results(self, batch_api_job: Any) -> list[Any]:
            """See langasync. One for each row, in order; a good one goes before an error.

            Raises:
                httpx.DecodingError: what was fetched is not all of it, or no result at all (a gateway's page).
            """
            self.good: dict[str, Any] = {}
            self.used: dict[str, Usage] = {}
            self.lines: set[str] = set()
            await _whole(super().get_results(batch_api_job))
            late.check(len(self.good), len(self.lines))
            lost = {"message": "no good answer came back"}
            return [
                self.good.get(str(row)) or BatchItem(custom_id=str(row), success=False, error=lost)
                for row in range(job.rows)
            ]

        def _parse_output_line(self, data: dict[str, Any]) -> Any:
            item = super()._parse_output_line({**data, "response": data.get("response") or {}})
            self.lines.add(item.custom_id)
            body = (data.get("response") or {}).get("body") or {}
            if item.success and sub(body, "usage") and (usage := OPENAI_CHAT.read(body).usage) is not None:
                self.used[item.custom_id] = usage
            if item.success and body.get("choices"):
                self.good[item.custom_id] = item
            return item

    return Guarded(settings)


_ENDED: Final = ("completed", "expired", "cancelled")
