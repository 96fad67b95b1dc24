"""Many answers at once, piece by piece, each piece with the number of its row."""

import asyncio

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser

from cottonpalm import BatchProcessor

model = GenericFakeChatModel(messages=iter([AIMessage("the first answer"), AIMessage("the second one")]))
processor = BatchProcessor(model | StrOutputParser())


async def main() -> None:
    """Put the pieces together again."""
    answers = {0: "", 1: ""}
    async for index, piece in processor.stream_batch(["one", "two"]):
        answers[index] += piece
    for index, answer in answers.items():
        print(index, answer)


asyncio.run(main())
