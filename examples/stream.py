"""Many answers at once, piece by piece, each piece with the number of its row."""

import asyncio
from collections.abc import AsyncIterator

from langchain_core.runnables import RunnableGenerator

from cottonpalm import BatchProcessor


async def words(questions: AsyncIterator[str]) -> AsyncIterator[str]:
    """Stands for a model that streams: says a question again, word by word."""
    async for question in questions:
        for word in question.split():
            await asyncio.sleep(0)
            yield f" {word}"


async def main() -> None:
    """Put the pieces together again."""
    answers = ["", ""]
    processor = BatchProcessor(RunnableGenerator(words))
    async for index, piece in processor.stream_batch(["one at a time", "and all at once"]):
        answers[index] += piece
    for index, answer in enumerate(answers):
        print(f"{index}:{answer}")


asyncio.run(main())
