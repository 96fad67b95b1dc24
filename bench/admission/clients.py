"""Three ways in which people use it, against a server over HTTP, with no knobs at all. Each runs until it is killed."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
from bench.admission.scaled import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.admission.calls import Workload
    from langchain_openai import ChatOpenAI

ROWS_PER_S: Final = 200  # more than any of the scenarios lets through


def texts(workload: Workload) -> Iterator[str]:
    """The rows: a number, and words for as many tokens as the call has."""
    while True:
        call = workload.next()
        yield f"{call.number} " + "word" * call.tokens_in  # four bytes to the token


def model(url: str) -> ChatOpenAI:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o-mini", base_url=url)


def processor(url: str, rows: list[str], _folder: Path) -> None:
    from cottonpalm import BatchProcessor

    BatchProcessor(model(url)).batch(rows)


def adaptive(url: str, rows: list[str], _folder: Path) -> None:
    from cottonpalm import AdaptiveBatchProcessor

    AdaptiveBatchProcessor(model(url)).batch(rows)


def command(url: str, rows: list[str], folder: Path) -> None:
    """Becomes the command line's process."""
    table = folder / "rows.jsonl"
    table.write_bytes(b"".join(orjson.dumps({"text": row}) + b"\n" for row in rows))
    os.chdir(folder)
    given = ["--model", "openai:gpt-4o-mini", "--base-url", url, "--prompt", "{text}"]
    os.execv(
        sys.executable,
        [sys.executable, "-m", "cottonpalm.cli.app", "run", str(table), "-o", "out.jsonl", *given],
    )


CLIENTS: Final = {"BatchProcessor": processor, "AdaptiveBatchProcessor": adaptive, "cottonpalm run": command}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.clients", description=__doc__)
    options.add_argument("client", choices=list(CLIENTS))
    options.add_argument("scenario", choices=list(BY_NAME))
    options.add_argument("url")
    options.add_argument("folder", type=Path)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    os.environ["OPENAI_API_KEY"] = "not-a-key"
    scenario = BY_NAME[given.scenario]
    rows = list(islice(texts(scenario.workload(given.seed)), int(ROWS_PER_S * scenario.horizon_s)))
    CLIENTS[given.client](given.url, rows, given.folder)


if __name__ == "__main__":
    main()
