"""A run that dies half-way, and the next one that does only the rest."""

from cottonpalm import BatchProcessor
from cottonpalm.testing import ScriptedChain

rows = [f"row {number}" for number in range(10)]


def run_until(most: int) -> None:
    """Answer rows until so many outcomes were seen, then leave as a crash would."""
    chain = ScriptedChain(then=str.upper)
    processor = BatchProcessor(chain, concurrency=1, store="resume.db", run="rows")
    seen = 0
    with processor.start(rows, skip_stored=True) as run:
        for _ in run:
            seen += 1
            if seen == most:
                break
    print(f"{run.stats.stored} were stored already, {seen} seen in this run")


run_until(most=3)
run_until(most=len(rows))
run_until(most=len(rows))
