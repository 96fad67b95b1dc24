"""What each part and constant of the limiter is worth: `python -m bench.admission.ablation 70000 70059`, from the root.

With `--parts` each part is left out, one at a time; without, every constant is halved and doubled. On the same drawn
worlds. A line says by how much the mean score
and the mean of what was rejected per accepted change, and the standard error of the first. A change that is within two
errors is none that these worlds can show.
"""

from __future__ import annotations

import argparse
import importlib
import math
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from bench.admission.drawn import Seen, features_of, one
from bench.admission.family import draw
from bench.admission.virtual import ideal

from cottonpalm.request.limiter import rules
from cottonpalm.request.limiter.rules import admission, bucket, causes, concurrency, gates, shown, under_way
from cottonpalm.request.limiter.rules.admission import Admission
from cottonpalm.request.limiter.rules.bucket import Bucket
from cottonpalm.request.limiter.rules.causes import Doubt
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.gates import Gates
from cottonpalm.request.limiter.rules.knee import Knee
from cottonpalm.request.limiter.rules.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from bench.admission.family import World

APART: Final = (
    "binding",
    "came_through",
    "circuit",
    "ceilings",
    "division",
    "headroom",
    "reasons",
    "__init__",
)  # no part of what is learnt
# No choice was made: what is as good as none, how many are worked in together, a root, what follows from others or
# from a distribution.
GIVEN: Final = ("LEAST", "LEAST_S", "MANY", "NOTHING", "QUICKEST", "ROOT_2", "TINY_S", "TOLD", "_FAR")
Value: TypeAlias = float | tuple[float, ...]


def modules() -> list[ModuleType]:
    """Of the rules, those that learn."""
    folder = Path(rules.__file__ or "").parent
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in APART)
    return [importlib.import_module(f"{rules.__name__}.{name}") for name in names]


def constants() -> dict[str, Value]:
    """Every number that was chosen and has a name, and every range, by `module.NAME`: where it was defined."""
    found: dict[str, Value] = {}
    for module in modules():
        source = Path(module.__file__ or "").read_text()
        for name, value in vars(module).items():
            chosen = name.isupper() and name not in GIVEN and f"\n{name}: Final" in source
            if chosen and _is_number(value):
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = value
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(each, float) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def times(value: Value, factor: float) -> Value:
    """So many times as much, in whole numbers where it was one."""
    if isinstance(value, tuple):
        return tuple(each * factor for each in value)
    return type(value)(value * factor)


def changed(name: str, value: Value) -> Iterator[None]:
    """With another value in all modules that took it over."""
    home, _, constant = name.partition(".")
    was = next(vars(module)[constant] for module in modules() if module.__name__.endswith(f".{home}"))
    holders = [module for module in modules() if vars(module).get(constant) is was]
    for module in holders:
        setattr(module, constant, value)
    yield
    for module in holders:
        setattr(module, constant, was)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _never(*_: Any, **__: Any) -> bool:
    return False


def _until_answered(gates: Gates) -> float:
    return math.inf if gates.recovery.dead else gates.refusals.patience_s


# The part, and what stands in for it: (where, its name, what it is instead).
PARTS: Final[dict[str, tuple[tuple[Any, str, Any], ...]]] = {
    "the learnt rate": ((Bucket, "empty", _nothing), (Bucket, "learn", _nothing)),
    "tests of more than the learnt rate": ((causes, "HOLD", 10**9), (bucket, "HOLD", 10**9)),
    "a wall in flight": ((Concurrency, "rejected", _nothing), (Concurrency, "fewer", _nothing)),
    "tests of more in flight": ((concurrency, "HOLD", 10**9),),
    "quotas that are shown": (
        (Quotas, "wait_s", lambda *_: (0.0, None)),
        (Quotas, "empty", _never),
    ),
    "only headers that predict are believed": ((shown, "APART", 2.0),),
    "a server that slows down": ((Knee, "late", _never),),
    "two numbers in turn on a full server": ((Knee, "_around", _nothing),),
    "likelihood of chance": ((Doubt, "surprising", lambda *_, **__: True),),
    "tokens weighed": ((admission, "SURE", 1e-9), (gates, "SURE", 1e9), (under_way, "SURE", 1e9)),
    "a probe that only has to outlive failures": ((Gates, "_surely_s", property(_until_answered)),),
    "the ramp after a silence": ((Gates, "_ramp_s", lambda _self, _now, wait_s: wait_s),),
    "connections that break count": ((Admission, "_dropped", _nothing),),
    "growth before the first answer": ((gates, "SOON", -1.0),),
    "who is answered late asks whether it is full": ((Concurrency, "_thin_out", _nothing),),
    "a start as quick as the run is short": ((Concurrency, "expects", _nothing),),
}


def without(part: str) -> Iterator[None]:
    """With that part left out."""
    was = [(where, name, getattr(where, name)) for where, name, _ in PARTS[part]]
    for where, name, instead in PARTS[part]:
        setattr(where, name, instead)
    yield
    for where, name, before in was:
        setattr(where, name, before)


def scores(worlds: Sequence[tuple[World, float]]) -> list[Seen]:
    return [one("ours", world, ideal_s) for world, ideal_s in worlds]


def has(world: World, ideal_s: float, feature: str | None) -> bool:
    """Whether the world is asked for: a part that few need shows in those what it is worth."""
    return feature is None or feature in features_of(world, ideal_s)


def line(name: str, before: Sequence[Seen], after: Sequence[Seen]) -> str:
    """How the mean has changed, pair by pair."""
    apart = [b.score - a.score for a, b in zip(before, after, strict=True)]
    error = math.sqrt(sum((each - mean(apart)) ** 2 for each in apart) / max(1, len(apart) - 1) / len(apart))
    rejected = mean(b.rejected for b in after) - mean(a.rejected for a in before)
    return f"{name:40s} {mean(apart):+.4f} ± {error:.4f}  rejected {rejected:+.2%}"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.ablation", description=__doc__)
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    options.add_argument(
        "--only", action="append", help="this part, module.NAME or module.NAME=VALUE; may be repeated"
    )
    options.add_argument("--most-rows", type=int, default=4_000, help="cut longer runs short")
    options.add_argument("--parts", action="store_true", help="leave out each part instead")
    options.add_argument("--having", help="only worlds with this feature, such as knee or 'says old'")
    given = options.parse_args()
    drawn = [draw(seed, most_rows=given.most_rows) for seed in range(given.first, given.last + 1)]
    worlds = [pair for pair in ((world, ideal(world).wall_s) for world in drawn) if has(*pair, given.having)]
    known, before = constants(), scores(worlds)
    as_it_is = mean(seen.score for seen in before)
    print(f"{len(known)} constants; {len(worlds)} worlds; as it is: {as_it_is:.4f}", flush=True)
    for part in (given.only or PARTS) if given.parts else ():
        for _ in without(part):
            print(line(part, before, scores(worlds)), flush=True)
    for wanted in () if given.parts else given.only or known:
        name, _, value = wanted.partition("=")
        for new in (
            [type(known[name])(float(value))] if value else [times(known[name], 0.5), times(known[name], 2)]
        ):
            for _ in changed(name, new):
                print(line(f"{name} {known[name]} -> {new}", before, scores(worlds)), flush=True)


if __name__ == "__main__":
    main()
