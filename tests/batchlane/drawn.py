"""What a drawn case of the batch lane has on: chain, provider, bounds, and how its lives are left; see `combined`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnableParallel

from cottonpalm import BatchLane, BatchProcessor, Budget, Cache, RetryPolicy
from tests.batchlane import kit
from tests.batchlane.chains import PROMPT, City, two_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Chain = Any
POLICY: Final = RetryPolicy(retries=6, base_s=0.001, cap_s=0.02)
MODELS: Final[dict[str, Any]] = {
    "openai": kit.openai,
    "anthropic": kit.anthropic,
    "gemini": kit.gemini,
    "mistral": kit.mistral,
}


def one_step(model: Any) -> Chain:
    return PROMPT | model() | StrOutputParser()


def three(model: Any, other: Any) -> Chain:
    return PROMPT | RunnableParallel(one=model(), two=model(temperature=0.5), three=other())


def branches(model: Any, _other: Any) -> Chain:
    """A branch of two steps beside one of one."""
    return RunnableParallel(long=two_steps(model()), short=one_step(model) | str.upper)


def on_threads(model: Any, _other: Any) -> Chain:
    return RunnableLambda(one_step(model).invoke)


def equal_questions(model: Any, _other: Any) -> Chain:
    ask = one_step(model)
    then = PROMPT | model()
    return RunnableParallel(
        left=ask | (lambda said: {"text": f"left of {said}"}) | then,
        right=ask | (lambda said: {"text": f"right of {said}"}) | then,
    )


FORMS: Final[dict[str, Callable[[Any, Any], Chain]]] = {  # of a model, and one of another name or provider
    "parser": lambda model, _: one_step(model),
    "message": lambda model, _: PROMPT | model(),
    "pydantic": lambda model, _: PROMPT | model().with_structured_output(City),
    "two steps": lambda model, _: two_steps(model()),
    "three": three,
    "branches": branches,
    "threads": on_threads,
    "equal questions": equal_questions,
    "falls back": lambda model, other: PROMPT | model().with_fallbacks([other()]) | StrOutputParser(),
    "tries again": lambda model, _: (
        PROMPT | model().with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    ),
}
ENDINGS: Final = (
    *("kill", "stop", "leave", "detach", "cancel", "money") * 2,
    *("live", "deadline"),
)


@dataclass(frozen=True)
class Drawn:
    """What is on in a case. `endings`: how each life but the last is left."""

    seed: int
    provider: str
    other: str
    form: str
    rows: int
    distinct: int
    lane_rows: int | None
    queued_tokens: int | None
    concurrency: int | str
    priority: bool
    cache: str
    budget: str
    runs: int
    mode: str
    deadline: float | None
    endings: tuple[str, ...]
    calm: bool

    def __str__(self) -> str:
        return ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))


def drawn(seed: int) -> Drawn:
    """What this seed has on."""
    rng = Random(seed)
    count = rng.randint(1, 40)
    cache = rng.choice(("none", "none", "memory", "disk"))
    budget = rng.choice(("none", "large", "small"))
    deadline = rng.choice((None, None, None, None, 3.0, 8.0))
    provider, other = rng.choice(sorted(MODELS)), rng.choice(sorted(MODELS))
    return Drawn(
        seed=seed,
        provider=provider,
        other=other,
        form=rng.choice(sorted(FORMS)),
        rows=count,
        distinct=count if cache == "none" else rng.randint(max(1, count // 2), count),
        lane_rows=rng.choice((None, None, 1, 5, 9, 50)) if count < 15 else rng.choice((None, 5, 9, 50)),
        queued_tokens=rng.choice((None, None, None, 120)),
        concurrency=rng.choice(("auto", "auto", 1, 3, 20)),
        priority=rng.random() < 0.3,
        cache=cache,
        budget=budget,
        runs=rng.choice((1, 1, 1, 2)),
        mode="auto" if deadline else rng.choice(("batch", "batch", "auto")),
        deadline=deadline,
        endings=tuple(rng.choice(ENDINGS) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
        calm=rng.random() < 0.15,
    )


def chain_of(told: Drawn, server: Any) -> Chain:
    """Its chain at a provider."""

    def made(name: str, which: str) -> Callable[..., Any]:
        model = f"{'claude' if name == 'anthropic' else 'gpt' if name == 'openai' else name}-{which}"
        return lambda **more: MODELS[name](server, model, max_tokens=60, **more)

    return FORMS[told.form](made(told.provider, "test"), made(told.other, "other"))


def rows_of(told: Drawn) -> list[dict[str, str]]:
    rng = Random(told.seed + 1)
    numbers = [
        *range(told.distinct),
        *(rng.randrange(told.distinct) for _ in range(told.rows - told.distinct)),
    ]
    rng.shuffle(numbers)
    return [{"text": f"row {number}"} for number in numbers]


def options_of(told: Drawn, folder: Path, ending: str, hosts: dict[str, str], total: float) -> dict[str, Any]:
    """How a processor of one life is made; `total` in dollars, inf: no budget."""
    deadline = told.deadline
    mode = told.mode
    if ending == "deadline":
        mode, deadline = "auto", 3.0
    if ending in ("live", "detach", "cancel"):
        mode, deadline = "live" if ending == "live" else "batch", None
    cache: dict[str, Any] = {}
    if told.cache != "none":
        cache = {"cache": Cache(path=folder / "c.db") if told.cache == "disk" else Cache()}
    return {
        "mode": mode,
        "deadline": deadline,
        "detach": ending == "detach",
        "store": folder / "s.db",
        "prices": kit.PRICES,
        "lane": BatchLane(
            hosts=hosts,
            rows=told.lane_rows,
            queued_tokens=told.queued_tokens,
            poll_s=0.01,
            listing_wait_s=0.4,
            quiet_s=0.1,
            cancel_s=0.3,
            cancel=ending == "cancel",
        ),
        "concurrency": told.concurrency,
        "priority": (lambda row: int(row["text"].split()[1])) if told.priority else None,
        "budget": None if total == float("inf") else Budget(total),
        "retry": POLICY,
        "max_failures": 1.0,
        "hedge": False,
        "timeout": 20,
        **cache,
    }


def program(told: Drawn, folder: Path, addresses: dict[str, Any], total: float) -> None:
    """A program that is to be killed."""
    server: Any = SimpleNamespace(**addresses)
    threads = [
        threading.Thread(
            target=processor_of(told, folder, server, "kill", total, name).batch,
            args=(rows_of(told),),
            kwargs={"return_exceptions": True},
        )
        for name in names(told)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def names(told: Drawn) -> list[str]:
    return ["one", "two"][: told.runs]


def processor_of(
    told: Drawn, folder: Path, server: Any, ending: str, total: float, name: str, **more: Any
) -> BatchProcessor:
    options = options_of(told, folder, ending, server.hosts, total) | more
    return BatchProcessor(chain_of(told, server), run=name, **options)
