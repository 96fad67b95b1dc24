"""Converts one row's outcome to one JSON object with short keys, and back."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm.errors import CannotStore, StoreError
from cottonpalm.stores.codec.kinds import count_in_wholes
from cottonpalm.stores.codec.values import check, decode, encode
from cottonpalm.types import ErrorRecord, Kind, Outcome, Try, Usage

if TYPE_CHECKING:
    from cottonpalm.stores.codec.kinds import Types


OUTPUT, ERROR, ATTEMPTS, USAGE, COST, COST_SOURCE = "o", "e", "a", "u", "c", "s"
LATENCY, MODEL, TRUNCATED, LANE, ID, INPUT, INPUT_TEXT, CACHED = "l", "m", "t", "n", "d", "i", "r", "k"
_COMMON: Final = 5  # counts of a `Usage` that are always kept
_AS_THEY_ARE: Final = frozenset((str, int))  # JSON holds such an input, or says that it cannot


class InputText(str):
    """The repr of an input that could not be stored. People can read it, but it cannot be run again."""

    __slots__ = ()


class NotKept:
    """The type of NOT_KEPT: the record holds no input."""

    def __repr__(self) -> str:
        return "NOT_KEPT"


NOT_KEPT: Final = NotKept()


def pack(outcome: Outcome, *, keep_input: bool, types: Types) -> bytes:
    """Return the record of an outcome that was tried ("ok" or "failed").

    Text and plain JSON always come back equal; any other output is read back here and compared. An input that cannot
    be stored does not fail the row: the record keeps its repr.

    Raises:
        CannotStore: the output would not come back equal; `.text` is its repr.
    """
    output = outcome.output
    if type(output) is not str:
        output = _output(output, types)
    record: dict[str, Any] = {OUTPUT: output, ATTEMPTS: outcome.attempts, LATENCY: outcome.latency_s}
    _note(record, outcome)
    if keep_input:
        if type(row := outcome.input) in _AS_THEY_ARE:
            record[INPUT] = row
        else:
            _keep_input(record, row, types)
    try:
        return orjson.dumps(record)
    except TypeError:  # a text has lone surrogates, or the input is a number that JSON cannot hold
        return orjson.dumps({name: _told(name, part) for name, part in record.items()})


def _output(output: Any, types: Types) -> Any:
    if isinstance(output, str) and not isinstance(output, Enum):
        return str.__str__(output)  # LangChain's parsers return subclasses of str
    try:
        return check(output, types)
    except CannotStore:
        if not count_in_wholes(output):
            raise
        return check(output, types)


def _told(name: str, part: Any) -> Any:
    """Encode what is not encoded yet: of an output and an input, containers are."""
    return part if name in (INPUT, OUTPUT) and isinstance(part, dict | list) else encode(part)


def _usage(usage: Usage) -> list[int]:
    """Return the counts; the rarer ones, at the end, only if they are not all zero."""
    counts = list(usage.counts())
    return counts if any(counts[_COMMON:]) else counts[:_COMMON]


def _note(record: dict[str, Any], outcome: Outcome) -> None:
    """Add to the record what differs from the defaults; a default takes no space."""
    if (error := outcome.error) is not None:
        record[ERROR] = [error.kind.value, error.type, error.message, error.retryable, *_more(error)]
    if (usage := outcome.usage) is not None:
        record[USAGE] = _usage(usage)
    if outcome.cost_pico is not None:
        record[COST], record[COST_SOURCE] = outcome.cost_pico, outcome.cost_source
    if outcome.lane != "live":
        record[LANE] = outcome.lane
    if outcome.model is not None:
        record[MODEL] = outcome.model
    if outcome.id is not None:
        record[ID] = outcome.id
    if outcome.truncated or outcome.cached:
        record[TRUNCATED], record[CACHED] = outcome.truncated, outcome.cached


def _more(error: ErrorRecord) -> list[Any]:
    """The fields that few errors have, up to the last that this one has."""
    if not error.tries:
        return [] if error.where is None else [error.where]
    return [error.where, [(round(at_s, 3), round(took_s, 3), met) for at_s, took_s, met in error.tries]]


def with_input(record: bytes, value: Any, types: Types) -> bytes:
    """Return a record that holds another input; one that holds none is left as it is."""
    stored = orjson.loads(record)
    if INPUT not in stored and INPUT_TEXT not in stored:
        return record
    del stored[INPUT if INPUT in stored else INPUT_TEXT]
    _keep_input(stored, value, types)
    try:
        return orjson.dumps(stored)
    except TypeError:  # lone surrogates, in the input alone
        return orjson.dumps({**stored, INPUT: encode(stored[INPUT])})


def _keep_input(record: dict[str, Any], value: Any, types: Types) -> None:
    try:
        record[INPUT] = check(value, types)
    except CannotStore as exc:
        record[INPUT_TEXT] = exc.text


_COUNTS: Final = len(fields(Usage))
_KINDS: Final = frozenset(kind.value for kind in Kind)


def unpack(record: bytes, index: int, types: Types) -> Outcome:
    """Return the outcome that `pack` got, without its exception object. Objects of unknown classes are plain data.

    Raises:
        StoreError: the record is damaged.
    """
    try:
        stored = orjson.loads(record)
    except orjson.JSONDecodeError as exc:
        raise damaged(index, exc) from exc
    get = stored.get
    error, usage, kept = get(ERROR), get(USAGE), stored_input(stored, types)
    return Outcome(
        index=index,
        status="ok" if error is None else "failed",
        output=decode(get(OUTPUT), types),
        id=decode(get(ID), types),
        error=None if error is None else _error(decode(error, types)),
        attempts=get(ATTEMPTS, 0),
        usage=None if usage is None else Usage(*usage[:_COUNTS]),
        cost_pico=get(COST),
        cost_source=get(COST_SOURCE),
        latency_s=get(LATENCY, 0.0),
        cached=get(CACHED, False),
        lane=get(LANE, "live"),
        model=decode(get(MODEL), types),
        truncated=get(TRUNCATED, False),
        input=None if kept is NOT_KEPT else kept,
    )


def damaged(index: int, error: orjson.JSONDecodeError) -> StoreError:
    """What to say of a record that is no JSON any more: a database does not notice this of itself."""
    return StoreError(
        f"what the store holds of row {index + 1} (index {index}) is damaged ({error}): put back a copy of the store"
    )


def _error(parts: list[Any]) -> ErrorRecord:
    kind, type_, message, retryable = parts[:4]  # a later version may say more
    known = Kind(kind) if kind in _KINDS else Kind.FAIL_ROW
    where, tries = (*parts[4:6], None, None)[:2]
    return ErrorRecord(known, type_, message, retryable, where, tries_of(tries))


def tries_of(stored: Any) -> tuple[Try, ...]:
    """The tries in a stored error; what is not one is left out."""
    return tuple(
        Try(*each[:3]) for each in stored or () if isinstance(each, list) and len(each) >= len(Try._fields)
    )


def has_input(record: bytes) -> bool:
    """Whether the record holds an input that can be run again."""
    return INPUT in orjson.loads(record)


def stored_input(record: bytes | dict[str, Any], types: Types) -> Any:
    """Return the input in a record: its value, an `InputText`, or NOT_KEPT."""
    stored = orjson.loads(record) if isinstance(record, bytes) else record
    if INPUT in stored:
        return decode(stored[INPUT], types)
    return InputText(decode(stored[INPUT_TEXT], types)) if INPUT_TEXT in stored else NOT_KEPT
