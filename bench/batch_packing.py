"""A quarter of a million rows through the batch lane's files and book: `python bench/batch_packing.py --rows 250000`.

Every row is one request. It is written into a batch within the provider's limits (OpenAI: 50,000 rows, 200 MB), the
batch is written down in a store, and an answer for each line comes back in random order and is stored by its custom_id;
rows that are done are forgotten. Nothing is sent. Prints each batch, and the memory and CPU that it took.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cottonpalm.providers.batches.choice import ADAPTERS
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.packing import room_in
from cottonpalm.providers.batches.scratch import Scratch
from cottonpalm.providers.batches.spool import Packed, Spool
from cottonpalm.providers.batches.stages import Batch, KeepsBatches, Member, Stage, custom_id, number_of
from cottonpalm.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.providers.batches.stages import Book

LANE = Lane("openai", "https://api.openai.com", "/v1", "/v1/chat/completions", "gpt-5-mini")
GROUP = 512
MOST_MB = 100  # more than before the first row
PIECE = "The quick brown fox jumps over the lazy dog, and then it thinks about what it has done. "


def body(row: int, size: int) -> dict[str, Any]:
    text = f"row {row}: " + (PIECE * (size // len(PIECE) + 1))[:size]
    return {"model": LANE.model, "messages": [{"role": "user", "content": text}], "max_completion_tokens": 64}


def answers(packed: Packed, rng: Random) -> Iterator[bytes]:
    """What the provider's file of results holds, in random order."""
    numbers = list(range(packed.pack.rows))
    rng.shuffle(numbers)
    for number in numbers:
        message = {"role": "assistant", "content": f"answer to row {packed.members[number].row}"}
        usage = {"prompt_tokens": 250, "completion_tokens": 8, "total_tokens": 258}
        answer = {"id": "chatcmpl-1", "model": LANE.model, "choices": [{"index": 0, "message": message}]}
        response = {"status_code": 200, "request_id": "r", "body": {**answer, "usage": usage}}
        line = {"id": "b", "custom_id": custom_id(packed.tag, number), "response": response, "error": None}
        yield orjson.dumps(line)


def packs(rows: int, size: int, folder: Path) -> Iterator[Packed]:
    adapter = ADAPTERS[LANE.provider]
    spool = Spool(LANE, adapter, room_in(adapter.limits), Scratch(folder))
    for row in range(rows):
        asked = body(row, size)
        key = sha256(orjson.dumps(asked)).digest()
        if (full := spool.add(asked, Member(row, key), size // 4)) is not None:
            yield full
    if (rest := spool.close()) is not None:
        yield rest


def match(book: Book, packed: Packed, rng: Random) -> None:
    """Write the batch down, store its answers by custom_id, look each row up, forget it."""
    pack = packed.pack
    batch = Batch(packed.tag, LANE, Stage.INTENT, pack.rows, pack.size, pack.tokens)
    book.plan(batch, packed.members)
    adapter, lines = ADAPTERS[LANE.provider], answers(packed, rng)
    while group := list(islice(lines, GROUP)):
        results = [result for line in group if (result := adapter.result(line)) is not None]
        book.keep(packed.tag, [(number_of(batch, result.custom_id) or 0, result) for result in results])
    for member in packed.members:
        [result] = book.asked(member.row).values()
        assert result is not None
        assert result.body is not None
        assert result.body["choices"][0]["message"]["content"] == f"answer to row {member.row}"
    book.forget(member.row for member in packed.members)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--text-bytes", type=int, default=1_000, help="of each row's text")
    options = parser.parse_args()
    limits, before = ADAPTERS[LANE.provider].limits, memory_mb()
    print(f"{options.rows:,} rows of {options.text_bytes:,} bytes; {before:.0f} MB before the first")
    rng, done, packing_s, matching_s = Random(7), 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store.db")
        run = store.open_run("bench", None)
        assert isinstance(run, KeepsBatches)
        book, at = run.book(), time.process_time()
        for packed in packs(options.rows, options.text_bytes, Path(folder)):
            packing_s += time.process_time() - at
            pack = packed.pack
            assert limits.rows is not None
            assert pack.rows <= limits.rows
            assert sum(map(len, packed.blocks(b"\n"))) == pack.size <= limits.file_bytes
            at = time.process_time()
            match(book, packed, rng)
            matching_s += time.process_time() - at
            packed.drop()
            done += pack.rows
            print(
                f"  batch of {pack.rows:,} rows, {pack.size / 1e6:.0f} MB: at most {memory_mb():.0f} MB so far"
            )
            at = time.process_time()
        store.close()
    assert done == options.rows
    assert memory_mb() - before <= MOST_MB, "memory grows with the rows"
    each = 1e6 / done
    print(
        f"packed {packing_s * each:.0f} µs a row, written down, stored, looked up and forgotten"
        f" {matching_s * each:.0f} µs a row (CPU); memory grew by {memory_mb() - before:.0f} MB"
    )


if __name__ == "__main__":
    main()
