"""What users can name, call and read is written down: a change of it is seen here, and stands in the changelog."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

import cottonpalm
from cottonpalm import BatchProcessor, Budget, ConfigError, CostAwareBatchProcessor, Outcome, SmartRetryBatch
from cottonpalm.presets.options import ChunkedOptions, Options
from cottonpalm.types import ErrorRecord, Kind

FACE = Path(__file__).with_name("public_face.txt")
CHAIN = RunnableLambda(str)


def face() -> str:
    """Each public name with its signature, and those of its methods."""
    lines: list[str] = []
    for name in cottonpalm.__all__:
        thing = getattr(cottonpalm, name)
        if inspect.isfunction(thing) or dataclasses.is_dataclass(thing):
            lines.append(f"{name}{inspect.signature(thing)}")
        elif inspect.isclass(thing):
            lines.append(name)
            if "__init__" in vars(thing) and not issubclass(thing, Exception):
                lines[-1] += str(inspect.signature(thing.__init__))
        else:
            lines.append(name)
        lines += [f"    .{line}" for line in methods(thing)] if inspect.isclass(thing) else []
    return "\n".join(lines) + "\n"


def methods(cls: type[Any]) -> list[str]:
    ours = [each for each in cls.__mro__ if each.__module__.startswith("cottonpalm")]
    names = sorted({name for each in ours for name in vars(each) if not name.startswith("_")})
    found = []
    for name in names:
        thing = inspect.getattr_static(cls, name)
        if inspect.isfunction(thing):
            found.append(f"{name}{inspect.signature(thing)}")
        elif isinstance(thing, property):
            found.append(f"{name}: {inspect.signature(thing.fget).return_annotation}")  # type: ignore[arg-type]
    return found


@pytest.mark.as_shipped
def test_the_public_face_is_the_one_written_down_and_the_changelog_says_what_changes() -> None:
    found = face()
    assert found == FACE.read_text(encoding="utf-8"), (
        "the public face has changed: write it into CHANGELOG.md, then "
        "`python -m tests.unit.test_public_face` writes the new one down"
    )


def test_the_presets_take_the_processors_keywords_of_the_same_types() -> None:
    own = inspect.signature(BatchProcessor).parameters
    wanted = {name: each.annotation for name, each in own.items() if name != "chain"}
    options = {**ChunkedOptions.__annotations__, **Options.__annotations__}
    assert {name: said.__forward_arg__ for name, said in options.items()} == wanted


def test_a_plain_number_is_a_budget_in_all() -> None:
    assert BatchProcessor(CHAIN, budget=5)._settings.budget is not None
    assert (BatchProcessor(CHAIN, budget=5)._settings.budget or Budget(1)).total == Budget(5).total == 5
    with pytest.raises(ConfigError, match="a number of dollars or a Budget"):
        BatchProcessor(CHAIN, budget="5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "given", "said"),
    [
        (
            BatchProcessor,
            {"retires": 3},
            r"BatchProcessor\(\) takes no keyword 'retires'; did you mean 'retry'\?",
        ),
        (BatchProcessor, {"Budget": 3}, r"'Budget'; did you mean 'budget'\?"),
        (BatchProcessor, {"zzzz": 3}, r"'zzzz'; it takes concurrency, rate_limit, "),
        (SmartRetryBatch, {"max_retires": 3}, r"SmartRetryBatch\(\) takes no .*did you mean 'max_retries'\?"),
        (CostAwareBatchProcessor, {"time_out": 3}, r"CostAware.*'time_out'; did you mean 'timeout'\?"),
    ],
)
def test_a_misspelt_keyword_names_the_nearest(cls: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        cls(CHAIN, **given)


@pytest.mark.parametrize("made", [BatchProcessor(CHAIN), SmartRetryBatch(CHAIN)])
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_processor_says_why_it_is_not_copied(made: Any, way: Any) -> None:
    with pytest.raises(TypeError, match="Make another one from the chain"):
        way(getattr(made, "processor", made))


def test_a_processor_and_an_outcome_say_what_they_are_in_one_line() -> None:
    chain = RunnableLambda(str, name="asks") | RunnableLambda(str, name="reads")
    processor = BatchProcessor(chain, store="postgresql://me:secret@host/db", run="night-1", budget=5)
    assert "asks | reads, run 'night-1' in postgresql://me" in repr(processor)
    assert "secret" not in repr(processor)
    good = Outcome(3, "ok", "x" * 500, id="a1", attempts=2, cost_pico=120 * 10**6)
    assert repr(good) == f"<Outcome of row 4 (index 3) (a1): ok, '{'x' * 79}..., 2 attempts, $0.000120>"
    bad = Outcome(4, "failed", error=ErrorRecord(Kind.FAIL_ROW, "BadRequestError", "no"), attempts=1)
    assert repr(bad) == "<Outcome of row 5 (index 4): failed, BadRequestError: no>"


if __name__ == "__main__":
    FACE.write_text(face(), encoding="utf-8")


WITHOUT = """
import sys
for extra in ("uvicorn", "starlette", "prometheus_client", "opentelemetry", "pandas", "polars", "pyarrow", "openpyxl"):
    sys.modules[extra] = None
from cottonpalm import *
try:
    Dashboard("x.db")
except ImportError as error:
    print(error)
"""


def test_every_name_can_be_imported_without_any_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "pip install 'cottonpalm[dashboard]'" in done.stdout


COLLECTIONS = """
import gc
{before}
looked_at = []
gc.callbacks.append(lambda phase, info: looked_at.append(len(gc.get_objects(0))) if phase == "start" else None)
from cottonpalm import BatchProcessor
many = [[] for _ in range(2_000)]
print(max(looked_at), gc.get_freeze_count())
"""


def test_no_collection_looks_at_what_an_import_has_loaded_and_what_a_user_froze_stays_frozen() -> None:
    largest, frozen = _printed(COLLECTIONS.format(before=""))
    assert largest < 5_000
    assert frozen == 0
    assert _printed(COLLECTIONS.format(before="gc.freeze()"))[1] > 0


def _printed(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]
