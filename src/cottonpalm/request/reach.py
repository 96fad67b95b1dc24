"""Knows whether any server answers the requests of a run, and if not, why."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from cottonpalm import clock
from cottonpalm.providers.unreachable import why_unreachable

DEAD_S: Final = 60.0  # if no server has ever answered after this time, the address is probably wrong


class Reach:
    """Notes whether a run's requests reach a server. Its methods may be called from any thread.

    Attributes:
        trouble: why the latest request reached no server, and its address; "" if it reached one.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._answered = False
        self._since_s: float | None = None  # the time since which every request has failed
        self._latest_s = 0.0
        self._told: set[str] = set()

    def answered(self) -> None:
        """A server answered, with a good answer or an error."""
        self._answered, self._since_s, self.trouble = True, None, ""

    def failed(self, url: str, error: BaseException | None) -> str | None:
        """No answer came from this address; return the message about it, if it is new."""
        words = why_unreachable(error)
        if words is None:
            self._since_s, self.trouble = None, ""
            return None
        self._latest_s = clock.now()
        if self._since_s is None:
            self._since_s = self._latest_s
        self.trouble = f"{words} at {urlsplit(url).netloc}"
        if self.trouble in self._told:
            return None
        self._told.add(self.trouble)
        return self.trouble

    def dead_s(self) -> float:
        """Return the seconds from the first failure to the latest, in a run that no server ever answered."""
        since_s = self._since_s
        return 0.0 if since_s is None or self._answered else self._latest_s - since_s
