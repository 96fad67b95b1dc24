"""Mistral: OpenAI's files, and batch jobs made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.batch_apis import rules
from tests.support.batch_apis.openai import OpenAIApi
from tests.support.batch_apis.rules import Wrong, only

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.batch_apis.jobs import Job

MOST_ROWS = 100_000
PATH = rules.PATHS["chat"]


class MistralApi(OpenAIApi):
    def routes(self) -> None:
        add, root = self.app.router.add_route, self.root
        add("POST", PATH, self.live)
        add("POST", f"{root}/files", self.upload)
        add("GET", f"{root}/files/{{id}}/content", self.content)
        add("DELETE", f"{root}/files/{{id}}", self.remove)
        add("POST", f"{root}/batch/jobs", self.create)
        add("GET", f"{root}/batch/jobs", self.listing)
        add("GET", f"{root}/batch/jobs/{{id}}", self.look)
        add("POST", f"{root}/batch/jobs/{{id}}/cancel", self.cancel)

    async def create(self, request: web.Request) -> web.Response:
        self.core.requests["POST create"] += 1
        self.may_create()
        fields = ("input_files", "endpoint", "model", "metadata", "timeout_hours")
        body, account = only(await self.body(request), *fields), self.account(request)
        if body.get("endpoint") != PATH or not body.get("model"):
            raise Wrong("a job needs an endpoint and a model")
        [file] = body.get("input_files") or [None]
        if self.core.owners.get(str(file)) != account:
            raise Wrong(f"no file {file}", status=404)
        rows = rules.mistral_rows(self.core.files[str(file)], body["model"], MOST_ROWS)
        id_, tag = self.core.named("job-"), body.get("metadata") or {}
        job = self.core.make(id_, "chat", PATH, account, rows, file=file, tag=tag, endpoint=PATH)
        return self.made(job, self.shape(job))

    def shape(self, job: Job) -> dict[str, Any]:
        ended = {
            "done": "SUCCESS",
            "expired": "TIMEOUT_EXCEEDED",
            "cancelled": "CANCELLED",
            "failed": "FAILED",
        }
        running = "RUNNING" if job.looks else "QUEUED"
        status = ended.get(job.end) or (running if job.cancelled is None else "CANCELLATION_REQUESTED")
        shown = super().shape(job)
        done, failed = job.counts
        message = job.failure[1] if job.failure else ""
        return {
            "id": job.id,
            "object": "batch",
            "input_files": [job.file],
            "metadata": job.tag,
            "endpoint": job.endpoint,
            "status": status,
            "output_file": shown["output_file_id"],
            "error_file": shown["error_file_id"],
            "errors": [{"message": message, "count": 1}] if job.end == "failed" else [],
            "created_at": int(job.created),
            "completed_at": int(job.ended) or None,
            "total_requests": len(job.rows),
            "completed_requests": done + failed,
            "succeeded_requests": done,
            "failed_requests": failed,
        }

    async def listing(self, request: web.Request) -> web.Response:
        self.core.requests["GET listing"] += 1
        jobs = self.core.shown(self.account(request), ("chat",))
        size, first = int(request.query.get("page_size", "100")), int(request.query.get("page", "0"))
        page = jobs[size * first : size * (first + 1)]
        return self.json({"object": "list", "total": len(jobs), "data": [self.shape(job) for job in page]})
