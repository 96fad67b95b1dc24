"""Together: OpenAI's files and batches in words of its own. It keeps no tag, and counts nothing but a share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.support.batch_apis import rules
from tests.support.batch_apis.openai import OpenAIApi
from tests.support.batch_apis.rules import Wrong, only

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.batch_apis.jobs import Job

MOST_ROWS = 50_000
PATH = rules.PATHS["chat"]


class TogetherApi(OpenAIApi):
    def routes(self) -> None:
        super().routes()
        self.app.router.add_route("POST", f"{self.root}/files/upload", self.upload)

    async def upload(self, request: web.Request) -> web.Response:
        self.core.requests["POST file"] += 1
        fields: dict[str, bytes] = {}
        async for part in await request.multipart():
            fields[part.name] = bytes(await part.read())  # type: ignore[index,union-attr]
        if (
            fields.keys() != {"purpose", "file_type", "file_name", "file"}
            or fields["purpose"] != b"batch-api"
        ):
            raise Wrong(f"wrong fields {sorted(fields)}")
        name = self.core.keep("file-", fields["file"], self.account(request))
        return self.json({"id": name, "object": "file", "purpose": "batch-api", "bytes": len(fields["file"])})

    async def create(self, request: web.Request) -> web.Response:
        self.core.requests["POST create"] += 1
        self.may_create()
        body = only(await self.body(request), "input_file_id", "endpoint", "completion_window", "model_id")
        account, file = self.account(request), str(body.get("input_file_id"))
        if self.core.owners.get(file) != account:
            raise Wrong(f"no file {file}", status=404)
        failure, rows = None, []
        try:
            content = self.core.files[file]
            model = orjson.loads(content.partition(b"\n")[0])["body"]["model"]
            rows = rules.mistral_rows(content, model, MOST_ROWS)
        except Wrong as wrong:
            failure = ("", str(wrong), wrong.line)
        job = self.core.make(
            self.core.named("batch-"), "chat", PATH, account, rows, file=file, endpoint=PATH, failure=failure
        )
        return self.made(job, {"job": self.shape(job)})

    def shape(self, job: Job) -> dict[str, Any]:
        shown = super().shape(job)
        status = "IN_PROGRESS" if shown["status"] == "cancelling" else shown["status"].upper()
        names = ("id", "endpoint", "input_file_id", "output_file_id", "error_file_id", "created_at")
        return {name: shown[name] for name in names} | {
            "status": status,
            "progress": 100.0 * (len(job.outcomes) / len(job.rows) if job.end else job.share),
            "completed_at": shown["completed_at"],
            "error": job.failure[1] if job.failure else None,
        }

    async def listing(self, request: web.Request) -> web.Response:
        self.core.requests["GET listing"] += 1
        return self.json([self.shape(job) for job in self.core.shown(self.account(request), ("chat",))])
