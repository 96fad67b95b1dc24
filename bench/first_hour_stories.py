# ruff: noqa: E501 - commands are as they are typed
"""What a new user types in the first hour, and what has to be seen: the seventeen points of `first_hour.py`."""

from __future__ import annotations

from typing import Final, NamedTuple


class Step(NamedTuple):
    """What is typed, and what comes of it.

    Attributes:
        typed: lines of a shell.
        says: has to be seen, wherever lines end.
        code: the exit code.
        never: must not be seen, besides what no step may say.
    """

    typed: str
    says: tuple[str, ...] = ()
    code: int = 0
    never: tuple[str, ...] = ()


class Story(NamedTuple):
    """One point. `bare`: with nothing installed but the package."""

    point: int
    title: str
    steps: tuple[Step, ...]
    bare: bool = False


NEVER: Final = (
    "has no len()",
    "<frozen os>",
    "steps[0] RowPrompt",
    "Traceback (most recent call last)",
    ",,,failed",
)
M: Final = "--model openai:gpt-4o-mini"
ASK: Final = f"cottonpalm run reviews.csv -o out.csv {M} --no-progress"
CSV: Final = r"printf 'id,text\na1,Works well\na2,Broke\n' > reviews.csv"
SEMI: Final = r"printf 'id;text\na1;Works well\na2;Broke\n' > reviews.csv"
COUNT: Final = """python -c "import json,os,urllib.request as u; print('requests', json.load(u.urlopen(os.environ['SERVER']+'/_stats'))['requests'])" """
CHAIN: Final = r"""cat > app.py <<'END'
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
def shout(answer):
    return int(answer)
def make_chain():
    return ChatPromptTemplate.from_template("Say {text}") | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser()
chain = make_chain() | shout
typo = ChatPromptTemplate.from_template("Say {txet}") | ChatOpenAI(model="gpt-4o-mini")
END"""
FRAMES: Final = r"""cat > frames.py <<'END'
import sys, warnings
import pandas as pd
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI
from cottonpalm import BatchProcessor
warnings.simplefilter("always")
chain = ChatPromptTemplate.from_template("Good? {text}") | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser()
p = BatchProcessor(chain, store="s.db", run="r")
df = pd.DataFrame({"text": ["Works well", "Broke"]}, index=["a1", "a2"])
END"""


def python(code: str, says: tuple[str, ...] = (), code_: int = 0, never: tuple[str, ...] = ()) -> Step:
    """A script on standard input."""
    return Step(f"python - <<'END'\n{code.strip()}\nEND", says, code_, never)


STORIES: Final = (
    Story(
        14,
        "a wheel that works, with nothing else",
        (
            Step("cottonpalm --version", ("cottonpalm 0.1.0",)),
            Step("python -m cottonpalm --help | head -3", ("Usage: ",)),
            Step(f"{CSV}; {ASK} --prompt 'Good? {{text}}'", ("pip install 'cottonpalm[openai]'",), 2),
            Step(
                "cottonpalm run reviews.csv -o out.xlsx --model openai:gpt-4o-mini --prompt '{text}'",
                ("cottonpalm[",),
                2,
            ),
            python(
                "import sys, cottonpalm\nfrom cottonpalm import BatchProcessor\nfrom langchain_core.runnables import RunnableLambda\n"
                "print(BatchProcessor(RunnableLambda(str.upper)).batch(['a', 'b']))\n"
                "print([name for name in ('pandas', 'polars', 'pyarrow', 'datasets') if name in sys.modules])",
                ("['A', 'B']", "[]"),
            ),
        ),
        bare=True,
    ),
    Story(
        1,
        "tables in and out",
        (
            Step(FRAMES),
            python(
                "from frames import *\nwith p.start(df) as run:\n    print([o.output for o in run])",
                ("Works well", "Broke"),
                never=("answer to: Good? text",),
            ),
            python(
                "from frames import *\nprint(p.map_table(df, output='answer'))", ("answer_error", "a1", "a2")
            ),
            python(
                "from frames import *\nprint(p.start(df).__enter__().to_pandas().columns.tolist())",
                ("'output', 'status', 'error', 'cost_usd'",),
            ),
            python(
                "from frames import *\ntry: p.batch('Works well')\nexcept Exception as e: print(type(e).__name__, e)",
                ("one text",),
            ),
            python(
                "from frames import *\nprint(BatchProcessor(chain).batch({'text': t} for t in ('x', 'y')))",
                ("answer to: Good? x",),
            ),
            python(
                "import polars as pl\nfrom frames import *\nprint(BatchProcessor(chain).map_table(pl.DataFrame({'text': ['x']}), output='a'))",
                ("answer to: Good? x",),
            ),
            python(
                "import pyarrow as pa\nfrom frames import *\nprint(BatchProcessor(chain).map_table(pa.table({'text': ['x']}), output='a').column_names)",
                ("['text', 'a', 'a_error']",),
            ),
            python(
                "import datasets\nfrom frames import *\nprint(BatchProcessor(chain).map_table(datasets.Dataset.from_dict({'text': ['x']}), output='a').column_names)",
                ("['text', 'a', 'a_error']",),
            ),
            python(
                "import numpy as np\nfrom langchain_core.runnables import RunnableLambda\nfrom cottonpalm import BatchProcessor\np = BatchProcessor(RunnableLambda(lambda n: np.float32(n)), store='n.db', run='n')\nprint(p.batch([1, 2]), p.batch([1, 2]))",
                ("1.0", "2.0"),
            ),
        ),
    ),
    Story(
        2,
        "identity by what is read",
        (
            Step(FRAMES),
            python(
                "from frames import *\nfor _ in range(2):\n    df['answer'] = p.batch(df.to_dict('records'))\n    print(p.last_run.stats.attempts)",
                ("2 0",),
            ),
            Step(f"{CSV}; {ASK} --prompt 'Good? {{text}}'", ("2 ok",)),
            Step("sed -i '1s/$/,note/;2,$s/$/,seen/' reviews.csv; cat reviews.csv"),
            Step(f"{ASK} --prompt 'Good? {{text}}' --dry-run", ("0 would be asked",)),
            Step(f"{ASK} --prompt 'Good? {{text}}'", ("nothing to do",)),
            Step("sed -i 's/Broke/Broke twice/' reviews.csv"),
            Step(f"{ASK} --prompt 'Good? {{text}}' --dry-run", ("1 would be asked",)),
            Step(f"cottonpalm plan reviews.csv -o out.csv {M} --prompt 'Good? {{text}}'", ("to ask 1 row",)),
        ),
    ),
    Story(
        3,
        "CSV as it comes",
        (
            Step(
                f"{SEMI}; {ASK} --prompt 'Good? {{text}}'; head -2 out.csv",
                ("2 ok", "id;text;output;status", "a1;Works well;answer to: Good? Works well;ok"),
            ),
            Step(
                r"printf 'id\ttext\n1\tx\n' > r.tsv; cottonpalm run r.tsv -o r.csv "
                + M
                + " --prompt '{text}'",
                ("1 ok",),
            ),
            Step(
                r"printf 'id|text\n1|x\n' > bar.csv; cottonpalm run bar.csv -o b.csv "
                + M
                + " --prompt '{text}'",
                ("1 ok",),
            ),
            Step(
                "cat reviews.csv | cottonpalm run - -o - " + M + " --prompt 'Good? {text}' -q",
                ("answer to: Good? Broke",),
            ),
            Step(
                r"printf '\xba\xc3\xb5\xc4,text\n1,\xba\xc3\n' > gbk.csv; cottonpalm run gbk.csv -o g.csv "
                + M
                + " --prompt '{text}'",
                ("byte 1 (0xba) is not UTF-8", "--encoding"),
                2,
            ),
            Step(
                "cottonpalm run gbk.csv -o g.csv " + M + " --prompt '{text}' --encoding gbk --bom; cat g.csv",
                ("answer to: 好",),
            ),
            Step(
                "cottonpalm run gbk.csv -o h.csv " + M + " --prompt '{text}' --encoding gkb",
                ("no such encoding",),
                2,
            ),
            Step(
                "iconv -f gbk -t utf-16 gbk.csv > wide.csv; cottonpalm run wide.csv -o w.csv "
                + M
                + " --prompt '{text}'",
                ("1 ok",),
            ),
            Step(
                "cottonpalm run reviews.csv -o sheet.xlsx "
                + M
                + " --prompt '{text}' && cottonpalm run sheet.xlsx -o again.csv "
                + M
                + " --prompt '{text}' --run again",
                ("2 ok",),
            ),
        ),
    ),
    Story(
        4,
        "failed rows keep their input",
        (
            Step(r"printf 'id,text,stars\na1,Works well,5\na2,Broke, again,1\n' > reviews.csv"),
            Step(
                f"{ASK} --prompt 'Good? {{text}}'; cat out.csv",
                (
                    "row 2 (index 1)",
                    "reviews.csv line 3",
                    "could not be read (fail_row)",
                    "a2,Broke,",
                    "mend     the input",
                ),
            ),
            Step(
                "sed -i 's/Broke, again/Broke again/' reviews.csv; " + f"{ASK} --prompt 'Good? {{text}}'",
                ("2 rows: 2 ok, 0 failed", "for 1 row"),
            ),
            Step(
                r"""printf '{"id":"x1","text":"a"}\n{"id":"x2"}\n' > in.jsonl; """
                f"cottonpalm run in.jsonl -o o.jsonl {M} --prompt '{{text}}'; cat o.jsonl",
                ('"id":"x2"', "row 2 (index 1)"),
            ),
        ),
    ),
    Story(
        5,
        "a look at a live run",
        (
            Step("python -c \"print('text'); [print('row', n) for n in range(3000)]\" > many.csv"),
            Step(
                f"cottonpalm run many.csv -o many-out.jsonl {M} --prompt '{{text}}' -c 4 -q & sleep 12; "
                "cottonpalm export many-out -o part.csv; cottonpalm status --json; kill -INT %1; wait %1; cottonpalm status many-out",
                ("is being worked on", '"held_by":"', "exit code 130"),
            ),
        ),
    ),
    Story(
        6,
        "rows that are messages, images, n answers",
        (
            Step(
                r"""printf '{"messages":[{"role":"user","content":"hello"}]}\n' > m.jsonl; """
                f"cottonpalm run m.jsonl -o mo.jsonl {M} --messages messages; cat mo.jsonl",
                ("answer to: hello",),
            ),
            Step(
                r"""printf '{"custom_id":"x1","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}}\n' > b.jsonl; """
                f"cottonpalm run b.jsonl -o bo.jsonl {M} --requests; cat bo.jsonl",
                ('"id":"x1"', "answer to: hello"),
            ),
            Step(
                r"printf 'pic,text\nhttps://example.com/a.png,what?\nnot-there.png,what?\n' > i.csv; "
                f"cottonpalm run i.csv -o io.csv {M} --image pic --prompt '{{text}}'",
                ("1 ok, 1 failed", "not-there.png"),
                3,
            ),
            Step(f"{CSV}; {ASK} --prompt '{{text}}' --n 3 --vote; cat out.csv", ("answer to: Broke",)),
        ),
    ),
    Story(
        7,
        "placeholders",
        (
            Step(
                f"{CSV}; {ASK} --prompt '{{text}} {{txet}}'",
                (
                    "{txet}, which is no column of reviews.csv; did you mean {text}?",
                    "{{txet}}",
                    "--literal-braces",
                ),
                2,
            ),
            Step(f"{ASK} --prompt '{{text}} {{nope}}'", ("its columns are 'id', 'text'.",), 2),
            Step(f"{ASK} --prompt '{{text}} {{{{nope}}}}' --dry-run", ("Works well {nope}",)),
            Step(f"{ASK} --prompt '{{text}} {{nope}}' --literal-braces --dry-run", ("Works well {nope}",)),
        ),
    ),
    Story(
        8,
        "own chains",
        (
            Step(f"{CHAIN}\n{CSV}"),
            Step(
                "cottonpalm run reviews.csv -o out.csv --chain app:chain -v --no-progress",
                ("app.py:5, in shout: return int(answer)",),
                3,
            ),
            Step("cottonpalm status out -v", ("app.py:5, in shout",)),
            Step(
                "cottonpalm run reviews.csv -o t.csv --chain app:typo --dry-run",
                ("'txet', which the row lacks; it has 'id', 'text'",),
                2,
            ),
            Step("cottonpalm run reviews.csv -o f.csv --chain app:make_chain", ("2 ok",)),
            Step(
                "printf 'import os\\nkey = os.environ[\"MY_KEY\"]\\n' > bad.py; cottonpalm run reviews.csv -o x.csv --chain bad:chain",
                ("KeyError: 'MY_KEY' (at bad.py:2",),
                2,
            ),
            Step("cottonpalm run reviews.csv -o x.csv --chain app:chian", ("chian", "chain"), 2),
        ),
    ),
    Story(
        9,
        "a typo is not punished",
        (
            Step(
                f"{CSV}; timeout -s INT 15 {ASK} --prompt 'Godo? {{text}}' --base-url http://127.0.0.1:9/v1; true",
                ("connection refused",),
            ),
            Step(f"{ASK} --prompt 'Good? {{text}}'", ("2 ok",)),
            Step(
                f"{ASK} --prompt 'Bad? {{text}}'",
                ('the prompt changed: "Good? {text}" -> "Bad? {text}"', "--fresh"),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o out.csv --model openai:gpt-4o --prompt 'Good? {text}'",
                ("the model",),
                2,
            ),
        ),
    ),
    Story(
        10,
        "providers",
        (
            Step(
                f"{CSV}; cottonpalm run reviews.csv -o a.csv --model anthropic:claude-haiku-4-5 --prompt '{{text}}'",
                ("pip install 'cottonpalm[anthropic]'",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o a.csv --model cohere:command-r --prompt '{text}'",
                ("pip install langchain langchain-cohere",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o a.csv --model deepseek:deepseek-chat --prompt '{text}'",
                ("export DEEPSEEK_API_KEY=",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o a.csv --model opnai:gpt-4o --prompt '{text}'",
                ("did you mean openai?",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o a.csv --prompt '{text}'",
                ("say which model: OPENAI_API_KEY is set",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o a.csv --model ollama:llama3.2 --base-url $OPENAI_BASE_URL --prompt '{text}'",
                ("2 ok",),
            ),
            Step(
                "cottonpalm run reviews.csv -o b.csv --model openai:gpt-4o-mini --base-url $SERVER/nowhere --prompt '{text}' --no-progress --retries 0"
            ),
            Step(
                "cottonpalm run reviews.csv -o c.csv --model openai:gpt-4o-mini --temprature 0 --prompt '{text}'",
                ("--temperature",),
                2,
            ),
            Step(
                "cottonpalm run reviews.csv -o c.csv --model openai:gpt-4o-mini --temperature 0 --max-tokens 9 --prompt '{text}'",
                ("2 ok",),
            ),
            Step(
                "echo 'DEEPSEEK_API_KEY=sk-1' > .env; cottonpalm run reviews.csv -o d.csv --model deepseek:deepseek-chat --base-url $OPENAI_BASE_URL --prompt '{text}'",
                ("DEEPSEEK_API_KEY from .env", "2 ok"),
            ),
        ),
    ),
    Story(
        11,
        "a file of options, and help",
        (
            Step("cottonpalm init; head -12 cottonpalm.toml", ("cottonpalm.toml",)),
            Step(
                CSV
                + r"""; printf '[run]\nmodel = "openai:gpt-4o-mini"\nprompt = "Good? {text}"\n[profile.trial]\nlimit = 1\n' > cottonpalm.toml; cottonpalm run reviews.csv -o out.csv --profile trial""",
                ("1 row: 1 ok",),
            ),
            Step(
                "cottonpalm run reviews.csv -o two.csv --prompt 'Bad? {text}'; cat two.csv",
                ("answer to: Bad? Broke",),
            ),
            Step("cottonpalm run --help | head -16", ("cottonpalm run in.csv -o out.csv",)),
            Step("cottonpalm run reviews.csv", ("say where the answers go: -o answers.csv",), 2),
        ),
    ),
    Story(
        12,
        "a notebook",
        (
            python(
                "import nbformat as n\ncells = ['from frames_ import p, rows', 'answers = p.batch(rows)', 'answers = p.batch(rows)', 'p.last_run']\n"
                "open('frames_.py', 'w').write('''from langchain_openai import ChatOpenAI\nfrom cottonpalm import BatchProcessor\n"
                'p = BatchProcessor(ChatOpenAI(model="gpt-4o-mini"), progress=True, store="n.db", run="n")\nrows = [f"row {n}" for n in range(40)]\n\'\'\')\n'
                "n.write(n.v4.new_notebook(cells=[n.v4.new_code_cell(c) for c in cells]), 'book.ipynb')"
            ),
            Step(
                'python -m nbconvert --to notebook --execute book.ipynb --output done.ipynb 2>/dev/null; python -c "import nbformat as n; '
                "[print(len(c.outputs), [str(o.get('data', {}).get('text/plain'))[:400] for o in c.outputs]) for c in n.read('done.ipynb', 4).cells]\"",
                ("40 of 40 (100 %)", "40 stored before"),
            ),
        ),
    ),
    Story(
        13,
        "amounts in yuan",
        (
            Step(f"{CSV}; {ASK} --prompt '{{text}}' --currency CNY=7.1", ("cost ¥",)),
            Step("cottonpalm status --currency CNY=7.1", ("¥",)),
            Step(
                "DASHSCOPE_API_KEY=sk-1 cottonpalm plan reviews.csv --model qwen:qwen-plus --max-tokens 100 --prompt '{text}' --currency CNY=7.1",
                ("cost at most ¥",),
            ),
            Step(
                "ARK_API_KEY=sk-1 cottonpalm plan reviews.csv --model doubao:ep-1 --max-tokens 100 --prompt '{text}'",
                ("no price is known for ep-1", "--price ep-1=IN:OUT"),
            ),
        ),
    ),
    Story(
        15,
        "plugins",
        (
            Step(
                r"printf 'id:1\ttext:hello\n' > in.ltsv; "
                "cottonpalm run in.ltsv -o out.ltsv --model echo:loud --prompt '{text}' --observer lengths; cat out.ltsv",
                ("longest answer", "HELLO"),
            ),
        ),
    ),
    Story(
        16,
        "a system without fcntl",
        (
            Step(
                f"{CSV}; python - <<'END'\nimport sys\nsys.modules['fcntl'] = None\nfrom cottonpalm.cli.app import main\nsys.exit(main(['run', 'reviews.csv', '-o', 'out.csv', '--model', 'openai:gpt-4o-mini', '--prompt', '{{text}}', '-q']))\nEND".replace(
                    "{{text}}", "{text}"
                )
            ),
            Step("cat out.csv; cottonpalm status", ("answer to: Broke", "out")),
        ),
    ),
    Story(
        17,
        "the Python face",
        (
            python(
                "import copy, inspect, pickle\nimport cottonpalm\nfrom cottonpalm import *\nfrom cottonpalm import Report, Plan, open_store, ChunkFinished, BudgetShare, Stats\n"
                "from langchain_openai import ChatOpenAI\np = BatchProcessor(ChatOpenAI(model='gpt-4o-mini'), budget=5)\np.batch(['a', 'b'])\nrun = p.last_run\n"
                "print(repr(p)); print(repr(run)); print(repr(run.outcomes()[0]))\n"
                "print(sorted(n for n in dir(run.stats) if 'pico' in n), run.stats.cost_usd)\n"
                "for broken in (lambda: copy.deepcopy(p), lambda: pickle.dumps(p)):\n    try: broken()\n    except Exception as e: print(type(e).__name__, str(e)[:200])\n"
                "print(inspect.signature(AdaptiveBatchProcessor))\n"
                "p2 = BatchProcessor(ChatOpenAI(model='gpt-4o-mini'))\nrun = p2.start(['never asked'])\nprint(repr(run))",
                ("<BatchProcessor", "2 ok", "[]", "Unpack[Options]"),
            ),
            python(
                "from cottonpalm import BatchProcessor\nfrom langchain_openai import ChatOpenAI\ntry: BatchProcessor(ChatOpenAI(model='m'), max_concurrency=3)\nexcept TypeError as e: print(e)",
                ("concurrency",),
            ),
        ),
    ),
)
