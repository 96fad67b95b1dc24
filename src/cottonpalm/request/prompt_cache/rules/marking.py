"""Decides up to which places a request asks to be cached: where earlier prompts were the same. No clock, no I/O."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cottonpalm.providers.prompt_cache.marks import Place, can_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.providers.prompt_cache.order import Block, Path
    from cottonpalm.providers.prompt_cache.terms import Asked

KEPT: Final = 4_096  # ends of parts that are remembered
LEARNT: Final = 8  # after so many prompts, a part that was mostly seen before is marked when it is new, too
_APART: Final = 1_024  # bytes that two marks are apart at least
_SHORT: Final = 16  # bytes of a part that is not marked: an empty text must not be
_ROLE: Final = re.compile(rb"(?:user|system|developer|assistant):")


class Marking:
    """Where the prompts of one key are to be marked.

    Args:
        asked: in whose way.
        least: the fewest bytes that can be cached.
    """

    def __init__(self, asked: Asked, least: int) -> None:
        self._asked: Asked = asked
        self._least = least
        self._known: OrderedDict[int, None] = OrderedDict()
        self._at: dict[Path, list[int]] = {}  # for each part: prompts that had it, and how often it was known

    def places(self, blocks: Sequence[Block], prompt: bytes, shared: int) -> list[tuple[Place, int]]:
        """Return where this prompt is to be marked, each with the bytes up to there.

        Args:
            blocks: the parts of the prompt.
            prompt: the same as bytes.
            shared: what all prompts so far have in common; 0 for the first.
        """
        found: list[tuple[Place, int]] = []
        digest = hashed = 0
        end = -1
        for block in blocks:
            end += len(block.text) + 1
            digest, hashed = hash((digest, prompt[hashed:end])), end
            if end < self._least or len(block.text) < _SHORT or not can_mark(self._asked, block):
                continue
            if end - len(block.text) < shared < end:
                found += self._inside(block, end - len(block.text), shared, found)
            if self._seen(block.path, digest):
                found.append((Place(block.path), end))
        return _the_best(found, shared)

    def _seen(self, path: Path, digest: int) -> bool:
        known = digest in self._known
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        prompts = self._at.setdefault(path, [0, 0]) if len(self._at) < KEPT else [0, 0]
        mostly = prompts[0] >= LEARNT and 2 * prompts[1] >= prompts[0]
        prompts[0] += 1
        prompts[1] += known
        return known or mostly

    def _inside(
        self, block: Block, begin: int, shared: int, found: Sequence[tuple[Place, int]]
    ) -> list[tuple[Place, int]]:
        """A place within a text, after the last line or word that all prompts have."""
        cut = _cut(block, shared - begin)
        before = found[-1][1] if found else 0
        if cut is None or begin + cut[1] < self._least or begin + cut[1] - before < _APART:
            return []
        return [(Place(block.path, cut[0]), begin + cut[1])]


def _cut(block: Block, size: int) -> tuple[int, int] | None:
    """Return how many characters of the text to keep before a cut, and how many bytes of the part those are.

    None: it has no break there, or is no text of a message. A message's first part begins with its role.
    """
    text = block.text[:size]
    at = max(text.rfind(b"\n"), 0) or text.rfind(b" ")
    first = block.path[-1] in ("content", 0)
    role = _ROLE.match(text)
    if at <= 0 or block.path[0] == "tools" or (first and block.path[0] != "system" and role is None):
        return None
    head = role.end() if role is not None and first and block.path[0] != "system" else 0
    return len(text[head : at + 1].decode("utf-8", "ignore")), at + 1


def _the_best(found: list[tuple[Place, int]], shared: int) -> list[tuple[Place, int]]:
    """The longest prefix, and the longest of those that all prompts have."""
    if not found:
        return []
    ordered = sorted(found, key=lambda each: each[1])
    of_all = [each for each in ordered if each[1] <= shared]
    best = ordered[-1]
    return [of_all[-1], best] if of_all and best[1] - of_all[-1][1] >= _APART else [best]
