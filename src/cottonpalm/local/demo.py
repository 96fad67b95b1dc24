"""The parts of `cottonpalm demo`: real sentences, the question, the embedded model, and an honest count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.local import reviews
from cottonpalm.local.server import SLOTS, model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_openai import ChatOpenAI

    from cottonpalm.local.reviews import Review
    from cottonpalm.types import Outcome

# We chose it from eleven wordings, on 150 sentences that the demo does not use.
SYSTEM: Final = "Classify the sentiment of this sentence from a product review as positive or negative."
PROMPT: Final = "Sentence: {text}\nSentiment:"
GRAMMAR: Final = "root ::= " + " | ".join(f'"{label}"' for label in reviews.LABELS)
MAX_TOKENS: Final = 16  # the longer label takes six tokens
NOTICE: Final = (
    "The model is SmolLM2-135M-Instruct (Apache-2.0). The sentences come with vaderSentiment 2.5 (MIT); they are "
    "customer reviews from its authors' research data (Hutto & Gilbert 2014, after Hu & Liu 2004)."
)


@dataclass(frozen=True, slots=True)
class Score:
    """How many of `total` labels are right; a row that failed counts as wrong.

    Attributes:
        right: sentences labelled as people rated them.
        total: sentences tried.
        majority: the label most of these sentences have.
        baseline: how many would be right if every sentence got that label.
    """

    right: int
    total: int
    majority: str
    baseline: int

    def __str__(self) -> str:
        if not self.total:
            return "no sentence was labelled"
        return (
            f"{self.right} of {self.total} labels agree with the human ratings; "
            f"saying {self.majority!r} to all would get {self.baseline}"
        )


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything a labelling run needs. `prompt` holds `{text}` of a row; `concurrency` is what the engine serves."""

    rows: list[Review]
    system: str
    prompt: str
    model: ChatOpenAI
    notice: str
    concurrency: int = SLOTS

    def score(self, outcomes: Iterable[Outcome]) -> Score:
        """Compare the outcomes of these rows, in any order, with the ratings of people."""
        seen = [(self.rows[outcome.index]["label"], _text(outcome)) for outcome in outcomes]
        truths = Counter(truth for truth, _ in seen)
        majority, baseline = truths.most_common(1)[0] if truths else ("positive", 0)
        return Score(sum(truth == said for truth, said in seen), len(seen), majority, baseline)


def _text(outcome: Outcome) -> str | None:
    if outcome.status != "ok":
        return None
    output: Any = outcome.output
    return str(getattr(output, "content", output)).strip()


def demo_parts(n: int, *, quiet: bool = False) -> Demo:
    """Fetch what is missing, start the engine, and return the parts.

    Args:
        n: how many sentences.
        quiet: say nothing while fetching.

    Raises:
        LocalModelError: something cannot be fetched or started; one line that says what to do.
    """
    chat = model(quiet=quiet, grammar=GRAMMAR, max_tokens=MAX_TOKENS)
    return Demo(reviews.rows(n, quiet=quiet), SYSTEM, PROMPT, chat, NOTICE)
