"""What runs need to know of a chain and its fallbacks; each is worked out once, when it is first asked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cottonpalm.chain import cache_key, clients, fingerprint, traits
from cottonpalm.chain.questions import names_read, question_by
from cottonpalm.once import once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.runnables import Runnable

    from cottonpalm.settings import Settings

log = logging.getLogger("cottonpalm")


class ChainFacts:
    """One chain with what its settings add to it."""

    def __init__(self, chain: Runnable[Any, Any], settings: Settings) -> None:
        self.chain, self._settings = chain, settings

    @property
    def chains(self) -> list[Runnable[Any, Any]]:
        """The chain and its fallbacks."""
        return [self.chain, *self._settings.fallbacks]

    @once
    def description(self) -> dict[str, Any]:
        """Describe what the answers depend on, part by part, without secrets; or use the user's version string."""
        if self._settings.fingerprint is not None:
            return {"fingerprint": self._settings.fingerprint}
        return fingerprint.together(self._described)

    @once
    def _described(self) -> list[dict[str, Any]]:
        """The chain and its fallbacks, part by part."""
        return [fingerprint.describe(chain) for chain in self.chains]

    @once
    def types(self) -> Mapping[str, type]:
        """The Pydantic classes from which stored outputs are rebuilt."""
        found: dict[str, type] = {}
        for chain in self.chains:
            found.update(traits.output_types(chain, self._settings.output_type))
        return found

    @once
    def question(self) -> Callable[[Any], Any] | None:
        """Return what takes the question out of a row, for the cache; None: the whole row is the question."""
        return question_by(self.names_read)

    @once
    def names_read(self) -> frozenset[str] | None:
        """The names of a row that the chain or a fallback reads; None: they may read the whole row."""
        return names_read(self.chains)

    def functions_send_by(self, client: Any) -> bool:
        """Whether functions of the chain, a fallback or a replica send by this HTTP client."""
        return clients.send_by(self._models_read, client)

    @once
    def _models_read(self) -> Mapping[int, Any]:
        return clients.models_read([*self.chains, *self._settings.replicas])

    @once
    def digest(self) -> bytes:
        """A 16-byte digest of everything besides the row that shapes an answer, for the cache in memory."""
        return cache_key.digest(self.chains, *self._besides, described=self._described)

    @property
    def _besides(self) -> tuple[Any, ...]:
        """Return the settings that shape an answer; a maximum that we send counts if the run accepts cut answers."""
        settings, budget = self._settings, self._settings.budget
        cut = settings.accept_truncated or self.answer_is_a_message
        most = budget.max_output_tokens if budget is not None and cut else None
        return settings.validate, settings.accept_truncated, most

    @once
    def lasting_digest(self) -> bytes | None:
        """A digest that is the same in every process; None, with a warning, if no such digest can be made."""
        settings = self._settings
        try:
            return cache_key.lasting_digest(
                self.chains, settings.fingerprint, *self._besides, described=self._described
            )
        except cache_key.Untold as untold:
            log.warning(
                "answers are not kept in the cache on disk: %s may answer differently in another process, and "
                'nothing tells; give fingerprint="...", your own version string of the chain',
                untold,
            )
            return None

    @once
    def answer_is_a_message(self) -> bool:
        """Whether users see in the answer itself that it was cut."""
        return traits.answer_is_a_message(self.chain)

    @once
    def models_remember(self) -> bool:
        """Whether a model has a cache of LangChain's."""
        return any(traits.remembers(chain) for chain in (*self.chains, *self._settings.replicas))
