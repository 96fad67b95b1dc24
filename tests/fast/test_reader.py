"""Responses are read alike however their bytes arrive, and nothing malformed passes for an answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.transport.http1.reader import Malformed, Reader
from tests.fast.wires import wire

BODY = {"text": "an answer " * 9}
GOOD = {
    "plain": wire(BODY),
    "in chunks": wire(BODY, chunks=5),
    "packed": wire(BODY, packed=True),
    "packed in chunks": wire(BODY, packed=True, chunks=3),
    "nothing in it": wire(b""),
    "no content": wire(b"", "204 No Content"),
}


def bytes_of(name: str) -> bytes:
    return b"".join(GOOD[name].pieces)


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(1, 400), max_size=12))
def test_a_response_is_the_same_however_its_bytes_are_cut(name: str, cuts: list[int]) -> None:
    whole, reader = bytes_of(name), Reader()
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    ends = [reader.feed(whole[begin:end]) for begin, end in pairwise(places)]
    at_once = Reader()
    assert at_once.feed(whole)
    assert ends == [*[False] * (len(ends) - 1), True]
    assert reader.answered is not None
    assert at_once.answered is not None
    assert reader.answered.content == at_once.answered.content
    assert (reader.answered.raw, reader.reusable) == (at_once.answered.raw, True)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_response_that_breaks_off_is_never_an_answer(name: str, data: st.DataObject) -> None:
    whole, reader = bytes_of(name), Reader()
    kept = data.draw(st.integers(0, len(whole) - 1))
    assert not (kept and reader.feed(whole[:kept]))
    with pytest.raises(Malformed):
        reader.ended()


@pytest.mark.parametrize(
    "told",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
def test_what_is_no_http_is_refused(told: bytes) -> None:
    with pytest.raises(Malformed):
        Reader().feed(told)


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t  ", b"\n "])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_may_end_in_a_line_feed_alone_and_go_on_in_the_next(end: bytes, fold: bytes) -> None:
    head = end.join([b"HTTP/1.1 200 OK", b"X-A: one" + fold + b"two", b"Content-Length: 6", b"", b""])
    for at in range(len(head)):
        reader = Reader()
        assert not reader.feed(head[:at])
        assert reader.feed(head[at:] + b"a\r\n\r\nb")
        assert reader.answered is not None
        assert (reader.answered.headers["x-a"], reader.answered.content) == ("one two", b"a\r\n\r\nb")
        assert reader.reusable


def test_a_connection_is_not_used_again_after_bytes_nobody_asked_for() -> None:
    reader = Reader()
    assert reader.feed(bytes_of("plain") + b"HTTP/1.1 200 OK\r\n")
    assert not reader.reusable


def test_headers_are_found_by_their_names_in_lower_case_and_joined() -> None:
    reader = Reader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    assert reader.answered is not None
    assert reader.answered.headers == {"x-a": "1, 2", "content-length": "0"}
