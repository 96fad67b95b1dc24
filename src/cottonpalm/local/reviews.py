"""Sentences from product reviews with ratings by people: real rows with known labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypedDict

from cottonpalm.errors import ConfigError
from cottonpalm.local import fetch

if TYPE_CHECKING:
    from pathlib import Path

CLEAR: Final = 1.5  # from this rating (of 4) on people agree; weaker ones tell little about a model
LABELS: Final = ("positive", "negative")


class Review(TypedDict):
    """One sentence. `rating` is the mean of at least 20 people's, from -4 to 4; `label` is its sign."""

    id: str
    text: str
    rating: float
    label: Literal["positive", "negative"]


def rows(n: int = 100, *, quiet: bool = False) -> list[Review]:
    """The same `n` clearly rated sentences every time, spread evenly over the set.

    Raises:
        ConfigError: the set does not hold so many.
        LocalModelError: the sentences cannot be fetched.
    """
    clear = [
        review for review in read(fetch.ensure(fetch.REVIEWS, quiet=quiet)) if abs(review["rating"]) >= CLEAR
    ]
    if not 1 <= n <= len(clear):
        raise ConfigError(f"the demo has 1 to {len(clear)} sentences, not {n}")
    return [clear[k * len(clear) // n] for k in range(n)]


def read(path: Path) -> list[Review]:
    """All sentences of the file: id, rating and text, split by tabs."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_review(*line.split("\t", 2)) for line in lines if line]


def _review(name: str, rating: str, text: str) -> Review:
    number = float(rating)
    return {"id": name, "text": text, "rating": number, "label": "positive" if number > 0 else "negative"}
