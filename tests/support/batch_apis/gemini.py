"""Gemini: files, and operations made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.batch_apis import rules
from tests.support.batch_apis.core import MB, Api, rfc3339
from tests.support.batch_apis.rules import Wrong, only

if TYPE_CHECKING:
    from tests.support.batch_apis.jobs import Job
    from tests.support.batch_apis.rules import Outcome


class GeminiApi(Api):
    key_headers = ("x-goog-api-key",)

    def _admit(self, request: web.Request) -> None:
        if "upload_id" not in request.query:  # which says whose it is
            super()._admit(request)

    def routes(self) -> None:
        self.uploads: list[str] = []  # whose each is
        add = self.app.router.add_route
        add("POST", "/upload/{v:v1|v1beta}/files", self.upload)
        add("POST", "/{v:v1|v1beta}/models/{model}:generateContent", self.live)
        add("POST", "/{v:v1|v1beta}/models/{model}:batchGenerateContent", self.create)
        add("GET", "/{v:v1|v1beta}/batches", self.listing)
        add("GET", "/{v:v1|v1beta}/batches/{id}", self.look)
        add("POST", "/{v:v1|v1beta}/batches/{id}:cancel", self.cancel)
        add("GET", "/{v:v1|v1beta}/files/{id}:download", self.download)

    def wrong(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}

    async def upload(self, request: web.Request) -> web.Response:
        command = request.headers.get("x-goog-upload-command")
        if command == "start":
            only(only(await self.body(request), "file")["file"], "display_name", "mime_type", "size_bytes")
            number = len(self.uploads)
            self.uploads.append(self.account(request))
            where = f"{request.url.origin()}{request.path}?upload_id={number}"
            return web.Response(headers={"x-goog-upload-url": where, "x-goog-upload-status": "active"})
        if command != "upload, finalize" or request.headers.get("x-goog-upload-offset") != "0":
            raise Wrong("wrong upload command")
        self.core.requests["POST file"] += 1
        content = await request.read()
        if len(content) > 2_000 * MB:
            raise Wrong("the file is too large")
        name = self.core.keep("files/", content, self.uploads[int(request.query["upload_id"])])
        about = {"name": name, "sizeBytes": str(len(content)), "state": "ACTIVE"}
        response = self.json({"file": {**about, "mimeType": "application/jsonl"}})
        response.headers["x-goog-upload-status"] = "final"
        return response

    async def create(self, request: web.Request) -> web.Response:
        self.core.requests["POST create"] += 1
        self.may_create()
        batch = only(only(await self.body(request), "batch")["batch"], "displayName", "inputConfig")
        file = only(batch["inputConfig"], "fileName")["fileName"]
        account = self.account(request)
        if self.core.owners.get(file) != account:
            raise Wrong(f"no file {file}", status=404)
        rows = rules.gemini_rows(self.core.files[file])
        tokens, most = rules.tokens_of(rows), self.core.queued_tokens
        if most is not None and self.core.waiting_tokens(None) + tokens > most:
            raise Wrong("You exceeded the quota of enqueued tokens", status=429)
        path = f"/{request.match_info['v']}/models/{request.match_info['model']}:generateContent"
        tag = {"name": batch["displayName"]}
        id_ = self.core.named("batches/")
        return self.made(
            job := self.core.make(id_, "google", path, account, rows, file=file, tag=tag), self.shape(job)
        )

    def shape(self, job: Job) -> dict[str, Any]:
        states = {"done": "SUCCEEDED", "": "RUNNING" if job.looks else "PENDING"}
        state = states.get(job.end, job.end.upper())
        good, bad = job.counts
        about: dict[str, Any] = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": job.path.rpartition("/")[2].partition(":")[0],
            "displayName": job.tag["name"],
            "state": f"BATCH_STATE_{state}",
            "createTime": rfc3339(job.created),
            "updateTime": rfc3339(job.created),
            "name": job.id,
            "inputConfig": {"fileName": job.file},
            "batchStats": {"requestCount": str(len(job.rows))}
            | {
                name: str(count)
                for name, count in (("successfulRequestCount", good), ("failedRequestCount", bad))
                if count
            },
        }
        body: dict[str, Any] = {"name": job.id, "metadata": about}
        if job.end:
            about["endTime"] = rfc3339(job.ended)
            body["done"] = True
        if job.end in ("done", "cancelled") and job.told:  # an expired batch has no results
            about["output"] = {"responsesFile": f"files/out-{job.id.removeprefix('batches/')}"}
            body["response"] = about["output"]
        if job.end == "failed":
            assert job.failure is not None
            body["error"] = {"code": 3, "message": job.failure[1]}
        return body

    async def look(self, request: web.Request) -> web.Response:
        job = self.core.job(f"batches/{request.match_info['id']}", self.account(request))
        job.seen(self.core.now())
        return self.json(self.shape(job))

    async def listing(self, request: web.Request) -> web.Response:
        self.core.requests["GET listing"] += 1
        jobs = self.core.shown(self.account(request), ("google",))
        size, first = int(request.query.get("pageSize", "50")), int(request.query.get("pageToken", "0"))
        page = {"operations": [self.shape(job) for job in jobs[first : first + size]]}
        return self.json(page | ({"nextPageToken": str(first + size)} if first + size < len(jobs) else {}))

    async def cancel(self, request: web.Request) -> web.Response:
        self.core.job(f"batches/{request.match_info['id']}", self.account(request)).cancel(self.core.now())
        return self.json({})

    async def download(self, request: web.Request) -> web.StreamResponse:
        id_ = request.match_info["id"].removeprefix("out-")
        job = self.core.job(f"batches/{id_}", self.account(request))
        if job.end not in ("done", "cancelled") or job.faults.gone or request.query.get("alt") != "media":
            raise Wrong("no such file", status=404)
        lines = [{"key": key, **_gemini_result(outcome)} for key, outcome in job.returned()]
        return await self.lines(request, lines)


def _gemini_result(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"error": {"code": 1, "message": "cancelled"}}
    if outcome.status == 200:
        return {"response": outcome.body}
    code = {400: 3, 401: 16, 403: 7, 500: 13}.get(outcome.status, 2)
    return {"error": {"code": code, "message": outcome.body["error"]["message"]}}
