"""What a request may use of tokens."""

from __future__ import annotations

from typing import NamedTuple


class Tokens(NamedTuple):
    """What a request may use: told when it gets its permit, since answers teach what they have meanwhile.

    Attributes:
        input_tokens: of its body.
        most_output: that its answer may have; None where nothing bounds it.
    """

    input_tokens: int
    most_output: int | None = None
