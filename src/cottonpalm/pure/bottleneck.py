"""What kept a run from being faster, in one or two plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WORTH_SAYING: Final = 0.1  # of the run
BUSY: Final = 0.85  # of one core, from where on our own work is what binds
MEASURABLE_S: Final = 0.5  # a shorter run is mostly its own beginning and end, which tells nothing

_SAID: Final[Mapping[str, str]] = {
    "limit": "The limit on requests in flight ({limit:.0f} at the end) bound {share:.0%} of the run.",
    "cap": "Your own bound of rows at once held {share:.0%} of the run back; a higher one may be faster.",
    "reader": "For {share:.0%} of the run, whoever reads the outcomes was slower than the calls.",
    "source": "For {share:.0%} of the run, the source had no rows ready.",
    "held": "The run was paused by hand for {share:.0%} of its time.",
    "pause": "The provider asked for waits that covered {share:.0%} of the run.",
    "tail": "For {share:.0%} of the run only its last rows were under way.",
}
_CPU: Final = (
    "This process's own CPU was busy for {share:.0%} of the run; more requests in flight would not help."
)


def bound_by(states_s: Mapping[str, float], wall_s: float, cpu_s: float, limit: float) -> tuple[str, ...]:
    """At most two sentences, what took the longest first.

    Args:
        states_s: seconds by what was seen to hold more rows back: "limit", "cap", "reader", "source", "held",
            "pause", "tail"; any other state is nobody's doing.
        wall_s: how long the run took.
        cpu_s: how much CPU time this process used meanwhile.
        limit: requests that may be in flight at the end.
    """
    if wall_s <= 0:
        return ()
    said: list[str] = []
    if wall_s >= MEASURABLE_S and cpu_s / wall_s >= BUSY:
        share = min(1.0, cpu_s / wall_s)
        said.append(
            f"This process's own CPU was busy for {share:.0%} of the run; more requests in flight would not help."
        )
    for state, seconds in sorted(states_s.items(), key=lambda pair: -pair[1]):
        share = min(1.0, seconds / wall_s)
        if state in _SAID and share >= WORTH_SAYING:
            said.append(_SAID[state].format(share=share, limit=limit))
    return tuple(said[:2]) or ("Nothing held the run back for long.",)
