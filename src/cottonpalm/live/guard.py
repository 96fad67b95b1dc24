"""Stands before the whole page: refuses who may not ask, and says in each answer what a browser may do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

from cottonpalm.live.rules import SAFE, Asked, refusal, same

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
}
TOKEN: Final = "token"  # noqa: S105 - its name in an address
OPEN_BY_ADDRESS: Final = "/metrics"  # a program may give the token there


class Guard:
    """Wraps the application.

    Args:
        app: what is behind it.
        token: of this start.
        names: of this machine.
        cookie: in which a browser keeps the token; browsers do not tell ports apart, so its name does.
    """

    def __init__(self, app: ASGIApp, token: str, names: Collection[str], cookie: str) -> None:
        self._app, self._token, self._names, self._cookie = app, token, names, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no sockets here
        request = Request(scope)
        asked = self._asked(request)

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", POLICY)
            await send(message)

        refused = refusal(asked, self._token, self._names)
        if refused is not None:
            await PlainTextResponse(f"{refused.why}\n", refused.status)(scope, receive, shielded)
        elif asked.method in SAFE and same(asked.token, self._token) and scope["path"] != OPEN_BY_ADDRESS:
            await self._kept(request)(scope, receive, shielded)
        else:
            await self._app(scope, receive, shielded)

    def _asked(self, request: Request) -> Asked:
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        hosts = request.headers.getlist("host")
        return Asked(
            request.method,
            hosts[0] if len(hosts) == 1 else None,
            request.headers.get("origin"),
            request.cookies.get(self._cookie),
            bearer if kind.lower() == "bearer" else None,
            request.query_params.get(TOKEN),
        )

    def _kept(self, request: Request) -> RedirectResponse:
        """The browser keeps the token in a cookie that scripts and other sites do not get, and loses it elsewhere."""
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != TOKEN]
        place = "/" + request.url.path.lstrip("/")  # never to another host
        answer = RedirectResponse(f"{place}?{urlencode(rest)}" if rest else place, 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer
