"""What a drawn run of `lives` has on, and what each of its lives has: another one may come with other settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Any, Final

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm import AdaptiveConcurrency
from tests.engine.combined import FORMS, MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE: Final = (
    *("batch", "abatch", "completed", "acompleted", "start", "astart", "events", "pieces", "table"),
    "command",
)
LEFT: Final = ("start", "astart", "events", "pieces", "completed")
ENDINGS: Final = ("left", "stop", "abort", "money", "failures", "kill")
WRONG: Final = "WRONG"


class Said(BaseModel):
    """A structured answer."""

    text: str
    length: int


def said(text: str) -> dict[str, Any]:
    """What the model says to an ask for such an answer."""
    return {"text": text, "length": len(text)}


def structured(model: Any, method: str) -> Any:
    return ChatPromptTemplate.from_template("{x}") | model.with_structured_output(Said, method=method)


# A form: how the chain is made of a model, and what it gives for a row if the model says `said(text)` to `text`.
ALL: Final[dict[str, tuple[Callable[[Any], Any], Callable[[str, Callable[[str], str]], Any]]]] = {
    **FORMS,
    "schema": (lambda model: structured(model, "json_schema"), lambda row, to: Said(**said(to(row)))),
    "tool": (lambda model: structured(model, "function_calling"), lambda row, to: Said(**said(to(row)))),
}
TWICE: Final = frozenset({"two steps", "parallel"})  # forms that ask twice for a row


def holds(output: Any) -> None:
    """The `validate` of all runs."""
    if WRONG in str(output):
        raise ValueError(f"this is wrong: {output}")


def model_at(url: str, **more: Any) -> Any:
    """The key comes from the environment, where other processes find it too."""
    return ChatOpenAI(base_url=url, model=MODEL, max_tokens=60, stream_usage=True, **more)


@dataclass(frozen=True)
class Life:
    """What is on in one life. `ending`: how it is left, after so many outcomes or requests; "": by itself."""

    reading: str
    source: str
    transport: str
    concurrency: int | str | AdaptiveConcurrency
    chunk_size: int | None
    priority: str
    cache: str
    budget: bool
    hedge: bool
    replica: bool
    processes: bool
    rate_limit: bool
    item_timeout: float | None
    touched: bool
    ending: str
    after: int


@dataclass(frozen=True)
class Told:
    """A drawn run."""

    seed: int
    form: str
    rows: int
    distinct: int
    store: str  # "", "sqlite", "postgres"
    fallback: bool
    hanging: bool
    healed: bool  # at the end all troubles are over, and failed rows are done again
    lives: tuple[Life, ...]

    def __str__(self) -> str:
        lives = "".join(f"\n  {number}: {shown(life)}" for number, life in enumerate(self.lives, 1))
        return shown(self, without="lives") + lives


def shown(of: Any, without: str = "") -> str:
    return ", ".join(f"{one.name}={getattr(of, one.name)!r}" for one in fields(of) if one.name != without)


def drawn(seed: int, *, heavy: bool = True, postgres: bool = True) -> Told:
    """What this seed has on; without `heavy`, no life has processes, is a command or is killed."""
    rng = Random(seed)
    rows = rng.choice((rng.randint(1, 8), rng.randint(1, 90)))
    store = rng.choice(("", "sqlite", "sqlite", "postgres" if postgres else "sqlite"))
    count = rng.choice((0, 1, 1, 2, 3)) if store else 0
    fallback, form = rng.random() < 0.5, rng.choice(sorted(ALL))
    # The command's fallbacks are models, no chains, and it has no `validate`: of a text it would not see what is wrong.
    commands = heavy and bool(store) and not fallback and form not in {"text", "branch"}
    return Told(
        seed=seed,
        form=form,
        rows=rows,
        distinct=rng.randint(max(1, rows // 2), rows),
        store=store,
        fallback=fallback,
        hanging=rng.random() < 0.1,
        healed=bool(store) and rng.random() < 0.4,
        lives=tuple(
            life(rng, rows, heavy=heavy, commands=commands, ending=number < count)
            for number in range(count + 1)
        ),
    )


def life(rng: Random, rows: int, *, heavy: bool, commands: bool, ending: bool) -> Life:
    how = rng.choice(ENDINGS if heavy else ENDINGS[:-1]) if ending else ""
    readings = LEFT if how in {"left", "stop", "abort"} else WHOLE
    if not commands or how:
        readings = tuple(one for one in readings if one != "command")
    reading = "start" if how == "kill" else rng.choice(readings)
    return Life(
        reading=reading,
        source=rng.choice(("list", "list", "generator", "async generator", "frame")),
        transport=rng.choice(("fast", "stock")),
        concurrency=rng.choice(("auto", "auto", 1, 3, 17, AdaptiveConcurrency(maximum=8))),
        chunk_size=rng.choice((None, None, 1, 7, 50)),
        priority=rng.choice(("none", "ranked", "equal")),
        cache=rng.choice(("none", "none", "memory", "disk")),
        budget=rng.random() < 0.6,
        hedge=rng.random() < 0.3,
        replica=rng.random() < 0.3,
        processes=heavy and rng.random() < 0.07 and reading not in {"pieces", "command"} and how != "kill",
        rate_limit=rng.random() < 0.15,
        item_timeout=rng.choice((None, None, 60.0)),
        touched=rng.random() < 0.3,
        ending=how,
        after=rng.randint(0, rows),
    )
