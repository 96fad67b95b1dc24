"""Takes permits for chat models that do not send through httpx, when LangChain tells us that a model starts.

A callback can only gate and count calls; if a call fails, the whole row is tried again. If the hook turns out to see a
model's requests, we give the permit back before the request asks for its own, and leave this model to the hook.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages.utils import count_tokens_approximately

from cottonpalm.providers import classify, dressed
from cottonpalm.providers.answer import count, sub
from cottonpalm.providers.raised import BudgetReached
from cottonpalm.request.limiter.rules.tokens import Tokens
from cottonpalm.request.model_call import ModelCall
from cottonpalm.request.pricing import why_no_price
from cottonpalm.request.queueing import permitted, permitted_sync
from cottonpalm.request.row_account import MODEL, ROW, RowAccount
from cottonpalm.types import Fault, Kind, Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from cottonpalm.request.limiter.limiter import Limiter, Permit


def handler(*, threads: bool = False) -> BaseCallbackHandler:
    """Return the handler to add to a row's callbacks: for `ainvoke` on this loop, or for `invoke` on threads."""
    return SyncModelGate() if threads else AsyncModelGate()


class _Calls:
    """The model calls under way, by LangChain's run id."""

    def __init__(self) -> None:
        self._calls: dict[UUID, ModelCall] = {}

    def wanted(
        self, serialized: dict[str, Any] | None, about: dict[str, Any]
    ) -> tuple[RowAccount, str] | None:
        """Return the row and the model's name if this call needs a permit here."""
        row = ROW.get()
        # several calls at once would wait for each other's permits
        if row is None or about.get("batch_size", 1) != 1:
            return None
        if (outer := MODEL.get()) is not None:
            outer.hand_over()  # a model calls another model: only the inner call keeps a permit
        name = _name(serialized, about.get("metadata") or {})
        if name in row.run.flow.models_below:
            return (
                None  # its request is refused where the row is over; LangChain would log what is raised here
            )
        row.check_open()
        return row, name

    def began(self, row: RowAccount, name: str, permit: Permit, run_id: UUID, ask: Tokens | None) -> None:
        """The call has its permit."""
        call = ModelCall(row, name, permit, None if ask is None else ask.input_tokens)
        call.begin()
        self._calls[run_id] = call
        row.hold(call)
        MODEL.set(call)

    def ended(self, run_id: UUID, response: LLMResult) -> None:
        """An answer came. If it is from LangChain's own cache, there was no request and no cost."""
        call = self._calls.pop(run_id, None)
        if _was_known(response):
            if call is not None:
                call.release(Verdict.IGNORED, usage=Usage())
            if (row := ROW.get() if call is None else call.row) is not None:
                row.knew()
            return
        if call is not None and call.release(Verdict.SUCCESS, usage=_used(call, response)):
            call.row.run.flow.models_gated = True
            call.row.counted()
            _book(call, response)

    def failed(self, run_id: UUID, error: BaseException) -> None:
        """The call raised an exception."""
        call = self._calls.pop(run_id, None)
        if call is None:
            return
        fault = classify(error)
        throttled = fault.kind is Kind.THROTTLE
        pause_s = (fault.retry_after_s or 0.0) if throttled else 0.0
        if call.release(Verdict.DROPPED if throttled else Verdict.IGNORED, pause_s):
            call.row.run.flow.models_gated = True
            call.row.counted()


class _ModelsOnly:
    """Tells LangChain to report only models to us: reports of other steps would cost time."""

    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = True


class AsyncModelGate(_ModelsOnly, AsyncCallbackHandler):
    """Gates the chat models of rows that run on the loop where it was made."""

    run_inline = True  # run in the caller's context, so that the hook sees the variables set here
    raise_error = True

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls = _Calls()

    async def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        **about: Any,
    ) -> None:
        """Take a permit."""
        # LangChain calls us from its sync path, on a loop of its own
        if asyncio.get_running_loop() is not self._loop:
            return
        if (wanted := self._calls.wanted(serialized, about)) is None:
            return
        row, name = wanted
        row.hand_over()
        limiter = row.run.flow.limiter(name)
        ask = _asked(limiter, messages)
        permit = limiter.try_acquire(row.priority, ask or 0)
        if permit is None:
            permit = await permitted(row, limiter, row.priority, ask or 0)
        self._calls.began(row, name, permit, run_id, ask)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        """Give it back."""
        self._calls.ended(run_id, response)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        """Give it back and learn from the error."""
        self._calls.failed(run_id, error)


class SyncModelGate(_ModelsOnly, BaseCallbackHandler):
    """Gates the chat models of rows that run on threads."""

    run_inline = True
    raise_error = True

    def __init__(self) -> None:
        self._calls = _Calls()

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        **about: Any,
    ) -> None:
        """Take a permit."""
        if (wanted := self._calls.wanted(serialized, about)) is None:
            return
        row, name = wanted
        row.hand_over()
        limiter = row.run.flow.limiter(name)
        ask = _asked(limiter, messages)
        permit = limiter.try_acquire(row.priority, ask or 0)
        if permit is None:
            permit = permitted_sync(row, limiter, row.priority, ask or 0)
        self._calls.began(row, name, permit, run_id, ask)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        """Give it back."""
        self._calls.ended(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:  # noqa: ARG002
        """Give it back and learn from the error."""
        self._calls.failed(run_id, error)


def _name(serialized: dict[str, Any] | None, metadata: dict[str, Any]) -> str:
    """Return provider and model: calls with the same pair share a limit."""
    kind = (serialized or {}).get("id") or ["model"]
    return f"{metadata.get('ls_provider', kind[-1])}/{metadata.get('ls_model_name', kind[-1])}"


_TIERS: Final = ("flex", "priority")


def _messages(response: LLMResult) -> list[Any]:
    return [getattr(generations[0], "message", None) for generations in response.generations if generations]


def _asked(limiter: Limiter, messages: list[list[Any]]) -> Tokens | None:
    """The tokens of a prompt, where a ceiling of the user counts them."""
    if not limiter.admission.ceilings:
        return None
    return Tokens(_size(message for each in messages for message in each))


def _size(messages: Iterable[Any]) -> int:
    """About how many tokens they have."""
    return count_tokens_approximately(messages, extra_tokens_per_message=0)


def _used(call: ModelCall, response: LLMResult) -> Usage | None:
    """The tokens of an answer, as LangChain says; else by its size and that of its prompt. None: nobody counts them."""
    if call.input_tokens is None:
        return None
    messages = _messages(response)
    told = [usage_of(usage) for message in messages if (usage := getattr(message, "usage_metadata", None))]
    used = sum(told, Usage())
    if used.counted:
        return used
    return Usage(call.input_tokens, _size(message for message in messages if message is not None))


def _was_known(response: LLMResult) -> bool:
    """Whether LangChain's own cache gave this answer; the cache marks its answers."""
    told = [getattr(message, "usage_metadata", None) or {} for message in _messages(response)]
    return bool(told) and all(usage.get("total_cost") == 0 for usage in told)


def _book(call: ModelCall, response: LLMResult) -> None:
    """Book what LangChain says the answer used. An answer from its cache was not billed."""
    for message in _messages(response):
        metadata = getattr(message, "response_metadata", None) or {}
        told = getattr(message, "usage_metadata", None) or _as_langchain_says(sub(metadata, "token_usage"))
        if told.get("total_cost") == 0:
            continue
        if (usage := usage_of(told)).counted:
            _charge(call, usage, metadata.get("model_name"))
        else:
            _untold(call)


def _as_langchain_says(counts: dict[str, Any]) -> dict[str, Any]:
    """Return counts that a package leaves as its provider names them; empty where there are none."""
    into = counts.get("input_tokens", counts.get("prompt_tokens"))
    out = counts.get("output_tokens", counts.get("completion_tokens"))
    return {} if into is None or out is None else {"input_tokens": into, "output_tokens": out}


def _untold(call: ModelCall) -> None:
    """An answer came that does not say what it used: it may have cost anything, unless its model is free."""
    run, model = call.row.run, call.name.partition("/")[2]
    if (rates := run.pricing.prices.rates(model, None)) is not None and rates.free:
        return
    if run.ledger is None:
        text = f"answers of {call.name} do not say what they used, so what they cost is not counted"
        run.alerts.warn(f"usage of {call.name}", text)
    else:
        unbounded(
            call.row, f"calls of {call.name} cannot be held to a budget: they do not say what they used"
        )


def unbounded(row: RowAccount, message: str) -> None:
    """Stop the run, since it has a budget that cannot be kept; but not one that keeps it by estimates."""
    if not row.run.refuses_unbounded:
        return
    row.stop_run(Fault(Kind.STOP_RUN, "BudgetReached", message, cause=dressed(BudgetReached, message)))


def _charge(call: ModelCall, usage: Usage, served: str | None) -> None:
    run, model = call.row.run, call.name.partition("/")[2]
    rates = run.pricing.prices.rates(model, None) or (
        run.pricing.prices.rates(served, None) if served else None
    )
    try:
        cost = rates.cost(usage) if rates is not None else None
    except Exception as exc:  # noqa: BLE001 - whatever the user's function raises, the row keeps its answer
        run.alerts.warn("prices=", why_no_price(model, exc))
        rates = cost = None
    call.row.book(usage, cost, "reported", served or model)
    ledger = run.ledger
    if ledger is None:
        run.spending.book(cost or 0)
        return
    ledger.settle(0, cost or 0, account=run.spending)
    if rates is None or ledger.share() >= 1:  # such a call has no bound: we see its cost only afterwards
        message = f"calls of {call.name} cannot be held to a budget: they are only seen when they are over"
        call.row.stop_run(
            Fault(Kind.STOP_RUN, "BudgetReached", message, cause=dressed(BudgetReached, message))
        )


def usage_of(told: dict[str, Any]) -> Usage:
    """Convert LangChain's `usage_metadata`.

    Anthropic's cache writes are split by lifetime, and their sum is then 0. OpenAI's counts begin with the tier, where
    it is not the standard one.
    """
    inputs = sub(told, "input_token_details")

    def counted(name: str) -> int:
        return count(inputs.get(name)) or sum(count(inputs.get(f"{tier}_{name}")) for tier in _TIERS)

    for_an_hour = counted("ephemeral_1h_input_tokens")
    return Usage(
        count(told.get("input_tokens")),
        count(told.get("output_tokens")),
        counted("cache_read"),
        counted("cache_creation") + counted("ephemeral_5m_input_tokens") + for_an_hour,
        count(sub(told, "output_token_details").get("reasoning")),
        cache_write_1h_tokens=for_an_hour,
    )
