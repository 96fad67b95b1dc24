"""Streamed answers: permits come back when the provider has sent all, and nothing that matters is lost."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import httpx
import httpx2
import openai as openai_sdk
import pytest
import zstandard

from cottonpalm.providers import BrokenAnswer, CutAnswer, FilteredAnswer, classify
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.testing import virtual_run
from cottonpalm.types import Kind
from tests.request.kit import a_run, anthropic, in_flight, one, one_sync, openai, openai_sync
from tests.support import replies
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
VENDORS = pytest.mark.parametrize("vendor", [openai, anthropic], ids=["openai", "anthropic"])


def streamed(
    server: Loopback, run: Any, vendor: Any = openai, **options: Any
) -> tuple[Any, RowAccount, list[str]]:
    """One row that streams one answer; (result, row, the texts that came)."""
    texts: list[str] = []

    async def main() -> Any:
        async with vendor(server, **options) as model:

            async def read() -> str:
                async for chunk in model.astream("hi"):
                    texts.append(chunk.text)  # noqa: PERF401 - what came before an exception counts
                return "".join(texts)

            return await one(run, 0, read)

    return *asyncio.run(main()), texts


@VENDORS
def test_a_streams_usage_is_what_the_provider_billed(vendor: Any) -> None:
    with Loopback() as server:
        options = {"stream_usage": True} if vendor is openai else {}
        result, row, _ = streamed(server, a_run(), vendor, **options)
        assert result == "answer to: hi"
        assert row.usage.input_tokens == server.billed.input_tokens > 0
        assert row.usage.output_tokens == server.billed.output_tokens > 0
        assert row.attempts == 1


def test_a_sync_streams_usage_is_counted_too() -> None:
    with Loopback() as server, openai_sync(server, stream_usage=True) as model:
        run = a_run()
        result, row = one_sync(run, 0, lambda: "".join(chunk.content for chunk in model.stream("hi")))
        assert result == "answer to: hi"
        assert row.usage.output_tokens == server.billed.output_tokens
        assert in_flight(run) == 0


@VENDORS
def test_a_stream_is_tried_again_before_its_first_byte(vendor: Any) -> None:
    with Loopback(script=[replies.too_many(0.01), replies.fails(500), None]) as server:
        result, row, _ = streamed(server, a_run(), vendor)
        assert result == "answer to: hi"
        assert row.attempts == 3


@VENDORS
def test_a_stream_that_breaks_off_gives_its_permit_back_and_is_transient(vendor: Any) -> None:
    with Loopback(script=lambda _: replies.cut_body()) as server:
        run = a_run()
        result, _, texts = streamed(server, run, vendor, max_retries=0)
        assert isinstance(result, Exception)
        assert classify(result).kind is Kind.TRANSIENT
        assert in_flight(run) == 0
        assert texts, "what came before the break was shown"


@VENDORS
def test_a_stream_that_stalls_ends_after_the_gap(vendor: Any) -> None:
    with Loopback(script=lambda _: replies.stalls()) as server:
        run = a_run(timeout_s=0.3)
        result, _, _ = streamed(server, run, vendor, max_retries=0)
        assert classify(result).kind is Kind.TRANSIENT
        assert in_flight(run) == 0


@VENDORS
def test_a_slow_stream_may_take_longer_than_the_timeout_as_long_as_its_pieces_come(vendor: Any) -> None:
    with Loopback(script=[replies.ok(chunks=6, chunk_gap_s=0.45)]) as server:
        result, _, _ = streamed(server, a_run(timeout_s=2.0), vendor)
        assert result == "answer to: hi"


@VENDORS
def test_an_error_inside_a_stream_reaches_the_chain_and_frees_the_permit(vendor: Any) -> None:
    with Loopback(script=[replies.error_in_stream()]) as server:
        run = a_run()
        result, _, _ = streamed(server, run, vendor, max_retries=0)
        assert isinstance(result, Exception)
        assert classify(result).kind in (Kind.TRANSIENT, Kind.THROTTLE)
        assert in_flight(run) == 0


@VENDORS
@pytest.mark.parametrize(
    ("reply", "error"),
    [(replies.cut_by_length("once upon a time"), CutAnswer), (replies.refused(), FilteredAnswer)],
    ids=["cut", "refused"],
)
def test_a_cut_or_refused_stream_raises_after_its_last_chunk(vendor: Any, reply: Any, error: type) -> None:
    with Loopback(script=[reply]) as server:
        result, row, texts = streamed(server, a_run(), vendor)
        assert isinstance(result, error)
        assert row.partial
        assert row.attempts == server.requests == 1
        if error is CutAnswer:
            assert "".join(texts) == "once upon a time" == result.partial


def test_an_accepted_cut_stream_is_only_noted() -> None:
    with Loopback(script=[replies.cut_by_length("once upon a time")]) as server:
        result, row, _ = streamed(server, a_run(accept_truncated=True))
        assert result == "once upon a time"
        assert row.truncated


def test_a_reader_that_leaves_early_closes_the_stream_and_frees_the_permit() -> None:
    async def main() -> None:
        with Loopback(script=lambda _: replies.ok(chunks=50, chunk_gap_s=0.05)) as server:
            async with openai(server) as model:
                run = a_run(1)

                async def first_only() -> str:
                    stream = model.astream("hi")
                    try:
                        text = (await anext(stream)).content
                        assert in_flight(run) == 1
                    finally:
                        await stream.aclose()
                    async with asyncio.timeout(20):  # the row is open until this returns
                        while in_flight(run):
                            await asyncio.sleep(0)
                    return text

                result, _ = await one(run, 0, first_only)
                assert isinstance(result, str), result

    asyncio.run(main())


def test_a_row_that_ends_with_an_open_stream_cuts_it_off() -> None:
    async def main() -> None:
        with Loopback(script=lambda _: replies.ok(chunks=100, chunk_gap_s=0.05)) as server:
            async with openai(server) as model:
                run = a_run(1)
                left = []

                async def leaves_it_open() -> None:
                    stream = model.astream("hi")
                    await anext(stream)
                    left.append(stream)

                await one(run, 0, leaves_it_open)
                async with asyncio.timeout(10):
                    while in_flight(run):
                        await asyncio.sleep(0)
                await left[0].aclose()

    asyncio.run(main())


def test_the_permit_of_a_slow_readers_stream_goes_to_others_meanwhile() -> None:
    async def main() -> None:
        with Loopback() as server:
            async with openai(server) as model:
                run, other_done = a_run(1), asyncio.Event()

                async def slow() -> int:
                    count = 0
                    async for _ in model.astream("slow"):
                        count += 1
                        await other_done.wait()
                    return count

                async def other() -> None:
                    await model.ainvoke("other")
                    other_done.set()

                async with asyncio.timeout(20):
                    first = asyncio.create_task(one(run, 0, slow))
                    await one(run, 1, other)
                    result, _ = await first
                assert result >= 4

    asyncio.run(main())


def _sse(*events: str) -> bytes:
    return b"".join(f"data: {event}\n\n".encode() for event in events)


WHOLE = (
    '{"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}',
    '{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    '{"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}',
    "[DONE]",
)


def through_a_stream(
    content: list[bytes], headers: dict[str, str] | None = None, measure: Any = None, http: Any = httpx2
) -> tuple[RowAccount, bytes]:
    """A scripted stream through the hook, by the HTTP client alone."""

    class Body(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> Any:
            for piece in content:
                yield piece

    async def main() -> tuple[RowAccount, bytes]:
        row = RowAccount(a_run(), 0)
        row.run.measure = measure
        ROW.set(row)
        transport = http.MockTransport(lambda _: http.Response(200, headers=headers, stream=Body()))
        async with http.AsyncClient(transport=transport) as client:
            body = {"model": "m", "messages": [], "stream": True}
            async with client.stream("POST", "http://x/v1/chat/completions", json=body) as response:
                read = await response.aread()
        assert in_flight(row.run) == 0
        return row, read

    return asyncio.run(main())


def test_a_line_split_over_two_pieces_is_read_as_one() -> None:
    whole = _sse(*WHOLE)
    for cut in range(1, len(whole), 7):
        row, read = through_a_stream([whole[:cut], whole[cut:]])
        assert read == whole
        assert row.usage.input_tokens == 5


def test_a_compressed_stream_is_read_along_as_well() -> None:
    row, read = through_a_stream([gzip.compress(_sse(*WHOLE))], {"content-encoding": "gzip"})
    assert read == _sse(*WHOLE)
    assert row.usage.output_tokens == 1


def _raw_deflate(content: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(content) + machine.flush()


@pytest.mark.parametrize(
    ("coding", "pack", "http"),
    [
        ("GZIP", gzip.compress, httpx2),
        ("deflate", zlib.compress, httpx2),
        ("deflate", _raw_deflate, httpx2),
        ("deflate, gzip", lambda content: gzip.compress(zlib.compress(content)), httpx2),
        ("zstd", lambda content: zstandard.ZstdCompressor().compress(content), httpx),
        ("unheard-of", bytes, httpx2),
    ],
    ids=["capitals", "deflate", "raw deflate", "two", "zstd", "unknown"],
)
def test_a_stream_is_unpacked_as_the_http_library_does_it(coding: str, pack: Any, http: Any) -> None:
    packed = pack(_sse(*WHOLE))
    pieces = [packed[at : at + 9] for at in range(0, len(packed), 9)]
    row, read = through_a_stream(pieces, {"content-encoding": coding}, http=http)
    assert read == _sse(*WHOLE)
    assert (row.usage.input_tokens, row.usage.output_tokens) == (5, 1)


def test_a_stream_that_is_not_packed_as_it_says_is_broken_and_gives_its_permit_back() -> None:
    with pytest.raises(httpx2.DecodingError):
        through_a_stream([_sse(*WHOLE)], {"content-encoding": "gzip"})


@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
def test_a_carriage_return_ends_a_line_of_a_stream(end: bytes) -> None:
    whole = _sse(*WHOLE).replace(b"\n", end)
    row, read = through_a_stream([whole[at : at + 5] for at in range(0, len(whole), 5)])
    assert read == whole
    assert (row.usage.input_tokens, row.usage.output_tokens) == (5, 1)


def test_a_server_that_answers_a_stream_request_with_one_object_is_understood() -> None:
    body = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
    row, _ = through_a_stream([body])
    assert row.usage.input_tokens == 3


def test_a_stream_that_ends_without_an_end_is_broken() -> None:
    with pytest.raises(BrokenAnswer):
        through_a_stream([_sse(WHOLE[0])])


def test_text_that_looks_like_a_telling_field_tells_nothing() -> None:
    said = r"\"finish_reason\":\"length\",\"usage\":{}"
    quoted = '{"choices":[{"index":0,"delta":{"content":"' + said + '"},"finish_reason":null}]}'
    row, _ = through_a_stream([_sse(quoted, *WHOLE)])
    assert row.usage.input_tokens == 5


def test_a_server_that_never_closes_after_its_end_mark_is_not_waited_for() -> None:
    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield _sse(*WHOLE)
            await asyncio.Event().wait()

    async def main() -> tuple[bytes, RowAccount, float]:
        row = RowAccount(a_run(timeout_s=600.0), 0)
        ROW.set(row)
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body()))
        async with httpx2.AsyncClient(transport=transport) as client:
            body = {"model": "m", "messages": [], "stream": True}
            async with client.stream("POST", "http://x/v1/chat/completions", json=body) as response:
                return await response.aread(), row, asyncio.get_running_loop().time()

    read, row, seconds = virtual_run(main())
    assert read == _sse(*WHOLE)
    assert row.usage.input_tokens == 5
    assert seconds < 10, "not the 600 s of the longest gap"


def test_the_sdk_still_reads_its_stream_through_the_tap() -> None:
    async def main() -> None:
        with Loopback() as server:
            row = RowAccount(a_run(), 0)
            ROW.set(row)
            async with openai_sdk.AsyncOpenAI(base_url=server.openai_url, api_key="sk-test") as sdk:
                messages: Any = [{"role": "user", "content": "hi"}]
                async with await sdk.chat.completions.create(
                    model="m", messages=messages, stream=True
                ) as stream:
                    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
                assert "".join(texts) == "answer to: hi"
            assert row.attempts == 1

    asyncio.run(main())


class Measured:
    """What a run's measure is told of waits."""

    def __init__(self) -> None:
        self.waits: list[str] = []

    def waited(self, what: str, _: float) -> None:
        self.waits.append(what)

    def request(self, *_: Any, **__: Any) -> None:
        """Nothing is kept of it."""


@pytest.mark.parametrize(("said", "times"), [([WHOLE[0]] * 3, 1), ([WHOLE[1]] * 2, 0)])
def test_the_first_piece_of_a_streamed_answer_that_says_something_is_told_once(
    said: list[str], times: int
) -> None:
    silent = '{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
    measure = Measured()
    through_a_stream([_sse(silent), _sse(*said), _sse(*WHOLE[1:])], measure=measure)
    assert measure.waits.count("first") == times
