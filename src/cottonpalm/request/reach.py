"""Knows whether any server answers the requests of a run, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cottonpalm import clock
from cottonpalm.providers.unreachable import REFUSED, proxy_of, where_unreachable, why_unreachable

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call
    from cottonpalm.types import Unreached

_ADVICE: Final = "check base_url, and that the server runs"
_OF_A_PROXY: Final = (
    "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment, or the proxy of the model's own client"
)
DEAD_S: Final = 60.0  # if no server has ever answered after this time, the address is probably wrong


class Reach:
    """Notes whether a run's requests reach a server. Its methods may be called from any thread.

    Attributes:
        trouble: why the latest request reached no server, and its address; "" if it reached one.
        unreached: what did not let it through.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.unreached: Unreached = ""
        self._answered = False
        self._since_s: float | None = None  # the time since which every request has failed
        self._latest_s = 0.0
        self._told: set[str] = set()

    def answered(self) -> None:
        """A server answered, with a good answer or an error."""
        self._answered = True
        self._got_there()

    def _got_there(self) -> None:
        self._since_s, self.trouble, self.unreached = None, "", ""

    def failed(self, call: Call, error: BaseException | None) -> str | None:
        """No answer came to this call; return the message about it, if it is new."""
        words = why_unreachable(error)
        if words is None:
            self._got_there()
            return None
        self._latest_s = clock.now()
        if self._since_s is None:
            self._since_s = self._latest_s
        proxy = None if call.request is None else proxy_of(call.client, call.request.url)
        self.trouble = where_unreachable(words, urlsplit(call.url).netloc, proxy)
        self.unreached = "proxy" if proxy is not None else "refused" if words == REFUSED else "server"
        if self.trouble in self._told:
            return None
        self._told.add(self.trouble)
        return self.trouble

    @property
    def advice(self) -> str:
        """What to look at, where a request reached no server."""
        return _OF_A_PROXY if self.unreached == "proxy" else _ADVICE

    def dead_s(self) -> float:
        """Return the seconds from the first failure to the latest, in a run that no server ever answered."""
        since_s = self._since_s
        return 0.0 if since_s is None or self._answered else self._latest_s - since_s
