"""What the three Batch APIs of the loopback provider share."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from tests.support.batch_apis import rules
from tests.support.batch_apis.faults import Faults, Weather
from tests.support.batch_apis.jobs import Bill, Job, bill_of
from tests.support.batch_apis.rules import Row, Wrong
from tests.support.replies import Reply
from tests.support.shapes import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

Handler = Any
MB = 1_000_000


HALF = "half of an emoji"  # in an answer: it is written as the first half of a pair of surrogates


def written(body: Any) -> bytes:
    """JSON, with the answers of models that are cut within an emoji."""
    return as_json(body).encode().replace(HALF.encode(), rb"\ud83d")


class Lost(Exception):
    """The answer to this request is to be lost."""


class Seen(NamedTuple):
    """A live request, and what it was answered with."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any]
    answer: dict[str, Any]


class Core:
    """What the three APIs share. Touched by the server's thread alone, but for plain reads."""

    def __init__(self) -> None:
        self.faults, self.weather = Faults(), Weather()
        self.script: Callable[[int, int], Faults] | None = None
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}  # of files
        self.bills: list[Bill] = []
        self.seen: list[Seen] = []  # live requests
        self.asked = 0  # requests of any kind
        self._watched: list[tuple[int, Callable[[], None]]] = []
        self.requests: Counter[str] = Counter()  # by method and kind, such as "POST create"
        self._numbers = itertools.count()
        self.rows, self.bytes = {"openai": 50_000, "anthropic": 100_000}, 200 * MB
        self.queued_tokens: int | None = None
        self.live_latency_s = 0.0
        self.ahead_s = 0.0  # of us, by the provider's clock
        self.flex: Callable[[dict[str, Any]], str] = lambda _: "ok"  # or "no room", "unknown", "default"
        self.live: Callable[[dict[str, Any]], int] | None = None  # a status for a live request; 200: as usual

    def arrive(self) -> None:
        self.asked += 1
        self._tell()

    def watch(self, asked: int, reached: Callable[[], None]) -> None:
        """Call this once so many requests have come."""
        self._watched.append((asked, reached))
        self._tell()

    def _tell(self) -> None:
        for one in [one for one in self._watched if one[0] <= self.asked]:
            self._watched.remove(one)
            one[1]()

    def now(self) -> float:
        return time.time() + self.ahead_s

    def named(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):06d}"  # never again, also where a file was deleted

    def keep(self, prefix: str, content: bytes, account: str) -> str:
        name = self.named(prefix)
        self.files[name], self.owners[name] = content, account
        return name

    def make(self, id_: str, api: str, path: str, account: str, rows: list[Row], **more: Any) -> Job:
        faults = self.script(len(self.jobs), len(rows)) if self.script else self.faults
        if faults.lose == "before":
            raise Lost
        job = Job(id_, api, path, account, self.now(), rows, faults, self.bills.append, **more)
        job.hidden = faults.hidden
        self.jobs[id_] = job
        return job

    def waiting_tokens(self, model: object) -> int:
        return sum(rules.tokens_of(job.rows) for job in self.jobs.values() if not job.end)

    def job(self, id_: str, account: str) -> Job:
        job = self.jobs.get(id_)
        if job is None or job.account != account:
            raise Wrong(f"No batch {id_}", status=404)
        return job

    def shown(self, account: str, api: tuple[str, ...]) -> list[Job]:
        """Newest first; each listing reveals hidden ones a little."""
        jobs = [job for job in self.jobs.values() if job.account == account and job.api in api]
        now = self.now()
        shown = [job for job in jobs if not job.hidden and now - job.created >= job.faults.hidden_s]
        for job in jobs:
            job.hidden = max(0, job.hidden - 1)
        return shown[::-1]


class Api:
    """One provider's API: routing, credentials, faults, errors in its shape."""

    key_headers: tuple[str, ...] = ("authorization",)

    def __init__(self, core: Core) -> None:
        self.core = core
        self.app = web.Application(client_max_size=2_000 * MB, middlewares=[self._guard])
        self.app.router.add_get("/_bills", self._bills)
        self.routes()

    def routes(self) -> None:
        raise NotImplementedError

    def wrong(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        raise NotImplementedError

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path != "/_bills":
                self._admit(request)
            return await handler(request)
        except Lost:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        except Wrong as wrong:
            return self.json(self.wrong(wrong.status, str(wrong), wrong.code), wrong.status)
        except web.HTTPException as exc:
            return self.json(self.wrong(exc.status, exc.reason, None), exc.status)

    def _admit(self, request: web.Request) -> None:
        self.core.arrive()
        if not self.account(request):
            raise Wrong("no key was given", "invalid_api_key", status=401)
        if request.method == "GET" and self.core.weather.reads:
            status = self.core.weather.reads.pop(0)
            if status:
                raise Wrong("not now", "rate_limit_exceeded" if status == 429 else None, status=status)

    def may_create(self) -> None:
        if self.core.weather.creates:
            status = self.core.weather.creates.pop(0)
            if status:
                raise Wrong("not now", "rate_limit_exceeded" if status == 429 else None, status=status)

    def account(self, request: web.Request) -> str:
        return next((key for name in self.key_headers if (key := request.headers.get(name))), "")

    async def _bills(self, request: web.Request) -> web.Response:
        jobs = [{"id": job.id, "rows": len(job.rows), "end": job.end} for job in self.core.jobs.values()]
        return self.json({"bills": [bill._asdict() for bill in self.core.bills], "jobs": jobs})

    def json(self, body: Any, status: int = 200) -> web.Response:
        headers = {"date": formatdate(self.core.now(), usegmt=True)}
        return web.Response(
            body=written(body), status=status, content_type="application/json", headers=headers
        )

    async def body(self, request: web.Request) -> Any:
        try:
            return json.loads(await request.read())
        except json.JSONDecodeError:
            raise Wrong("the body is not valid JSON") from None

    def made(self, job: Job, body: Any) -> web.Response:
        if job.faults.lose == "after":
            raise Lost
        return self.json(body)

    async def live(self, request: web.Request) -> web.Response:
        path = request.path
        api = next((api for api, known in rules.PATHS.items() if path == known), "google")
        return await self.answered(request, api, path, await self.body(request))

    async def answered(self, request: web.Request, api: str, path: str, body: dict[str, Any]) -> web.Response:
        if self.core.live_latency_s:
            await asyncio.sleep(self.core.live_latency_s)
        tier = body.get("service_tier")
        if tier == "flex" and (said := self.core.flex(body)) != "ok":
            if said != "default":
                return self._no_flex(said)
            tier = said
        reply = None
        if self.core.live is not None and (status := self.core.live(body)) != 200:
            reply = Reply(status=status)
        outcome = rules.asked(api, path, body, reply)
        self.core.seen.append(Seen(str(request.url), dict(request.headers), body, outcome.body))
        if outcome.answer is not None:
            self.core.bills.append(bill_of("flex" if tier == "flex" else "live", api, path, body, outcome))
        if body.get("service_tier") == "flex" and outcome.answer is not None:
            return self.json({**outcome.body, "service_tier": tier})
        return self.json(outcome.body, outcome.status)

    def _no_flex(self, said: str) -> web.Response:
        status, code, param = (
            (429, "resource_unavailable", None) if said == "no room" else (400, None, "service_tier")
        )
        error = {"message": f"flex: {said}", "type": "invalid_request_error", "code": code, "param": param}
        return self.json({"error": error}, status)

    async def lines(self, request: web.Request, lines: list[Any]) -> web.StreamResponse:
        """A download, which may break off."""
        if self.core.weather.fewer:
            self.core.weather.fewer -= 1
            lines = lines[: len(lines) // 2]
        content = b"".join(written(line) + b"\n" for line in lines)
        if self.core.weather.short:
            self.core.weather.short -= 1
            content = content[: len(content) // 2]
        response = web.StreamResponse(headers={"content-length": str(len(content))})
        await response.prepare(request)
        if self.core.weather.cut:
            self.core.weather.cut -= 1
            await response.write(content[: len(content) // 2])
            raise Lost
        await response.write(content)
        return response


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
