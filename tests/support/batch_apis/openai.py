"""OpenAI: files, and batches made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.batch_apis import rules
from tests.support.batch_apis.core import Api
from tests.support.batch_apis.rules import Wrong, only

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.batch_apis.jobs import Job
    from tests.support.batch_apis.rules import Outcome


class OpenAIApi(Api):
    root = "/v1"
    endpoints: ClassVar[dict[str, str]] = {rules.PATHS[api]: api for api in ("chat", "responses")}

    def routes(self) -> None:
        add, root = self.app.router.add_route, self.root
        add("POST", f"{root}/chat/completions", self.live)
        add("POST", f"{root}/responses", self.live)
        add("POST", f"{root}/files", self.upload)
        add("GET", f"{root}/files/{{id}}/content", self.content)
        add("DELETE", f"{root}/files/{{id}}", self.remove)
        add("POST", f"{root}/batches", self.create)
        add("GET", f"{root}/batches", self.listing)
        add("GET", f"{root}/batches/{{id}}", self.look)
        add("POST", f"{root}/batches/{{id}}/cancel", self.cancel)

    def wrong(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 429 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    async def upload(self, request: web.Request) -> web.Response:
        self.core.requests["POST file"] += 1
        fields: dict[str, bytes] = {}
        filename = None
        async for part in await request.multipart():
            assert part.name is not None  # type: ignore[union-attr]
            fields[part.name] = bytes(await part.read())  # type: ignore[union-attr]
            filename = part.filename or filename  # type: ignore[union-attr]
        if fields.keys() != {"purpose", "file"} or fields["purpose"] != b"batch":
            raise Wrong(f"wrong fields {sorted(fields)}")
        if len(fields["file"]) > self.core.bytes:
            raise Wrong("the file is too large", status=413)
        name = self.core.keep("file-", fields["file"], self.account(request))
        about = {
            "id": name,
            "object": "file",
            "bytes": len(fields["file"]),
            "created_at": int(self.core.now()),
        }
        return self.json({**about, "filename": filename, "purpose": "batch", "status": "processed"})

    async def remove(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if self.core.owners.get(name) != self.account(request):
            raise Wrong(f"No such File object: {name}", status=404)
        del self.core.files[name], self.core.owners[name]
        return self.json({"id": name, "object": "file", "deleted": True})

    async def create(self, request: web.Request) -> web.Response:
        self.core.requests["POST create"] += 1
        self.may_create()
        body = only(
            await self.body(request),
            "input_file_id",
            "endpoint",
            "completion_window",
            "metadata",
            "output_expires_after",
        )
        api = self.endpoints.get(body.get("endpoint", ""))
        if api is None:
            raise Wrong(f"endpoint {body.get('endpoint')!r} is not supported")
        if body.get("completion_window") != "24h":
            raise Wrong("completion_window must be 24h")
        metadata = body.get("metadata") or {}
        if len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
            raise Wrong("metadata is too large")
        account, file = self.account(request), body.get("input_file_id")
        if self.core.owners.get(file) != account:
            raise Wrong(f"No such File object: {file}")
        failure, rows = None, []
        try:
            rows = rules.openai_rows(self.core.files[file], body["endpoint"], self.core.rows["openai"])
            tokens, most = rules.tokens_of(rows), self.core.queued_tokens
            if most is not None and self.core.waiting_tokens(None) + tokens > most:
                said = f"Enqueued token limit reached for {rows[0].body.get('model')}. Limit: {most:,} enqueued tokens"
                failure = ("token_limit_exceeded", said, None)
        except Wrong as wrong:
            failure = (wrong.code or "invalid_request", str(wrong), wrong.line)
        path = body["endpoint"]
        job = self.core.make(
            self.core.named("batch_"),
            api,
            path,
            account,
            rows,
            file=file,
            tag=metadata,
            endpoint=path,
            failure=failure,
        )
        return self.made(job, self.shape(job))

    def shape(self, job: Job) -> dict[str, Any]:
        status = {"done": "completed", "": "in_progress" if job.looks else "validating"}.get(job.end, job.end)
        if job.cancelled is not None and not job.end:
            status = "cancelling"
        done, failed = job.counts
        returned = job.returned() if job.end and job.end != "failed" else []
        answers = any(outcome and outcome.status == 200 for _, outcome in returned)
        errors = any(outcome is None or outcome.status != 200 for _, outcome in returned)
        code, message, line = job.failure or ("", "", None)
        faults = [{"code": code, "message": message, "line": line, "param": None}]
        at = int(job.ended) or None
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.endpoint,
            "errors": {"object": "list", "data": faults} if job.end == "failed" else None,
            "input_file_id": job.file,
            "completion_window": "24h",
            "status": status,
            "output_file_id": f"file-out-{job.id}" if answers and job.told else None,
            "error_file_id": f"file-err-{job.id}" if errors else None,
            "created_at": int(job.created),
            "in_progress_at": int(job.created) if job.looks else None,
            "expires_at": int(job.created) + 86_400,
            "completed_at": at if job.end == "done" else None,
            "failed_at": at if job.end == "failed" else None,
            "expired_at": at if job.end == "expired" else None,
            "cancelled_at": at if job.end == "cancelled" else None,
            "request_counts": {"total": len(job.rows), "completed": done, "failed": failed},
            "metadata": job.tag or None,
        }

    async def look(self, request: web.Request) -> web.Response:
        job = self.core.job(request.match_info["id"], self.account(request))
        job.seen(self.core.now())
        return self.json(self.shape(job))

    async def listing(self, request: web.Request) -> web.Response:
        self.core.requests["GET listing"] += 1
        jobs = self.core.shown(self.account(request), ("chat", "responses"))
        limit, after = int(request.query.get("limit", "20")), request.query.get("after")
        if not 1 <= limit <= 100:
            raise Wrong("limit must be 1 to 100")
        first = next((number + 1 for number, job in enumerate(jobs) if job.id == after), 0)
        page = jobs[first : first + limit]
        return self.json(
            {
                "object": "list",
                "data": [self.shape(job) for job in page],
                "has_more": first + limit < len(jobs),
            }
        )

    async def cancel(self, request: web.Request) -> web.Response:
        job = self.core.job(request.match_info["id"], self.account(request))
        job.cancel(self.core.now())
        return self.json(self.shape(job))

    async def content(self, request: web.Request) -> web.StreamResponse:
        kind, _, id_ = request.match_info["id"].removeprefix("file-").partition("-")
        job = self.core.job(id_, self.account(request))
        if not job.end or job.faults.gone:
            raise Wrong("No such File object", status=404)
        found = [
            (custom_id, outcome)
            for custom_id, outcome in job.returned()
            if (outcome is not None and outcome.status == 200) == (kind == "out")
        ]
        lines = [_openai_line(job, custom_id, outcome) for custom_id, outcome in found]
        return await self.lines(request, lines)


class AzureApi(OpenAIApi):
    """Azure OpenAI: deployments in the paths of live requests, names of its own for endpoints, a key in `api-key`."""

    key_headers = ("api-key", "authorization")
    root = "/openai/v1"
    endpoints: ClassVar[dict[str, str]] = {"/chat/completions": "chat", "/v1/responses": "responses"}

    def routes(self) -> None:
        super().routes()
        live = "/openai/deployments/{model}/chat/completions"
        self.app.router.add_route("POST", live, self.live)

    async def live(self, request: web.Request) -> web.Response:
        """The path says which deployment; a body need not."""
        if "api-version" not in request.query:
            raise Wrong("Resource not found", "404", status=404)
        api = "responses" if request.path.endswith("/responses") else "chat"
        body = await self.body(request)
        body["model"] = body.get("model") or request.match_info.get("model", "")
        return await self.answered(request, api, rules.PATHS[api], body)


def _openai_line(job: Job, custom_id: str, outcome: Outcome | None) -> dict[str, Any]:
    head = {"id": f"batch_req_{custom_id}", "custom_id": custom_id}
    if outcome is None:
        code = "batch_expired" if job.end == "expired" else "batch_cancelled"
        said = "This request could not be executed before the batch ended."
        return {**head, "response": None, "error": {"code": code, "message": said}}
    response = {"status_code": outcome.status, "request_id": f"req_{custom_id}", "body": outcome.body}
    return {**head, "response": response, "error": None}
