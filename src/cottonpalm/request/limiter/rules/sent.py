"""What a request took with it when it was sent."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

# What requests take, one of them as expected or all that were sent so far: requests, tokens, output tokens.
Use: TypeAlias = tuple[float, float, float]
NOTHING: Final[Use] = (0.0, 0.0, 0.0)


class Stretch(NamedTuple):
    """What requests have in common that were sent one after the other, while nothing was learnt from a failure.

    Attributes:
        generation: causes found before them.
        refusals: rejections that were seen before them.
        cost: of each, of the learnt rate, in usual requests.
        number: of the first, of all that were sent.
        total: cost of all up to the first, itself included.
        asked: of all up to the first, that asked as much as one that was rejected; all others do.
    """

    generation: int
    refusals: int
    cost: float
    number: int
    total: float
    asked: int


class Moment:
    """Requests that were sent at about the same time: what they took together, since when, and until when."""

    __slots__ = ("amount", "at_s", "began_s")

    def __init__(self, began_s: float) -> None:
        self.began_s = self.at_s = began_s
        self.amount = 0.0


class Sent:
    """What is remembered of a request in flight; whoever grants it says the first three, the gates the others.

    Attributes:
        at_s: when it was sent.
        ordinal: in flight then, itself included.
        ask: tokens it was expected to use.
        number: of all that were sent, itself included.
        answers: that had come by then.
        stretch: what it has in common with those before and after it.
        known: whether it was admitted is known.
        use: what it takes of each unit, where anybody counts that...
        sent: ...and what all took that were sent up to then.
        counted: tokens that it counts under the user's own ceiling...
        moment: ...and when, together with others.
        forced: it goes whatever the gates say.
    """

    __slots__ = (
        "answers",
        "ask",
        "at_s",
        "counted",
        "known",
        "moment",
        "number",
        "ordinal",
        "sent",
        "stretch",
        "use",
    )

    at_s: float
    ordinal: int
    ask: float
    number: int
    answers: int
    stretch: Stretch
    known: bool
    use: Use
    sent: Use
    counted: float
    moment: Moment
    forced = False

    @property
    def generation(self) -> int:
        """Causes found before it."""
        return self.stretch.generation

    @property
    def refusals(self) -> int:
        """Rejections that were seen before it."""
        return self.stretch.refusals

    @property
    def cost(self) -> float:
        """Of the learnt rate, in usual requests."""
        return self.stretch.cost

    @property
    def total(self) -> float:
        """Cost of all sent up to then, itself included."""
        stretch = self.stretch
        return stretch.total + stretch.cost * (self.number - stretch.number)

    @property
    def asked(self) -> int:
        """Of them, that asked as much as one that was rejected."""
        stretch = self.stretch
        return stretch.asked + self.number - stretch.number
