# ruff: noqa: E501 - commands are as they are typed
"""What is typed for the six jobs of `rivals_first_hour.py`, with each tool, as its own pages would have it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Job(NamedTuple):
    """One job.

    Attributes:
        name: what it is called in the table.
        separator: of the CSV.
        dead: no server is there.
        edited: it is done again after row 2 was edited.
        wanted: parts that the files or the words of the tool have in the end, where it did the job.
        free: it must not have sent one request.
        typed: by tool; a program begins with `#!python`, and is saved and run once.
    """

    name: str
    typed: dict[str, str]
    separator: str = ","
    dead: bool = False
    edited: bool = False
    wanted: tuple[str, ...] = ()
    free: bool = False


ANSWERS: Final = ("answer to: Good? works well", "answer to: Good? broke", "answer to: Good? fine")
MODEL: Final = "--model openai:gpt-4o-mini"
RUN: Final = f'cottonpalm run reviews.csv -o out.csv {MODEL} --prompt "Good? {{text}}"'
LOOP: Final = """tail -n +2 reviews.csv | while IFS='SEP' read -r id text; do
  echo "$id,$text,$(llm -m gpt-4o-mini "Good? $text" </dev/null)"
done > out.csv"""
ASK: Final = """'openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Good? " + value}]).choices[0].message.content'"""
SQLITE: Final = f"""sqlite-utils insert r.db reviews reviews.csv --csv --sniff --pk id --replace
sqlite-utils convert r.db reviews text {ASK} --import openai --output answer
sqlite-utils rows r.db reviews --csv > out.csv"""
ASYNC: Final = """#!python
import asyncio, csv
from async_batch_llm import llm, process_prompts

async def main():
    rows = list(csv.DictReader(open("reviews.csv")))
    done = await process_prompts(llm("openai:gpt-4o-mini"), [(r["id"], f"Good? {r['text']}") for r in rows])
    said = {r.item_id: r.output or r.error for r in done.results}
    out = csv.writer(open("out.csv", "w"))
    out.writerows([r["id"], r["text"], said[r["id"]]] for r in rows)

asyncio.run(main())"""
CHAIN: Final = """#!python
import csv
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

chain = ChatPromptTemplate.from_template("Good? {text}") | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser()
rows = list(csv.DictReader(open("reviews.csv")))
answers = chain.batch(rows)
out = csv.writer(open("out.csv", "w"))
out.writerows([r["id"], r["text"], a] for r, a in zip(rows, answers))"""
PANDAS: Final = (
    CHAIN.replace("import csv\n", "import pandas as pd\n")
    .partition("rows =")[0]
    .replace("#!python\n", "#!python\n")
    + 'df = pd.read_csv("reviews.csv")\n'
)
APP: Final = '''"""The chain of the sixth job: it is there already, and its last step fails on row 2."""
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

def label(said):
    return {"works well": "yes", "fine": "yes"}[said.removeprefix("answer to: Good? ")]

prompt = ChatPromptTemplate.from_template("Good? {text}")
chain = prompt | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser() | label
'''
STEP: Final = APP[APP.index("def label") : APP.index("prompt =")]


def semicolons(typed: str) -> str:
    return typed.replace("SEP", ";").replace('open("reviews.csv")', 'open("reviews.csv"), delimiter=";"')


def commas(typed: str) -> str:
    return typed.replace("SEP", ",")


def typo(typed: str) -> str:
    return (
        commas(typed).replace("{text}", "{txet}").replace("$text", "$txet").replace("r['text']", "r['txet']")
    )


ALL: Final = {
    "cottonpalm": RUN,
    "llm": LOOP,
    "sqlite-utils": SQLITE,
    "async-batch-llm": ASYNC,
    "chain.batch": CHAIN,
}
JOBS: Final = (
    Job(
        "CSV with semicolons",
        {tool: semicolons(typed) for tool, typed in ALL.items()},
        separator=";",
        wanted=ANSWERS,
    ),
    Job(
        "a typo in the column",
        {tool: typo(typed).replace("reviews text '", "reviews txet '") for tool, typed in ALL.items()},
        wanted=("txet",),
        free=True,
    ),
    Job(
        "a dead server",
        {tool: commas(typed) for tool, typed in ALL.items()},
        dead=True,
        wanted=("127.0.0.1:9",),
    ),
    Job(
        "again after an edit",
        {tool: commas(typed) for tool, typed in ALL.items()}
        | {
            "async-batch-llm": ASYNC.replace(
                "llm, process_prompts", "JsonlArtifactStore, ResumePolicy, llm, process_prompts"
            ).replace(
                "for r in rows])",
                'for r in rows],\n        artifact_store=JsonlArtifactStore("answers.jsonl"), resume=ResumePolicy.REUSE_SUCCESSES)',
            )
        },
        edited=True,
        wanted=(ANSWERS[0], "answer to: Good? broke down", ANSWERS[2]),
    ),
    Job(
        "frame to frame",
        {
            "cottonpalm": PANDAS.replace(
                "import pandas as pd\n", "import pandas as pd\nfrom cottonpalm import BatchProcessor\n"
            )
            + 'df = BatchProcessor(chain).map_table(df, output="answer")\ndf.to_csv("out.csv")',
            "llm": '#!python\nimport llm\nimport pandas as pd\n\nmodel = llm.get_model("gpt-4o-mini")\ndf = pd.read_csv("reviews.csv")\ndf["answer"] = [model.prompt(f"Good? {text}").text() for text in df["text"]]\ndf.to_csv("out.csv")',
            "sqlite-utils": '#!python\nimport openai\nimport pandas as pd\nimport sqlite_utils\n\nclient = openai.OpenAI()\n\ndef ask(text):\n    said = [{"role": "user", "content": f"Good? {text}"}]\n    return client.chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content\n\ndf = pd.read_csv("reviews.csv")\ndb = sqlite_utils.Database(memory=True)\ndb["reviews"].insert_all(df.to_dict("records"))\ndb["reviews"].convert("text", ask, output="answer")\ndf = pd.DataFrame(db["reviews"].rows)\ndf.to_csv("out.csv")',
            "async-batch-llm": '#!python\nimport asyncio\nimport pandas as pd\nfrom async_batch_llm import llm, process_prompts\n\ndf = pd.read_csv("reviews.csv")\ndone = asyncio.run(process_prompts(llm("openai:gpt-4o-mini"), [f"Good? {text}" for text in df["text"]], preserve_order=True))\ndf["answer"] = [r.output for r in done.results]\ndf.to_csv("out.csv")',
            "chain.batch": PANDAS + 'df["answer"] = chain.batch(df.to_dict("records"))\ndf.to_csv("out.csv")',
        },
        wanted=ANSWERS,
    ),
    Job(
        "a chain that fails on a row",
        {
            "cottonpalm": "cottonpalm run reviews.csv -o out.csv --chain app:chain",
            "llm": LOOP.replace("SEP", ",").replace(
                '</dev/null)"', '</dev/null | python -c "from app import label; print(label(input()))")"'
            ),
            "sqlite-utils": SQLITE.replace("'openai.", "'app.label(openai.").replace(
                ".content' --", ".content)' --import app --"
            ),
            "async-batch-llm": ASYNC.replace(
                "import asyncio, csv\n", "import asyncio, csv\nfrom app import label\n"
            ).replace(
                'llm("openai:gpt-4o-mini")',
                'llm("openai:gpt-4o-mini", response_parser=lambda r: label(r.text))',
            ),
            "chain.batch": '#!python\nimport csv\nfrom app import chain\n\nrows = list(csv.DictReader(open("reviews.csv")))\nanswers = chain.batch(rows)\nout = csv.writer(open("out.csv", "w"))\nout.writerows([r["id"], r["text"], a] for r, a in zip(rows, answers))',
        },
        wanted=("1,works well,yes", "3,fine,yes", "KeyError: 'broke'", "in label"),
    ),
)
