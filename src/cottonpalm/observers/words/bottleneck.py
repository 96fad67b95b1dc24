"""What kept a run from being faster, in one or two plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.words.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Bottleneck

WORTH_SAYING: Final = 0.1  # of the run
BUSY: Final = 0.85  # of one core, from where on our own work is what binds
ALL: Final = 0.995  # of the run: 100 % in words
OWN_S: Final = 0.1  # what opening a run and ending it may take
MEASURABLE_S: Final = 0.5  # a shorter run is mostly its own beginning and end, which tells nothing

NO_REASONS: Final[Mapping[Bottleneck, str]] = {}
_SAID: Final[Mapping[Bottleneck, str]] = {
    "concurrency": "The limit on requests in flight ({limit:.0f} at the end) bound {share} of the run.",
    "maximum": "The most requests in flight that your settings allow bound {share} of the run; more may be faster.",
    "requests": "The provider's quota of requests bound {share} of the run.",
    "tokens": "The provider's quota of tokens bound {share} of the run.",
    "pace": "The rate at which requests could be sent bound {share} of the run.",
    "own requests": "Your own ceiling of requests per minute bound {share} of the run.",
    "own tokens": "Your own ceiling of tokens per minute bound {share} of the run.",
    "probe": "For {share} of the run the provider had rejected requests.",
    "pause": "Waits after rejections covered {share} of the run.",
    "down": "The provider did not work for {share} of the run.",
    "budget": "For {share} of the run requests waited for money.",
    "cpu": "For {share} of the run this process's own CPU was busy; more requests in flight would not help.",
    "reader": "For {share} of the run, whoever reads the outcomes was slower than the calls.",
    "store": "For {share} of the run, writing outcomes to the store was slower than the calls.",
    "source": "For {share} of the run, the source had no rows ready.",
    "cap": "Your own limit on rows at once bound {share} of the run; a higher one may be faster.",
    "held": "The run was paused by hand for {share} of its time.",
    "batch": "For {share} of the run rows waited for batches.",
    "tail": "For {share} of the run only its last rows were under way.",
}
# Where no request was seen, it is no provider's limit.
_UNSEEN: Final[Mapping[Bottleneck, str]] = {
    "concurrency": "The limit on calls at once ({limit:.0f} at the end) bound {share} of the run; no request was seen.",
    "pace": "The rate at which calls could begin bound {share} of the run, as no request was seen; answers raise it.",
}


def bound_by(
    states_s: Mapping[Bottleneck, float],
    wall_s: float,
    cpu_s: float,
    limit: float,
    whys: Mapping[Bottleneck, str] = NO_REASONS,
    *,
    seen: bool = True,
) -> tuple[str, ...]:
    """At most two sentences, what took the longest first.

    Args:
        states_s: seconds by what was seen to bind.
        wall_s: how long the run took.
        cpu_s: how much CPU time this process used meanwhile.
        limit: requests that may be in flight at the end.
        whys: why that was believed, at last, where it is a limit of a provider or of the user.
        seen: requests were, whose limit it could be.
    """
    if wall_s <= 0:
        return ()
    shares = {state: min(1.0, seconds / wall_s) for state, seconds in states_s.items()}
    if wall_s >= MEASURABLE_S and cpu_s / wall_s >= BUSY:
        shares["cpu"] = min(1.0, cpu_s / wall_s)  # also where it only ever did for moments
    said: list[str] = []
    for state, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        if state and share >= WORTH_SAYING:
            words = _SAID[state] if seen else _UNSEEN.get(state, _SAID[state])
            sentence = words.format(share=percent(share), limit=limit)
            if state == "tail" and (share >= ALL or _tail_alone(states_s, wall_s)):
                sentence = "All its rows were under way from the start."
            why = whys.get(state)
            said.append(f"{sentence.removesuffix('.')} ({why})." if why else sentence)
    return tuple(said[:2]) or ("Nothing held the run back for long.",)


def _tail_alone(states_s: Mapping[Bottleneck, float], wall_s: float) -> bool:
    """Whether nothing but the last rows was ever waited for, as in a run of a few rows that start together."""
    seen = {state for state, seconds in states_s.items() if state and seconds > 0}
    return seen == {"tail"} and wall_s - states_s["tail"] <= OWN_S
