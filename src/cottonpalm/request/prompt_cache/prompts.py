"""The prompts of one run: what they share, who goes first, how a request asks for the cache, and what came of it."""

from __future__ import annotations

import logging
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from cottonpalm import clock
from cottonpalm.providers.prompt_cache.marks import asks_already, has_key, marked, own_ends
from cottonpalm.providers.prompt_cache.order import blocks_of, prompt_of
from cottonpalm.providers.prompt_cache.terms import terms_of
from cottonpalm.request.prompt_cache.asking import Asking, Shared
from cottonpalm.request.prompt_cache.rules.marking import Marking
from cottonpalm.request.prompt_cache.rules.patience import Patience
from cottonpalm.request.prompt_cache.rules.prefixes import Prefixes
from cottonpalm.request.prompt_cache.rules.sharing import Sharing
from cottonpalm.stats import PromptUse
from cottonpalm.types import BYTES_PER_TOKEN, PICO, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.providers.call import Call
    from cottonpalm.providers.prompt_cache.order import Block
    from cottonpalm.providers.prompt_cache.terms import Terms
    from cottonpalm.request.money.rules.rates import Rates

log = logging.getLogger("cottonpalm")

Mode: TypeAlias = Literal["auto", "on", "off"]
SHORT: Final = 1_024  # bytes of a body: nobody looks at what is shorter
SLOW_S: Final = 240.0  # between two requests of one key: an entry must live for an hour, where it can


class Prompts:
    """What all requests of a run know of each other's prompts. Thread-safe.

    Args:
        mode: "off": nobody waits, and no request is changed. "on": requests ask for the cache where it must be asked.
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self.mode: Mode = mode
        self._keys: dict[str, _Key] = {}
        self._used: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def asking(self, call: Call, rates_of: Callable[[Call], Rates | None]) -> Asking | None:
        """Return the part that this request has in the cache; None: none, and it goes at once, as it is.

        Args:
            call: the request.
            rates_of: the prices of a request's model; asked once for each model, if its prompts are long enough.
        """
        if len(call.content) < SHORT:
            return None
        key = self._keys.get(call.key)
        if key is None:
            with self._lock:
                key = self._keys.setdefault(call.key, _Key(call, self.mode, rates_of(call)))
        try:
            return key.asking(call)
        except Exception:  # a body of a shape that nobody has thought of goes out as it is
            log.debug("the prompt of a request to %s could not be read", call.label, exc_info=True)
            return None

    def used(self, call: Call, usage: Usage, saved_pico: int) -> None:
        """An answer said that tokens were read from the cache or written to it; what that saved may be below 0."""
        with self._lock:
            sums = self._used.setdefault(call.label, [0, 0, 0])
            sums[0] += usage.cache_read_tokens
            sums[1] += usage.cache_write_tokens
            sums[2] += saved_pico

    def summary(self) -> dict[str, PromptUse]:
        """What the prompts to each model had in common, and what was cached of them. From any thread."""
        with self._lock:
            keys, used = {key.label: key for key in self._keys.values()}, dict(self._used)
        labels = sorted(keys.keys() | used.keys())
        return {label: _summary(keys.get(label), *used.get(label, (0, 0, 0))) for label in labels}


def _summary(key: _Key | None, read: int, written: int, saved_pico: int) -> PromptUse:
    found = {} if key is None else key.found()
    return PromptUse(read=read, written=written, saved_usd=saved_pico / PICO, **found)


class _Key:
    """The prompts to one model of one account."""

    def __init__(self, call: Call, mode: Mode, rates: Rates | None) -> None:
        self.label, self._rates, self._mode = call.label, rates, mode
        self._terms = terms = terms_of(call.url, call.model)
        self._sharing = Sharing()
        self._shared = None if terms is None else Shared(terms, Prefixes(terms), Patience())
        self._gated = terms is not None and mode != "off" and _is_worth(terms, rates)
        self._marking: Marking | None = None
        self._lock = threading.Lock()
        self._last_s, self._slow = clock.now(), False
        self._changes = False  # requests are changed, so each one must be looked at
        if mode == "on" and self._shared is not None and terms is not None and _can_be_asked(terms):
            self._marking = Marking(terms.asked, self._shared.prefixes.least)
            self._changes = True

    def asking(self, call: Call) -> Asking | None:
        """See `Prompts.asking`."""
        shared, now = self._shared, clock.now()
        if not self._sharing.wanted and (
            shared is None
            or not self._gated
            or len(call.content) < shared.prefixes.least
            or (not self._changes and shared.prefixes.skips(now))
        ):
            return None
        blocks = blocks_of(call.family.name, call.body)
        prompt = prompt_of(blocks)
        with self._lock if shared is None else shared.lock:
            if self._sharing.wanted:
                self._sharing.look(prompt)
            if shared is None or len(prompt) < shared.prefixes.least:
                return None
            return self._looked(call, shared, blocks, prompt, now)

    def _looked(
        self, call: Call, shared: Shared, blocks: list[Block], prompt: bytes, now: float
    ) -> Asking | None:
        self._slow = self._slow or now - self._last_s > SLOW_S
        self._last_s = now
        prefixes, seed, body = shared.prefixes, b"", None
        places: Iterable[int] | None = prefixes.places(len(prompt))
        if shared.terms.asked != "itself":
            body, places = self._asked(call, shared.terms, blocks, prompt)
        elif self._wants_key(call, shared.terms, prompt):
            self._changes = True
            seed = blake2b(prompt[: prefixes.least], digest_size=8).hexdigest().encode()
            body = {**call.body, str(shared.terms.key): f"cottonpalm-{seed.decode()}"}
        chain = prefixes.chain(prompt, prefixes.places(len(prompt)) if places is None else places, now, seed)
        self._sharing.had(prefixes.usual)
        if places is None or not self._gated:
            return None
        return Asking(shared, chain, len(prompt), body)

    def _asked(
        self, call: Call, terms: Terms, blocks: list[Block], prompt: bytes
    ) -> tuple[dict[str, Any] | None, list[int] | None]:
        """The body that asks for the cache, if it is ours to ask, and up to where; None: nobody asks."""
        if asks_already(call.content):
            return None, own_ends(call.body, blocks)
        if self._marking is None or call.signed:
            return None, None
        found = self._marking.places(blocks, prompt, self._sharing.shared_by(prompt))
        if not found:
            return None, None
        places = [place for place, _ in found]
        return marked(call.body, terms.asked, places, hour=self._slow), [end for _, end in found]

    def _wants_key(self, call: Call, terms: Terms, prompt: bytes) -> bool:
        """Whether a key would keep requests of one prefix together, and is ours to give."""
        if (
            terms.key is None
            or not self._gated
            or call.signed
            or has_key(call.content)
            or self._shared is None
        ):
            return False
        return self._sharing.shared_by(prompt) >= self._shared.prefixes.least

    def found(self) -> dict[str, Any]:
        """The fields of `PromptUse` that the prompts tell."""
        sharing, shared, terms, rates = self._sharing, self._shared, self._terms, self._rates
        per_byte = 1 / BYTES_PER_TOKEN
        if shared is not None and shared.bytes:
            per_byte = shared.tokens / shared.bytes
        found: dict[str, Any] = {
            "looked": sharing.looked,
            "prompt": round(sharing.mean * per_byte),
            "shared": round(sharing.shared * per_byte),
            "later": round(sharing.later * per_byte),
            "again": round(sharing.again * per_byte),
        }
        if terms is not None:
            found |= {"minimum": terms.minimum, "asked": terms.asked, "on": int(self._mode == "on")}
        if rates is not None and found["prompt"]:
            found |= _rates(rates, found["prompt"])
        return found


def _rates(rates: Rates, tokens: int) -> dict[str, float]:
    """What a token of such a prompt costs, plain, read and written; nothing where the user's own prices fail."""
    try:
        plain, read, written = (
            rates.cost(Usage(tokens, 0, read, written)) - rates.request
            for read, written in ((0, 0), (tokens, 0), (0, tokens))
        )
    except Exception:  # noqa: BLE001 - whatever the user's function raises
        return {}
    if not plain:
        return {}
    return {"input_usd": plain / PICO / tokens, "read_rate": read / plain, "write_rate": written / plain}


def _can_be_asked(terms: Terms) -> bool:
    """Whether a request may say what is to be cached; what a gateway does with OpenAI's way of that, nobody knows."""
    return terms.asked == "cache_control" or (terms.asked == "breakpoints" and not terms.guessed)


def _is_worth(terms: Terms, rates: Rates | None) -> bool:
    """Whether a token that is read from the cache is known to cost less than one that is not."""
    return (rates is None or rates.input > 0) and (terms.discount < 1)
