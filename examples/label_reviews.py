"""Label reviews with the model on this machine; start it again and nothing is asked twice."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from cottonpalm import BatchProcessor
from cottonpalm.local.demo import GRAMMAR, PROMPT, SYSTEM
from cottonpalm.local.reviews import rows
from cottonpalm.local.server import model

prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", PROMPT)])
chain = prompt | model(grammar=GRAMMAR, max_tokens=16) | StrOutputParser()
processor = BatchProcessor(chain, store="reviews.db", run="twelve")

right = 0
with processor.start(rows(12), ids=lambda row: row["id"]) as run:
    for outcome in run:
        right += outcome.output == outcome.input["label"]
        print(f"{outcome.output or 'failed':9} {outcome.input['text'][:80]}")
print(f"{right} of 12 agree with people; {run.stats.stored} came from the store")
