"""Which lines go into one batch: within every limit, none left out, none twice, one line in memory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.providers.batches.choice import ADAPTERS
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.lines import BatchLimits
from cottonpalm.providers.batches.packing import (
    FRAME,
    SHARE,
    SLACK,
    Pack,
    Room,
    may_wait,
    room_in,
    too_big,
)
from cottonpalm.providers.batches.queue import Queue, told_limit
from cottonpalm.providers.batches.scratch import BLOCK, Scratch
from cottonpalm.providers.batches.spool import Packed, Spool, TooBig
from cottonpalm.providers.batches.stages import Batch, Member, Stage, custom_id, number_of
from tests.support.batch_apis.rules import CUSTOM_ID

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

LANE = Lane("openai", "https://api.openai.com", "/v1", "/v1/chat/completions", "gpt-5-mini")
LINES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), min_size=1, max_size=60)
ROOMS = st.builds(
    Room,
    st.none() | st.integers(1, 10),
    st.integers(60, 200),
    st.none() | st.integers(60, 100),
    st.none() | st.integers(30, 90),
)


def packs(room: Room, lines: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """As `Spool` does it, without a file."""
    found: list[list[tuple[int, int]]] = [[]]
    pack = Pack()
    for size, tokens in lines:
        if not pack.fits(room, size, tokens):
            found.append([])
            pack = Pack()
        pack.add(size, tokens)
        found[-1].append((size, tokens))
    return found


@given(ROOMS, LINES)
def test_every_pack_keeps_within_rows_bytes_and_tokens_and_no_line_is_lost(
    room: Room, lines: list[tuple[int, int]]
) -> None:
    found = packs(room, lines)
    assert [line for pack in found for line in pack] == lines
    for pack in found:
        assert pack
        assert room.rows is None or len(pack) <= room.rows
        assert sum(size for size, _ in pack) <= room.size
        assert room.tokens is None or sum(tokens for _, tokens in pack) <= room.tokens


@given(ROOMS, LINES)
def test_a_pack_is_closed_only_when_the_next_line_does_not_fit(
    room: Room, lines: list[tuple[int, int]]
) -> None:
    found = packs(room, lines)
    for pack, after in itertools.pairwise(found):
        size, tokens = after[0]
        full = (
            (room.rows is not None and len(pack) == room.rows)
            or sum(size for size, _ in pack) + size > room.size
            or (room.tokens is not None and sum(tokens for _, tokens in pack) + tokens > room.tokens)
        )
        assert full


def test_room_leaves_slack_below_bytes_and_tokens_but_not_below_rows() -> None:
    room = room_in(BatchLimits(50_000, 200_000_000, 1_000, queued_tokens=900_000))
    assert room == Room(50_000, int(200_000_000 * SLACK) - FRAME, 1_000, int(900_000 * SHARE * SLACK))


def test_the_lowest_bound_of_rows_counts() -> None:
    assert room_in(BatchLimits(100_000, 10_000, queued_rows=300), rows=500).rows == 300
    assert room_in(BatchLimits(100_000, 10_000), rows=500).rows == 500
    assert room_in(BatchLimits(None, 10_000)).rows is None


def test_the_accounts_own_queue_goes_before_the_documented_one() -> None:
    assert room_in(BatchLimits(None, 10_000, queued_tokens=1_000), queued_tokens=90).tokens == int(
        90 * SHARE * SLACK
    )


def test_a_line_that_alone_has_too_many_tokens_travels_alone() -> None:
    """The estimate may be wrong, and the provider has the last word."""
    room = Room(None, 1_000, None, 10)
    assert packs(room, [(10, 5), (10, 99), (10, 5)]) == [[(10, 5)], [(10, 99)], [(10, 5)]]


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_a_line_that_no_batch_can_hold_is_told_apart(size: int, fits: bool) -> None:
    assert (too_big(Room(None, 1_000, 100, None), size) is None) is fits


def test_a_closed_batch_waits_while_the_queue_has_no_room_for_it() -> None:
    room = room_in(BatchLimits(None, 10_000, queued_tokens=1_000))
    pack = Pack(10, 100, 400)
    assert may_wait(room, 0, pack)
    assert may_wait(room, 500, pack)
    assert not may_wait(room, 700, pack)
    assert may_wait(Room(None, 1, None, None), 10**9, pack)


def test_the_limit_of_a_queue_is_read_from_the_providers_words() -> None:
    said = (
        "token_limit_exceeded: Enqueued token limit reached for gpt-5-mini. Limit: 900,000 enqueued tokens."
    )
    assert told_limit(said) == 900_000
    assert told_limit("Limit reached") is None


def test_a_queue_is_as_long_as_the_provider_says() -> None:
    queue = Queue()
    queue.refused(900, 5_000)
    assert (queue.tokens, queue.refusals) == (900, 0)
    queue.taken()
    assert queue.tokens == 900


def test_where_there_was_room_by_our_count_half_is_tried_after_a_wait_and_doubled_when_it_is_taken() -> None:
    """The provider counts otherwise, or others fill the queue."""
    queue = Queue()
    queue.refused(900, 5_000)
    queue.refused(900, 800)
    assert (queue.tokens, queue.refusals) == (400, 1)
    queue.refused(None, 300)
    assert (queue.tokens, queue.refusals) == (150, 2)
    queue.taken()
    assert (queue.tokens, queue.refusals) == (300, 0)
    for _ in range(3):
        queue.taken()
    assert queue.tokens == 900


def test_a_refusal_that_names_no_limit_halves_what_is_sent() -> None:
    queue = Queue()
    queue.refused(None, 1_000)
    assert (queue.tokens, queue.refusals) == (500, 1)
    queue.refused(None, 1)
    assert queue.tokens == 1


# -- with files -----------------------------------------------------------------------------------------------


def body(text: str) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}]}


def test_lines_are_written_as_they_are_sent_and_each_member_stands_at_its_number(tmp_path: Path) -> None:
    spool = Spool(LANE, ADAPTERS["openai"], Room(3, 10_000, None, None), Scratch(tmp_path))
    given_ = [(Member(row, b"k%d" % row), f"text {row}\u2028") for row in range(7)]
    done = [full for member, text in given_ if (full := spool.add(body(text), member, 1, 5))]
    rest = spool.close()
    assert rest is not None
    found = []
    for packed in [*done, rest]:
        content = b"".join(packed.blocks(b"\n"))
        lines = content.splitlines()
        assert packed.pack.rows == len(lines) == len(packed.members)
        assert packed.pack.size == len(content)
        assert packed.pack.reserved == 5 * len(lines)
        for number, line in enumerate(lines):
            sent = orjson.loads(line)
            assert sent["custom_id"] == custom_id(packed.tag, number)
            assert CUSTOM_ID.fullmatch(sent["custom_id"])
            found.append((packed.members[number], sent["body"]["messages"][0]["content"]))
    assert found == given_
    assert len({packed.tag for packed in [*done, rest]}) == 3


def test_the_file_of_lines_has_no_name_so_that_nothing_stays_behind_however_the_process_ends(
    tmp_path: Path,
) -> None:
    spool = Spool(LANE, ADAPTERS["openai"], room_in(ADAPTERS["openai"].limits), Scratch(tmp_path))
    spool.add(body("secret"), Member(0, b"k"), 1)
    packed = spool.close()
    assert packed is not None
    assert b"secret" in b"".join(packed.blocks(b"\n"))
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.lists(st.integers(0, 3 * BLOCK // 2), max_size=4), min_size=1, max_size=6), st.randoms())
def test_batches_share_one_file_and_each_gets_its_own_lines_back(sizes: list[list[int]], rng: Random) -> None:
    """Written in any order, dropped in any order, so that blocks are used again."""
    scratch = Scratch()
    wanted: dict[int, bytes] = {}
    packs = [Packed(str(number), LANE, scratch) for number in range(len(sizes))]
    left = [(number, size) for number, many in enumerate(sizes) for size in many]
    rng.shuffle(left)
    for number, size in left:
        line = bytes([65 + rng.randrange(26)]) * size + b"\n"
        packs[number].write(line)
        packs[number].pack.add(len(line), 1)
        wanted[number] = wanted.get(number, b"") + line
        if rng.random() < 0.2:  # it was sent, and another one begins
            packs[number].close()
            assert b"".join(packs[number].blocks(b"\n")) == wanted.pop(number)
            packs[number].drop()
            packs[number] = Packed("again", LANE, scratch)
    for number, packed in enumerate(packs):
        packed.close()
        assert b"".join(packed.blocks(b"\n")) == wanted.get(number, b"")
    for packed in packs:
        packed.drop()
    scratch.close()


def test_a_spool_with_nothing_in_it_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(LANE, ADAPTERS["openai"], Room(3, 400, None, None), Scratch(tmp_path))
    assert spool.close() is None
    with pytest.raises(TooBig, match="bytes"):
        spool.add(body("x" * 1_000), Member(0, b"k"), 1)
    assert spool.close() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("joint", [b"\n", b","])
def test_the_lines_go_out_joined_and_as_long_as_was_said(joint: bytes, tmp_path: Path) -> None:
    spool = Spool(LANE, ADAPTERS["openai"], Room(None, 10_000_000, None, None), Scratch(tmp_path))
    for row in range(3_000):
        spool.add(body(f"{row}, " * 30), Member(row, b"k"), 1)
    packed = spool.close()
    assert packed is not None
    sent = b"".join(packed.blocks(joint))
    assert len(sent) == packed.length(joint)
    lines = sent.splitlines() if joint == b"\n" else orjson.loads(b"[" + sent + b"]")
    assert len(lines) == 3_000


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "-",
        "7",
        "0af3b1c2d4e5-",
        "0af3b1c2d4e5-x",
        "0af3b1c2d4e5-3",
        "other-1",
        "0af3b1c2d4e5-²",
        f"0af3b1c2d4e5-{'1' * 5000}",
    ],
)
def test_a_custom_id_that_is_not_of_this_batch_is_no_line_of_it(odd: str) -> None:
    batch = Batch("0af3b1c2d4e5", LANE, Stage.ENDED, 3)
    assert number_of(batch, odd) is None
    assert [number_of(batch, custom_id(batch.tag, n)) for n in range(3)] == [0, 1, 2]
