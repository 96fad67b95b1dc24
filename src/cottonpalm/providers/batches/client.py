"""Sends what the adapters build. Nothing is repeated here: whoever asks decides whether a request may be sent again."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import httpx

from cottonpalm.providers import hints
from cottonpalm.providers.answer import loads
from cottonpalm.providers.batches.choice import adapter_of
from cottonpalm.providers.batches.troubles import Trouble, as_meant, of_creation, of_exception, of_status
from cottonpalm.redact import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import Ask, BatchState, Page, Result
    from cottonpalm.providers.batches.spool import Packed

TIMEOUT: Final = httpx.Timeout(300.0, connect=30.0)  # a file of 200 MB takes its time
_LOOK_S: Final = 60.0  # a small question, which is asked again: its connection may be half-open
_CREATE_S: Final = 300.0  # costs money: whether it was done takes minutes to find out, so it is waited for
_HOPS: Final = 5
_PAGES: Final = 100
_SHOWN: Final = 80  # bytes of an answer that is none
_WHERE: Final = "x-goog-upload-url"


def connections() -> httpx.AsyncClient:
    """Return the connections that requests about batches go over. `BatchClient` follows redirects itself."""
    return httpx.AsyncClient(follow_redirects=False)


class BatchClient:
    """The Batch API of one lane's provider. Every method raises `Trouble`."""

    def __init__(self, lane: Lane, http: httpx.AsyncClient, credentials: Mapping[str, str]) -> None:
        self.lane, self.adapter = lane, adapter_of(lane)
        self._http, self._credentials = http, dict(credentials)
        self._ahead_s = 0.0  # the provider's clock, of ours

    @property
    def uploads(self) -> bool:
        """The provider takes a file; otherwise the lines travel in `create`."""
        return self.adapter.upload(self.lane, "", 0) is not None

    async def upload(self, packed: Packed) -> str | None:
        """Send the file of lines; its id, or None where this provider takes no file."""
        ask = self.adapter.upload(self.lane, packed.tag, packed.length(b"\n"))
        if ask is None:
            return None
        async with self._answer(ask, packed) as response:
            body, where = await _read(response), response.headers.get(_WHERE)
        if where is not None:
            then = self.adapter.upload(self.lane, packed.tag, packed.length(b"\n"), _checked(where))
            assert then is not None
            body = await self._bytes(then, packed)
        found = loads(body)
        name = self.adapter.uploaded(found) if isinstance(found, dict) else ""
        if not name:
            raise Trouble("later", "the upload was answered without the id of a file")
        return name

    async def create(self, tag: str, input_file_id: str | None, packed: Packed | None) -> BatchState:
        """Submit. From the moment this is called, the batch may exist; "unsure" says that nobody knows."""
        ask = self.adapter.create(self.lane, tag, input_file_id)
        found = loads(await self._bytes(ask, packed, creates=True))
        state = _kept(self.adapter.state(found)) if isinstance(found, dict) else None
        if state is None or not state.batch_id:
            raise Trouble("unsure", "the answer to the submission cannot be read")
        return state

    async def look(self, batch_id: str) -> BatchState:
        """Where it stands."""
        state = _kept(self.adapter.state(await self._json(self.adapter.look(self.lane, batch_id))))
        if not state.batch_id:
            raise Trouble("later", "the answer does not say which batch it is of")
        return state

    async def cancel(self, batch_id: str) -> None:
        """Ask to stop it; one that has ended already is fine."""
        try:
            await self._bytes(self.adapter.cancel(self.lane, batch_id))
        except Trouble as trouble:
            if trouble.what not in ("refused", "gone"):
                raise

    async def remove(self, input_file_id: str) -> None:
        """Delete the file of lines. Where that fails it costs nothing, and the provider deletes it some day."""
        with contextlib.suppress(Trouble):
            await self._bytes(self.adapter.remove(self.lane, input_file_id))

    async def listing(self, since: float) -> list[BatchState]:
        """The account's batches that were created since then by our clock, as their times are, and perhaps more."""
        ask: Ask | None = self.adapter.listing(self.lane)
        states: list[BatchState] = []
        for _ in range(_PAGES):
            if ask is None:
                break
            page: Page = self.adapter.page(self.lane, await self._json(ask), ask)
            found = [_by_our_clock(_kept(state), self._ahead_s) for state in page.states]
            states += found
            old = all((state.created_at or since) < since for state in found)
            ask = None if old and self.adapter.newest_first else page.more
        return states

    async def results(self, ask: Ask) -> AsyncIterator[Result]:
        """The results in one file, in any order; lines that are none are left out.

        A text without a single one is no such file: the page of a gateway, say. What it hides is there, and paid for.
        """
        left, first, found = b"", b"", False
        async with self._answer(ask) as response:
            try:
                async for block in response.aiter_bytes():
                    first = first or block
                    *lines, left = (left + block).split(b"\n")
                    for line in lines:
                        if (result := self._result(line)) is not None:
                            found = True
                            yield result
            except httpx.HTTPError as exc:
                raise of_exception(exc, creates=False) from exc
        if (result := self._result(left)) is not None:
            found = True
            yield result
        if first.strip() and not found:
            raise Trouble("later", f"the answer is no file of results: {_begins(first)}")

    def _result(self, line: bytes) -> Result | None:
        result = self.adapter.result(line) if line else None
        if result is None:
            return None
        result = as_meant(self.lane, replace(result, why=redact(result.why)) if result.why else result)
        return result if result.good else replace(result, body=_redacted(result.body))

    async def _json(self, ask: Ask) -> dict[str, Any]:
        found = loads(await self._bytes(ask))
        if isinstance(found, list):  # Together's listing
            return {"data": found}
        if not isinstance(found, dict):
            raise Trouble("later", "the answer is no JSON")
        return {**found}

    async def _bytes(self, ask: Ask, packed: Packed | None = None, *, creates: bool = False) -> bytes:
        # Files take their time, as long as they come on; a small answer that comes a byte at a time is none.
        most_s = None if ask.joint is not None else _CREATE_S if creates else _LOOK_S
        try:
            async with asyncio.timeout(most_s), self._answer(ask, packed, creates=creates) as response:
                return await _read(response, creates=creates)
        except TimeoutError as exc:
            raise of_exception(TimeoutError(f"no whole answer in {most_s:g} s"), creates=creates) from exc

    @asynccontextmanager
    async def _answer(
        self, ask: Ask, packed: Packed | None = None, *, creates: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """A good answer, its body not yet read."""
        response = await self._sent(ask, ask.url, packed, creates=creates)
        try:
            for _ in range(_HOPS):
                if not response.has_redirect_location or ask.method != "GET":
                    break
                onward = urljoin(str(response.url), response.headers["location"])
                await response.aclose()
                response = await self._sent(ask, onward, None, creates=False)
            if not response.is_success:
                raise await self._judged(response, creates=creates)
            self._ahead_s = hints.ahead_s(response.headers)
            yield response
        finally:
            await response.aclose()

    async def _sent(self, ask: Ask, url: str, packed: Packed | None, *, creates: bool) -> httpx.Response:
        headers = {**ask.headers, **(self._credentials if _origin(url) == self.lane.origin else {})}
        content: bytes | AsyncIterator[bytes] = ask.head
        if ask.joint is not None and packed is not None:
            length = len(ask.head) + packed.length(ask.joint) + len(ask.tail)
            headers["content-length"] = str(length)
            content = _stream(ask, packed)
        request = self._http.build_request(ask.method, url, headers=headers, content=content, timeout=TIMEOUT)
        try:
            return await self._http.send(request, stream=True, follow_redirects=False)
        except httpx.HTTPError as exc:
            raise of_exception(exc, creates=creates) from exc

    async def _judged(self, response: httpx.Response, *, creates: bool) -> Trouble:
        try:
            content = await response.aread()
        except httpx.HTTPError:
            content = b""
        judge = of_creation if creates else of_status
        return judge(self.lane.provider, response.status_code, response.headers, content)


def _checked(address: str) -> str:
    """The address that an answer names; one that is none is no reason to end the run: the next may be better."""
    try:
        _origin(address)
        httpx.URL(address)
    except (ValueError, httpx.InvalidURL) as exc:
        raise Trouble("later", f"the upload was answered with an address that is none ({exc})") from exc
    return address


def _begins(content: bytes) -> str:
    return repr(content[:_SHOWN].decode(errors="replace"))


async def _read(response: httpx.Response, *, creates: bool = False) -> bytes:
    try:
        return await response.aread()
    except httpx.HTTPError as exc:
        raise of_exception(exc, creates=creates) from exc


async def _stream(ask: Ask, packed: Packed) -> AsyncIterator[bytes]:
    if ask.head:
        yield ask.head
    for block in packed.blocks(ask.joint or b"\n"):
        yield block
    if ask.tail:
        yield ask.tail


def _kept(state: BatchState) -> BatchState:
    """What is written down, and told, of a batch that failed: a provider may quote a key or an address of the row."""
    faults = tuple(replace(fault, message=redact(fault.message)) for fault in state.faults)
    return replace(state, faults=faults) if faults else state


def _redacted(part: Any) -> Any:
    """What is written down of a line that was refused, without what its texts quote; an answer is left as it is."""
    if isinstance(part, dict):
        return {name: _redacted(inner) for name, inner in part.items()}
    if isinstance(part, list):
        return [_redacted(inner) for inner in part]
    return redact(part) if isinstance(part, str) else part


def _by_our_clock(state: BatchState, ahead_s: float) -> BatchState:
    return state if state.created_at is None else replace(state, created_at=state.created_at - ahead_s)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
