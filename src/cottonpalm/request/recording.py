"""A row's requests recorded instead of sent, and answered from what a batch brought back.

A row runs again and again, each time up to the requests of which no answer is known yet. What was asked is told by what
is asked, not by its order: parallel branches come to their requests in any order.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextvars import ContextVar
from hashlib import blake2b
from itertools import islice, permutations
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cottonpalm.providers.answer import loads, written
from cottonpalm.providers.batches.choice import lane_for
from cottonpalm.providers.batches.lanes import Lane, credentials_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.call import Call

# within a tool
ANSWERED: Final[ContextVar[set[bytes] | None]] = ContextVar("cottonpalm_answered", default=None)
SWAPS: Final = 12  # ways tried of giving equal questions their answers
_SILENT: Final = frozenset(
    ("stream", "stream_options", "user", "metadata", "prompt_cache_key", "safety_identifier")
)
_IDS: Final = frozenset(("tool_call_id", "tool_use_id", "call_id"))
_CALLS: Final = frozenset(("tool_calls", "tool_use", "function_call"))
_NUMBER: Final = 2  # bytes


class Wanted(NamedTuple):
    """A request that is to go out in a batch."""

    key: bytes
    call: Call
    lane: Lane


class SetAside(Protocol):
    """What is set aside for a request."""

    reserved: int

    @property
    def body(self) -> bytes | None:
        """What to send in place of its own body, if anything."""

    def give_back(self) -> None:
        """Nothing was sent."""


class Asked(NamedTuple):
    """The same with its money, and the body as it goes out."""

    wanted: Wanted
    body: dict[str, Any]
    money: SetAside


class Out:
    """The type of OUT: the request waits in a batch already."""


OUT: Final = Out()


class Recording:
    """One execution of a row. Thread-safe.

    Args:
        known: what the row has asked before, by key: the final result, or None while it is out.
        hosts: providers at addresses that are not their own.
        account: tells accounts apart by credentials, the same in every process.
        news: called, from any thread, when something was asked or the execution has to end.
        live: what is not known is sent.
        probe: only to see what is asked: nothing goes out, and no money is set aside.
        withdraws: where the flex tier has no room for its only request, the execution ends.
        swap: which way of giving equal questions their answers; 0 is the order in which they were asked.

    Attributes:
        asked: what is to go out, by key.
        waits: it came to a request that is out.
        refused: why a request of it can go out in no batch.
        nowhere: no Batch API is known at the address of such a request.
        closed: nothing more is recorded.
        withdrawn: the execution ended, as nothing of it is paid for and the row is cheaper elsewhere.
        credentials: of the lanes that it came to. For this process only.
        journal: what tools answered in the row's other rounds; None: they run in each.
        seen: keys in the order in which they were asked, with the address and the body of each.
    """

    def __init__(
        self,
        known: Mapping[bytes, Result | None],
        *,
        hosts: Mapping[str, str],
        account: Callable[[Mapping[str, str]], str],
        news: Callable[[], None],
        live: bool = False,
        probe: bool = False,
        withdraws: bool = False,
        swap: int = 0,
    ) -> None:
        self.known, self.live, self._probe = swapped(known, swap), live, probe
        self.asked: dict[bytes, Asked] = {}
        self.seen: dict[bytes, tuple[str, dict[str, Any]]] = {}
        self.waits = self.closed = self.withdrawn = False
        self._withdraws = withdraws
        self.refused: str | None = None
        self.nowhere = False
        self.credentials: dict[Lane, dict[str, str]] = {}
        self.journal: Any = None
        self._used: set[bytes] = set()
        self._read: set[bytes] = set()
        self._times: Counter[bytes] = Counter()
        self._hosts, self._account, self._news = hosts, account, news
        self._lock = threading.Lock()

    def skip(self, keys: Collection[bytes]) -> None:
        """These questions were asked by something that does not run again: they count as asked and answered."""
        with self._lock:
            for digest in (key[:-_NUMBER] for key in keys):  # equal ones are interchangeable
                self._times[digest] += 1
                self._used.add(key_of(digest, self._times[digest]))
        if (inside := ANSWERED.get()) is not None:
            inside.update(keys)

    def look_up(self, call: Call) -> Result | Wanted | Out | None:  # noqa: PLR0911 - one for each case
        """Its answer; or how to ask for it in a batch; OUT: that was done; None: it is to be sent live."""
        if call.request is None:
            return None
        digest = digest_of(call)
        with self._lock:
            if (error := self._stuck(digest)) is not None:
                return error
            self._times[digest] += 1
            key = key_of(digest, self._times[digest])
            self.seen.setdefault(key, (call.url, call.body))
            if (found := self.known.get(key)) is not None:
                self._used.add(key)
                self._read.add(key)
                if (inside := ANSWERED.get()) is not None:
                    inside.add(key)
                return found
        if self.live:
            return OUT if self.withdrawn else None
        lane = self._lane(call)
        if lane is None:
            return OUT if self.closed else None
        if self._probe or key in self.known:
            self.waits = True
            self._news()
            return OUT
        return Wanted(key, call, lane)

    def ask(self, wanted: Wanted, money: SetAside) -> None:
        """It goes out when the round is over; money for it is set aside."""
        with self._lock:
            late = self.closed
            if not late:
                body = wanted.call.body if money.body is None else loads(money.body)
                self.asked[wanted.key] = Asked(wanted, body, money)
        if late:
            money.give_back()
        self._news()

    def close(self) -> None:
        """The round is over."""
        with self._lock:
            self.closed = True
        self._news()

    def withdraw(self) -> bool:
        """End the execution if it may; whether it does."""
        if self._withdraws:
            self.withdrawn = True
            self.close()
        return self._withdraws

    @property
    def needs(self) -> bool:
        """It came to something that has no answer yet."""
        return bool(self.asked) or self.waits

    @property
    def unused(self) -> set[bytes]:
        """Answers that nothing was asked for this time."""
        return {key for key, result in self.known.items() if result is not None} - self._used

    @property
    def unread(self) -> dict[bytes, Result]:
        """Answers that were paid for and that nobody was given this time.

        Another branch failed before, or the tool that asked for them does not run again.
        """
        return {
            key: result
            for key, result in self.known.items()
            if result is not None and result.good and key not in self._read
        }

    def drop(self) -> None:
        """Nothing of it goes out."""
        self.close()
        for asked in self.asked.values():
            asked.money.give_back()
        self.asked = {}

    def _stuck(self, digest: bytes) -> Result | None:
        """An error that was the last word stays it: a chain that tries again hears it again."""
        for number in range(self._times[digest], 0, -1):
            found = self.known.get(key_of(digest, number))
            if found is not None and not found.good:
                return found
        return None

    def _lane(self, call: Call) -> Lane | None:
        request = call.request
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = str(request.url)
        credentials = credentials_of(url, headers)
        found = lane_for(url, headers, call.body, hosts=self._hosts, account=self._account(credentials))
        if isinstance(found, Lane):
            self.credentials[found] = credentials
            return found
        with self._lock:
            self.refused = self.refused or f"{call.label}: {found.why}"
            self.nowhere = self.nowhere or found.nowhere
            self.closed = True
        self._news()
        return None


def digest_of(call: Call) -> bytes:
    """What is asked, and of whom."""
    asked = {name: part for name, part in call.body.items() if name not in _SILENT}
    text = written([call.url, renumbered(asked)], ordered=True)
    return blake2b(text, digest_size=16).digest()


def key_of(digest: bytes, number: int) -> bytes:
    """Of the question that is asked for the `number`th time, counted from 1."""
    return digest + number.to_bytes(_NUMBER)


def renumbered(body: Any) -> Any:
    """The body with ids of tool calls counted in order of appearance: some integrations mint new ones at each run."""
    return _renumber(body, {}, call=False)


def _renumber(part: Any, ids: dict[str, str], *, call: bool) -> Any:
    if isinstance(part, list):
        return [_renumber(inside, ids, call=call) for inside in part]
    if not isinstance(part, dict):
        return part
    call = call or part.get("type") in _CALLS
    found: dict[str, Any] = {}
    for name, inside in part.items():
        if isinstance(inside, str) and (name in _IDS or (call and name == "id")):
            found[name] = ids.setdefault(inside, f"#{len(ids)}")
        else:
            found[name] = _renumber(inside, ids, call=name in _CALLS)
    return found


def swapped(known: Mapping[bytes, Result | None], swap: int) -> dict[bytes, Result | None]:
    """The same answers, those of equal questions in another order: they are interchangeable."""
    found = dict(known)
    for keys in _equal(found) if swap else ():
        order = next(islice(permutations(keys), swap % _ways(len(keys)), None))
        found.update({key: known[other] for key, other in zip(keys, order, strict=True)})
    return found


def can_swap(known: Mapping[bytes, Result | None]) -> bool:
    """Whether any question was asked more than once, and answered."""
    return bool(_equal(known))


def _equal(known: Mapping[bytes, Result | None]) -> list[list[bytes]]:
    by_question: dict[bytes, list[bytes]] = {}
    for key in sorted(key for key, result in known.items() if result is not None):
        by_question.setdefault(key[:-_NUMBER], []).append(key)
    return [keys for keys in by_question.values() if len(keys) > 1]


def _ways(count: int) -> int:
    ways = 1
    for number in range(2, min(count, 6) + 1):
        ways *= number
    return ways
