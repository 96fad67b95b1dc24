"""A program that runs rows through batches and writes what it got; to be killed and started again.

python -m tests.batchlane.worker STORE OUTPUT ROWS < addresses
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from cottonpalm import BatchLane, BatchProcessor
from tests.batchlane.chains import two_steps
from tests.batchlane.kit import PRICES, openai, rows


def main() -> None:
    store, output, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    said = orjson.loads(sys.stdin.readline())
    server: Any = SimpleNamespace(openai_url=said["openai"])
    lane = BatchLane(hosts=said["hosts"], rows=7, poll_s=0.01, listing_wait_s=0.3)
    processor = BatchProcessor(
        two_steps(openai(server)), mode="batch", store=store, run="r", prices=PRICES, lane=lane
    )
    answers = processor.batch(rows(count), return_exceptions=True)
    said_by_row = [getattr(answer, "content", f"failed: {answer!r}") for answer in answers]
    output.write_bytes(orjson.dumps(said_by_row))


if __name__ == "__main__":
    main()
