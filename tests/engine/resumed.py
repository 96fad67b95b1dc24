"""A program of its own: `python -m tests.engine.resumed STORE URL MODEL PROMPT` answers the rows on its standard input.

Rows come as a JSON list; out come the answers as one, or what was refused as a text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, ChainChanged


def main(store: str, url: str, model: str, prompt: str) -> None:
    asked = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model=model)
    chain: Any = ChatPromptTemplate.from_template(prompt) | asked | StrOutputParser()
    try:
        answers = BatchProcessor(chain, store=store, run="night").batch(json.load(sys.stdin))
    except ChainChanged as changed:
        print(json.dumps(str(changed)))
    else:
        print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
