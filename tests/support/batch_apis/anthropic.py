"""Anthropic: message batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.batch_apis import rules
from tests.support.batch_apis.core import MB, Api, rfc3339
from tests.support.batch_apis.rules import Wrong

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.batch_apis.jobs import Job
    from tests.support.batch_apis.rules import Outcome


class AnthropicApi(Api):
    key_headers = ("x-api-key", "authorization")

    def routes(self) -> None:
        add = self.app.router.add_route
        add("POST", "/v1/messages", self.live)
        add("POST", "/v1/messages/batches", self.create)
        add("GET", "/v1/messages/batches", self.listing)
        add("GET", "/v1/messages/batches/{id}", self.look)
        add("POST", "/v1/messages/batches/{id}/cancel", self.cancel)
        add("GET", "/v1/messages/batches/{id}/results", self.results)

    def wrong(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        kinds |= {413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}

    def _admit(self, request: web.Request) -> None:
        super()._admit(request)
        if request.headers.get("anthropic-version") not in ("2023-06-01", "2026-10-21"):
            raise Wrong("anthropic-version: header is required")

    async def create(self, request: web.Request) -> web.Response:
        self.core.requests["POST create"] += 1
        self.may_create()
        content = await request.read()
        if len(content) > 256 * MB:
            raise Wrong("Request exceeds the maximum size", status=413)
        rows = rules.anthropic_rows(await self.body(request), self.core.rows["anthropic"])
        account, id_ = self.account(request), self.core.named("msgbatch_")
        job = self.core.make(id_, "anthropic", "/v1/messages", account, rows)
        return self.made(job, self.shape(job, request))

    def shape(self, job: Job, request: web.Request) -> dict[str, Any]:
        gone = bool(job.end) and job.faults.gone
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if job.end:
            good, bad = job.counts
            counts |= {"succeeded": good, "errored": bad}
            counts["expired" if job.end == "expired" else "canceled"] = len(job.rows) - good - bad
        else:
            counts["processing"] = len(job.rows)
        status = "ended" if job.end else "in_progress" if job.cancelled is None else "canceling"
        url = f"{request.url.origin()}/v1/messages/batches/{job.id}/results"
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": rfc3339(job.created),
            "expires_at": rfc3339(job.created + 86_400),
            "ended_at": rfc3339(job.ended) if job.end else None,
            "cancel_initiated_at": None if job.cancelled is None else rfc3339(job.created),
            "archived_at": rfc3339(job.ended) if gone else None,
            "results_url": url if job.told and not gone else None,
        }

    async def look(self, request: web.Request) -> web.Response:
        job = self.core.job(request.match_info["id"], self.account(request))
        job.seen(self.core.now())
        return self.json(self.shape(job, request))

    async def listing(self, request: web.Request) -> web.Response:
        self.core.requests["GET listing"] += 1
        jobs = self.core.shown(self.account(request), ("anthropic",))
        limit, after = int(request.query.get("limit", "20")), request.query.get("after_id")
        first = next((number + 1 for number, job in enumerate(jobs) if job.id == after), 0)
        page = jobs[first : first + limit]
        found = [self.shape(job, request) for job in page]
        ids = (page[0].id, page[-1].id) if page else (None, None)
        more = first + limit < len(jobs)
        return self.json({"data": found, "has_more": more, "first_id": ids[0], "last_id": ids[1]})

    async def cancel(self, request: web.Request) -> web.Response:
        job = self.core.job(request.match_info["id"], self.account(request))
        if job.end:
            raise Wrong("the batch has already ended")
        job.cancel(self.core.now())
        return self.json(self.shape(job, request))

    async def results(self, request: web.Request) -> web.StreamResponse:
        job = self.core.job(request.match_info["id"], self.account(request))
        if not job.end or job.faults.gone:
            raise Wrong("no results", status=404)
        lines = [
            {"custom_id": custom_id, "result": _anthropic_result(job, outcome)}
            for custom_id, outcome in job.returned()
        ]
        return await self.lines(request, lines)


def _anthropic_result(job: Job, outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"type": "expired" if job.end == "expired" else "canceled"}
    if outcome.status != 200:
        return {"type": "errored", "error": outcome.body}
    usage = {**outcome.body["usage"], "service_tier": "batch"}
    return {"type": "succeeded", "message": {**outcome.body, "usage": usage}}
