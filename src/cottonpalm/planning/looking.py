"""Finds which requests a row would make, without sending any: it runs the chain up to its first requests and stops."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import ensure_config, merge_configs

from cottonpalm.chain import traits
from cottonpalm.engine.chain_call.caller import own
from cottonpalm.planning.estimate import Range, tokens_of
from cottonpalm.providers.batches.choice import lane_for
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.money.rules.prices import BATCH
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.transport import client_loops

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.rules.rates import Rates
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item

SEEN_AT_SEND: Final = frozenset(  # providers whose integrations send through clients that our hook sees
    (
        "anthropic",
        "azure",
        "cohere",
        "deepseek",
        "fireworks",
        "google_genai",
        "groq",
        "mistral",
        "ollama",
        "openai",
        "openrouter",
        "xai",
    )
)
SETTLE_TURNS: Final = 20  # parallel branches get this many turns of the loop to reach their requests...
SETTLE_S: Final = 0.001  # ...and where the branches are threads, each turn takes this many seconds
# ...or this many at the first row: an SDK's first requests ask a thread for the platform
FIRST_S: Final = 0.01
_NOT_TEXT: Final = frozenset(("role", "type", "model", "id", "object"))


class Unseen(BaseException):
    """Ends a row before it calls a model whose request we cannot hold back. As no Exception, no chain handles it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that a row would make.

    Attributes:
        bound: pico-dollars that a budget would reserve for it; None where no bound is known...
        why_unbounded: ...and then, what the user can set to give it one.
        cheaper: rates and `bound` by tier, "flex" or "batch", where the price list has them for this model and the
            request can go there.
    """

    model: str
    input_tokens: Range
    most_output: int | None
    rates: Rates | None
    bound: int | None
    why_unbounded: str
    cheaper: Mapping[str, tuple[Rates, int | None]]


@dataclass(slots=True)
class Look:
    """The first requests that one row would make."""

    requests: list[Request] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)  # models whose client our hook does not see
    error: BaseException | None = None  # what the chain raised before any request


async def look_at(items: Sequence[Item], chain: Any, run: RunAccount, hosts: Mapping[str, str]) -> list[Look]:
    """Run the chain for each row up to its first requests, one row after the other. Nothing is sent.

    Args:
        items: the rows.
        chain: the user's.
        run: an account without money.
        hosts: providers of Batch APIs at addresses that are not their own.
    """
    threads = traits.how_to_call(chain) == "threads"
    looks, loop = [Look() for _ in items], asyncio.get_running_loop()
    client_loops.enter(loop)
    try:
        for number, item in enumerate(items):
            turn_s = FIRST_S if number == 0 else SETTLE_S if threads else 0.0
            account = RowAccount(run, number)
            await _look(item, chain, account, looks[number], hosts, threads=threads, turn_s=turn_s)
    finally:
        await client_loops.leave(loop)
    return looks


async def _look(
    item: Item,
    chain: Any,
    account: RowAccount,
    look: Look,
    hosts: Mapping[str, str],
    *,
    threads: bool,
    turn_s: float,
) -> None:
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    def note(call: Call) -> None:
        account.run.prompts.asking(call, account.run.pricing.listed)
        look.requests.append(_request(account, call, hosts))
        loop.call_soon_threadsafe(seen.set)

    account.run.look = note
    task = loop.create_task(_call(item, chain, account, look, threads=threads), context=_context(account))
    waiting = loop.create_task(seen.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(0 if task.done() else SETTLE_TURNS):
        await asyncio.sleep(turn_s)
    account.close()  # releases the threads that hold a request back
    waiting.cancel()
    task.cancel()
    await asyncio.wait([task, waiting])
    if not task.cancelled() and not look.requests:
        look.error = None if isinstance(error := task.exception(), Unseen) else error


async def _call(item: Item, chain: Any, account: RowAccount, look: Look, *, threads: bool) -> None:
    guard = _Guard(look, hooked=account.run.flow.hooked)
    config = merge_configs(ensure_config(item.config), {"callbacks": [guard]})
    if threads:
        await asyncio.to_thread(chain.invoke, own(item.row), config)
    else:
        await chain.ainvoke(own(item.row), config)


def _context(account: RowAccount) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(ROW.set, account)
    return context


def _request(row: RowAccount, call: Call, hosts: Mapping[str, str]) -> Request:
    money = Reservation(row, call)
    text = "\n".join(_texts(call.body))
    return Request(
        model=call.model,
        input_tokens=tokens_of(text),
        most_output=money.most_output,
        rates=money.tariff.rates,
        bound=money.bound,
        why_unbounded="" if money.bound is not None else money.why_unbounded(),
        cheaper=dict(_cheaper(row, call, money, hosts)),
    )


def _cheaper(
    row: RowAccount, call: Call, money: Reservation, hosts: Mapping[str, str]
) -> Iterator[tuple[str, tuple[Rates, int | None]]]:
    """Yield the tiers that cost less: rates, and what a budget would reserve there."""
    for tier in ("flex", BATCH):
        tariff = row.run.pricing.prices.tariff(call.model, call.url, tier)
        if money.tariff.rates is None or tariff.rates is None or tariff.rates == money.tariff.rates:
            continue
        if tier != BATCH or _goes_in_a_batch(call, hosts):
            yield tier, (tariff.rates, None if isinstance(money.extent, str) else tariff.bound(money.extent))


def _goes_in_a_batch(call: Call, hosts: Mapping[str, str]) -> bool:
    if call.request is None:
        return False
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    return isinstance(lane_for(str(call.request.url), headers, call.body, hosts=hosts), Lane)


def _texts(part: Any, name: str = "") -> list[str]:
    """Collect the parts of a body that become tokens: its texts, and the names and values of schemas."""
    if isinstance(part, str):
        return [] if name in _NOT_TEXT or part.startswith("data:") else [part]
    if isinstance(part, dict):
        schema = name in ("properties", "parameters", "input_schema", "tools")
        return [
            text
            for key, inside in part.items()
            for text in ([key, *_texts(inside, key)] if schema else _texts(inside, key))
        ]
    if isinstance(part, list):
        return [text for inside in part for text in _texts(inside, name)]
    return []


class _Guard(BaseCallbackHandler):
    """Stops a model before it is called, if it sends through a client that our hook does not see."""

    run_inline = True
    raise_error = True

    def __init__(self, look: Look, *, hooked: bool) -> None:
        self._look, self._hooked = look, hooked

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:  # noqa: ARG002
        """Stop a chat model that we cannot see."""
        self._stop(serialized, about)

    def on_llm_start(self, serialized: Any, prompts: Any, **about: Any) -> None:  # noqa: ARG002
        """Stop a plain-text model that we cannot see."""
        self._stop(serialized, about)

    def _stop(self, serialized: Any, about: dict[str, Any]) -> None:
        metadata = about.get("metadata") or {}
        if self._hooked and metadata.get("ls_provider") in SEEN_AT_SEND:
            return
        kind = (serialized or {}).get("id") or ["model"]
        self._look.unseen.append(str(metadata.get("ls_model_name") or kind[-1]))
        raise Unseen
