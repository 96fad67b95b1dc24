"""Knows whether any server answers the requests of a run, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cottonpalm import clock
from cottonpalm.providers.unreachable import proxy_of, where_unreachable, why_unreachable

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call

_SERVER: Final = "check base_url, and that the server runs"
_PROXY: Final = (
    "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment, or the proxy of the model's own client"
)
DEAD_S: Final = 60.0  # if no server has ever answered after this time, the address is probably wrong


class Reach:
    """Notes whether a run's requests reach a server. Its methods may be called from any thread.

    Attributes:
        trouble: why the latest request reached no server, and its address; "" if it reached one.
        advice: what to look at then.
    """

    def __init__(self) -> None:
        self.trouble, self.advice = "", _SERVER
        self._answered = False
        self._since_s: float | None = None  # the time since which every request has failed
        self._latest_s = 0.0
        self._told: set[str] = set()

    def answered(self) -> None:
        """A server answered, with a good answer or an error."""
        self._answered, self._since_s, self.trouble = True, None, ""

    def failed(self, call: Call, error: BaseException | None) -> str | None:
        """No answer came to this call; return the message about it, if it is new."""
        words = why_unreachable(error)
        if words is None:
            self._since_s, self.trouble = None, ""
            return None
        self._latest_s = clock.now()
        if self._since_s is None:
            self._since_s = self._latest_s
        proxy = None if call.request is None else proxy_of(call.client, call.request.url)
        self.trouble = where_unreachable(words, urlsplit(call.url).netloc, proxy)
        self.advice = _SERVER if proxy is None else _PROXY
        if self.trouble in self._told:
            return None
        self._told.add(self.trouble)
        return self.trouble

    def dead_s(self) -> float:
        """Return the seconds from the first failure to the latest, in a run that no server ever answered."""
        since_s = self._since_s
        return 0.0 if since_s is None or self._answered else self._latest_s - since_s
