"""The value types that all modules use. They have no behaviour except arithmetic and display."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from operator import add, attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final

BYTES_PER_TOKEN: Final = 4  # of a text in a European language, or of JSON; only for guesses
PICO: Final = 10**12  # pico-dollars in a dollar; 63 bits hold nine million dollars
SHORT: Final = 80  # characters of an answer or an error in a `repr`
Status: TypeAlias = Literal["ok", "failed", "skipped"]
CostSource: TypeAlias = Literal["reported", "estimated"]
Bottleneck: TypeAlias = Literal[
    "concurrency",  # as many requests are in flight as the provider takes
    "maximum",  # as many requests are in flight as the settings allow
    "requests",  # the provider's quota of requests
    "tokens",  # the provider's quota of tokens
    "pace",  # the provider's rate of requests, found by its rejections
    "own requests",  # the user's own limit of requests per minute
    "own tokens",  # the user's own limit of tokens per minute
    "probe",  # the provider rejected requests: one request at a time tries whether it takes more
    "pause",  # a wait after a rejection, as it names or as we think long enough
    "down",  # the provider does not work, and is tried again now and then
    "budget",  # money
    "cpu",  # the CPU time of this process
    "reader",  # the code that takes the outcomes is slow
    "store",  # the disk is slow
    "source",  # the source of the rows is slow
    "cap",  # the user's own cap on rows at once
    "held",  # `run.pause()`
    "batch",  # rows wait for the answers of batches that are out
    "tail",  # no more rows will start: the last ones are under way
    "",  # nothing
]

Unreached: TypeAlias = Literal[
    "",  # the latest request reached a server
    "refused",  # nobody listens at its address
    "proxy",  # it goes by a proxy, which refuses it or does not get there
    "server",  # anything else: an unknown host, no network, no TLS
]


def pico(usd: float) -> int:
    """Dollars as a whole number of pico-dollars: exact up to $9,000."""
    return round(usd * PICO)


class Kind(StrEnum):
    """What a fault means for the row and the run."""

    THROTTLE = "throttle"  # the provider pushes back: not the row's fault, uses none of its tries
    TRANSIENT = "transient"  # may work when asked again
    REASK = "reask"  # an answer came, but it does not parse or validate
    DEGRADE = "degrade"  # another model could do it: context too long, answer cut by length
    FAIL_ROW = "fail_row"  # this row cannot be answered
    STOP_RUN = "stop_run"  # no row can be answered: bad key, no credit, unknown model


class Verdict(Enum):
    """How a request ended, as the limiter sees it."""

    SUCCESS = "success"
    DROPPED = "dropped"  # the provider pushed back
    # it is overloaded by all its users: this tells nothing about our limits
    OVERLOADED = "overloaded"
    ALONE = (
        "alone"  # the provider pushed back, but only this request, again and again: no limit is the reason
    )
    # the connection broke, or no answer came: a full server may do that, and so may many others
    LOST = "lost"
    IGNORED = "ignored"  # our own fault or a cancel: tells nothing about the provider's capacity


def numbered(index: int) -> str:
    """Name a row as people count, and as programs do: `row 2 (index 1)`."""
    return f"row {index + 1:,} (index {index})"


@dataclass(frozen=True, slots=True)
class Fault:
    """A classified exception.

    Attributes:
        retry_after_s: the provider's own wait, if it named one.
        overload: the provider says that all its users ask too much: no word about our own limits.
    """

    kind: Kind
    type: str
    message: str
    retry_after_s: float | None = None
    cause: BaseException | None = None
    overload: bool = False


class Try(NamedTuple):
    """One try of a request of a row that failed, or one call of a chain whose requests are not seen.

    Attributes:
        at_s: when it was sent, in seconds from the row's start.
        took_s: seconds until its end.
        met: status and kind of the failure: "429 throttle"; "" for an answer.
    """

    at_s: float
    took_s: float
    met: str


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """What is kept of a failure: plain text, no exception object.

    `where` is the last line of the user's own code that was under way: "app.py:12, in parse: return json.loads(x)".
    `tries` are the row's requests in the order of their ends; of more than 20, the first and the last ten.
    """

    kind: Kind
    type: str
    message: str
    retryable: bool = False
    where: str | None = field(default=None, compare=False, repr=False)
    tries: tuple[Try, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider reported them, and what its own tools did.

    Cached, written and audio tokens of the prompt are part of the input; reasoning, audio and image tokens of the
    answer are part of the output.

    Attributes:
        cache_write_1h_tokens: the part of `cache_write_tokens` that is kept for an hour instead of five minutes.
        audio_cached_tokens: the part of `audio_input_tokens` that was read from the cache.
        web_searches: how many searches the provider made, each for a fee; `file_searches` likewise.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_cached_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    file_searches: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, self.counts(), other.counts()))

    @property
    def counted(self) -> bool:
        """Whether the provider counted anything; where it says 0, or no number, what was used is not known."""
        return bool(self.input_tokens or self.output_tokens)

    def counts(self) -> tuple[int, ...]:
        """Return all counts, in the order of the fields."""
        counts: tuple[int, ...] = _usage_counts(self)
        return counts


_usage_counts: Final = attrgetter(*(each.name for each in fields(Usage)))


class Turn(Enum):
    """Who asks a question that has no answer on disk yet."""

    MINE = "mine"
    ELSEWHERE = "elsewhere"  # another living process asks


@final
class Parked:
    """The type of PARKED: the item waits for an equal one in flight, and holds nothing meanwhile."""

    def __repr__(self) -> str:
        return "PARKED"


PARKED: Final = Parked()


@dataclass(slots=True, eq=False)
class Item:
    """One row under way. `index` counts the rows of this input; `slot` is its row number in the store."""

    index: int
    row: Any
    id: str | None = None
    priority: float = 0
    config: Any = None  # the row's RunnableConfig, or None
    key: bytes | None = None  # identity in the store: 16 bytes
    content: bytes | None = None  # 16-byte hash of the row as it is asked
    question: bytes = b""  # such a hash of the part that the chain reads: the cache's key
    asked: bytes = b""  # the cache sets it while no other row may ask the same
    slot: int = -1
    stored: bytes | None = None  # the packed record of an earlier process, if it is done
    # True: so it is, but a part of the row that the chain does not read has changed since
    edited: bool = False
    answer: Any = None  # the cache sets it to the answer of an equal row
    account: Any = None  # the RowAccount while the row is active
    passed: int = 0  # how many gates let it through
    arrived_s: float = 0.0  # the `clock.now()` at which it was read
    began_s: float = 0.0  # when it was last let in: `clock.now()`
    calls: int = 0  # how often the chain was called
    called_s: float = 0.0  # when it was last called: `clock.now()`
    caller: Any = None  # calls the chain that is being tried: the run's own, or a fallback
    begun: bool = False  # True: the reader has pieces of an answer; they are void if the row is asked again
    shown: bool = False  # True: the pieces handed out are final, so the row cannot be asked again
    refused: BaseException | None = None  # why its last answer did not hold, while it is asked again
    broken: ErrorRecord | None = None  # the row could not be read, so it fails without a call


def _plain(text: str) -> str:
    """Text that moves no cursor and hides nothing: unprintable characters as their escapes."""
    return text if text.isprintable() else repr(text)[1:-1]


@dataclass(slots=True)
class Outcome:
    """How one row ended. Usage and cost add up all its attempts, including the failed ones."""

    index: int
    status: Status
    output: Any = None
    id: str | None = None
    error: ErrorRecord | None = None
    attempts: int = 0
    usage: Usage | None = None
    cost_pico: int | None = None
    cost_source: CostSource | None = None
    latency_s: float = 0.0
    cached: bool = False
    lane: str = "live"
    model: str | None = None
    truncated: bool = False
    input: Any = None
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    stored: bool = field(default=False, compare=False)  # True: an earlier call did it, and the store has it

    def __repr__(self) -> str:
        """What became of the row, in short."""
        name = "" if self.id is None else f" ({_plain(str(self.id))})"
        if self.error is not None:
            end = _plain(f"{self.error.type}: {self.error.message}"[: 2 * SHORT])
        else:
            end = repr(getattr(self.output, "content", self.output))
        words = [self.status, end if len(end) <= SHORT else f"{end[:SHORT]}..."]
        words += ["cached"] * self.cached + ["stored"] * self.stored
        words += [f"{self.attempts} attempts"] * (self.attempts > 1)
        if self.cost_pico:
            words.append(f"${self.cost_pico / PICO:.6f}")
        return f"<Outcome of {numbered(self.index)}{name}: {', '.join(words)}>"

    @property
    def cost_usd(self) -> float | None:
        """Dollars, or None if no price is known; `cost_pico` is the same exactly, in pico-dollars."""
        return None if self.cost_pico is None else self.cost_pico / PICO


Unit: TypeAlias = Literal["requests", "tokens", "input tokens", "output tokens"]


class Quota(NamedTuple):
    """What one answer says about one quota.

    Attributes:
        limit: the size of the whole quota.
        remaining: what was left when the answer was made.
        reset_s: seconds until the quota is full again; None if the answer does not say.
    """

    unit: Unit
    limit: float
    remaining: float
    reset_s: float | None = None


class Learnt(NamedTuple):
    """What a limiter has found.

    Attributes:
        in_flight: requests that fitted at once.
        firm: no more did.
        pace: requests a second, where that is what binds; 0 where it is not.
    """

    in_flight: float
    firm: bool
    pace: float = 0.0


class Known(NamedTuple):
    """What the runs of a store have found of one host, model and account.

    Attributes:
        label: host and model; nothing of the account.
        learnt: the newest.
        at: wall clock, when.
    """

    label: str
    learnt: Learnt
    at: float
