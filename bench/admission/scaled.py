"""The scenarios at a scale for real HTTP on two cores. The simulator and the server over HTTP are given the same ones.

At most a hundred requests are let through in a second, so that our own CPU does not bind. The lengths are such that
the simulator's own seeds come to within a few points of each other: what reacts to a limit that moves counts calls,
so the smaller the limit, the more round trips it takes.
"""

from __future__ import annotations

from typing import Final

from bench.admission import scenarios
from bench.admission.scale import WHOLE, Scale

_TENTH: Final = Scale(faster=10, smaller=8)  # a minute takes six seconds
_FEWER: Final = Scale(faster=10, smaller=10)
_SHARED: Final = Scale(faster=5, smaller=7)
_CAP: Final = Scale(faster=10, smaller=5)
_HALF: Final = Scale(faster=2, smaller=2)
_TENFOLD: Final = Scale(faster=10)

SCALES: Final[dict[str, tuple[Scale, float]]] = {  # and for how many seconds
    "cap-200": (_CAP, 30),
    "cap-500": (WHOLE, 60),
    "cap-20-slow": (_TENFOLD, 40),
    "cap-equal": (WHOLE, 60),
    "cap-alike": (WHOLE, 60),
    "cap-tiny": (WHOLE, 30),
    "cap-steps": (Scale(faster=4, smaller=3), 150),
    "cap-shared": (Scale(faster=4, smaller=2), 60),
    "cap-shared-fast": (Scale(faster=3, smaller=1.5), 60),
    "rpm-headers": (_TENTH, 30),
    "rpm-retry-after": (_TENTH, 30),
    "rpm-nothing": (_TENTH, 30),
    "rpm-small-burst": (_HALF, 45),
    "rpm-charged": (_HALF, 40),
    "rpm-shared-headers": (_SHARED, 40),
    "rpm-shared-nothing": (_SHARED, 60),
    "rpm-steps-headers": (_FEWER, 60),
    "rpm-steps-nothing": (_FEWER, 60),
    "tpm-headers": (_TENTH, 30),
    "tpm-retry-after": (_TENTH, 30),
    "tpm-nothing": (_TENTH, 30),
    "window-headers": (_TENTH, 30),
    "window-retry-after": (_TENTH, 30),
    "window-nothing": (_TENTH, 30),
    "knee-flat": (Scale(faster=10, smaller=2), 30),
    "knee-thrash": (Scale(faster=5), 100),
    "knee-drift": (Scale(faster=10, smaller=2), 90),
    "kv-queue": (Scale(faster=10, smaller=3), 30),
    "kv-reject": (Scale(faster=4), 60),
    "errors-500": (_CAP, 36),
    "overload-503": (_CAP, 45),
    "mixed-headers": (_TENTH, 60),
    "mixed-nothing": (_TENTH, 30),
    "mixed-hard": (Scale(faster=6, smaller=5), 90),
    "random-429-1": (_CAP, 45),
    "random-429-3": (_CAP, 45),
    "random-429-headers": (_TENTH, 30),
    "random-429-rpm": (_TENTH, 30),
}
SCALED: Final = tuple(scenario.scaled(*SCALES[scenario.name]) for scenario in scenarios.ALL)
BY_NAME: Final = {scenario.name: scenario for scenario in SCALED}
