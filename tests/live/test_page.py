"""The live page over HTTP: what it shows of a store, and what it shows to nobody."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
from contextlib import closing
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.errors import ConfigError, StoreError
from cottonpalm.live.reading import Query, Reading
from cottonpalm.live.rows_view import visible
from cottonpalm.live.server import Dashboard
from cottonpalm.stores import open_store
from cottonpalm.testing import ScriptedChain
from tests.support.prometheus_text import faults, promtool_says

if TYPE_CHECKING:
    from pathlib import Path

PLACES = (
    "/",
    "/now?run=plain",
    "/rows?run=plain",
    "/row?run=plain&at=3",
    "/report?run=plain",
    "/stream?run=plain",
    "/live.js",
    "/nowhere",
)


def rows_in(text: str) -> list[int]:
    return [int(found) for found in re.findall(r'data-row="(\d+)"', text)]


def link(text: str, rel: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', text)
    return None if found is None else unescape(found[1])


# -- who gets nothing


@pytest.mark.parametrize("place", PLACES)
def test_without_the_token_no_place_says_anything_of_the_store(stranger: httpx.Client, place: str) -> None:
    for answer in (stranger.get(place), stranger.get(place, params={"token": "guess"}), stranger.post(place)):
        assert answer.status_code == 401
        assert "plain" not in answer.text
        assert "reviews" not in answer.text


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_was_pointed_at_this_machine_gets_nothing(
    client: httpx.Client, page: Dashboard, place: str
) -> None:
    answer = client.get(place, headers={"host": f"evil.example:{page.port}"})
    assert answer.status_code == 421
    assert "plain" not in answer.text


def test_a_page_of_another_origin_changes_nothing(client: httpx.Client) -> None:
    order = {"run": "plain", "what": "cancel"}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {}):
        assert client.post("/order", data=order, headers=headers).status_code == 403


def test_no_answer_lets_another_origin_read_it_or_frame_it(
    client: httpx.Client, stranger: httpx.Client
) -> None:
    for answer in (
        client.get("/", headers={"origin": "http://evil.example"}),
        client.get("/report", params={"run": "plain"}),
        stranger.get("/"),
        client.get("/nowhere"),
    ):
        headers = answer.headers
        assert "access-control-allow-origin" not in headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 's")
        assert "unsafe" not in headers["content-security-policy"]


def test_the_token_goes_from_the_address_into_a_cookie_that_scripts_cannot_read(
    page: Dashboard, stranger: httpx.Client
) -> None:
    answer = stranger.get(f"{page.url}&x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/live.css/../../app.py",
        "/..%5c..%5capp.py",
        "//evil.example/",
    ],
)
def test_tricks_with_paths_lead_nowhere(client: httpx.Client, page: Dashboard, path: str) -> None:
    token = parse_qs(urlsplit(page.url).query)["token"][0]
    for query in ("", f"?token={token}"):
        with socket.create_connection(("127.0.0.1", page.port)) as raw:  # a client would tidy the path up
            cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
            lines = [f"GET {path}{query} HTTP/1.1", f"host: 127.0.0.1:{page.port}", f"cookie: {cookie}"]
            raw.sendall("\r\n".join([*lines, "connection: close", "", ""]).encode())
            answer = b""
            while part := raw.recv(65536):
                answer += part
        head = answer.decode().partition("\r\n\r\n")[0].lower()
        assert "root:" not in answer.decode()
        assert "starlette" not in answer.decode()
        assert head.startswith(("http/1.1 404", "http/1.1 303"))
        assert "location: //" not in head


def test_a_long_or_senseless_order_is_refused_and_says_what_can_be_asked(client: httpx.Client) -> None:
    headers = {"origin": str(client.base_url).rstrip("/")}
    for body, said in (
        (b"x" * 100_000, "shorter"),
        (b"run=plain&what=explode", "can be asked to pause"),
        (b"run=plain&what=cap&most=0", "from 1 to 100,000"),
        (b"run=plain&what=cap&most=1e9", "from 1 to 100,000"),
        (b"run=plain&what=pause", "no process works on run 'plain' now"),
        (b"run=nobody&what=pause", "there is no run 'nobody'"),
        (b"\xff\xfe=", "can be asked to pause"),
    ):
        answer = client.post("/order", content=body, headers=headers)
        assert answer.status_code == 409
        assert said in answer.text


# -- what is shown


def test_all_runs_are_there_with_their_counts(client: httpx.Client) -> None:
    text = client.get("/").text
    assert "200, 20 failed" in text
    assert "../../x?run=a&amp;b#&lt;b&gt;" in text
    address = re.findall(r'href="(/now\?[^"]+)"', text)
    for each in address:  # whatever a run is called, its link leads to it
        assert client.get(unescape(each)).status_code == 200


def test_pages_lead_through_all_rows_once_and_back(client: httpx.Client) -> None:
    for status, expected in (("all", list(range(200))), ("failed", list(range(3, 200, 10)))):
        place: str | None = f"/rows?run=plain&status={status}"
        seen: list[int] = []
        last = ""
        while place is not None:
            last = client.get(place).text
            seen += rows_in(last)
            place = link(last, "next")
        assert seen == expected
        back = rows_in(last)
        while (place := link(last, "prev")) is not None:
            last = client.get(place).text
            back = rows_in(last) + back
        assert back == expected


def test_rows_are_found_by_what_was_asked_answered_or_refused(client: httpx.Client) -> None:
    def found(text: str, status: str = "all") -> list[int]:
        return rows_in(client.get("/rows", params={"run": "plain", "status": status, "text": text}).text)

    assert found("question 117") == [117]
    assert found("aNSWER no. 55") == [55]
    assert found("row 13 is") == [13]
    assert found("ValueError", "ok") == []
    assert len(found("ValueError", "failed")) == 20
    assert found('"o"') == []  # names of our own fields are no text of a row
    assert found("100%_") == []


def test_a_search_that_takes_long_stops_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    from cottonpalm.protocols import StoredRow

    store = open_store(tmp_path / "big.db")
    run = store.open_run("r", None)
    rows = [StoredRow(n, b"%d" % n, b"%d" % n, 1, b'{"o":"row number %d","a":1}' % n) for n in range(3500)]
    run.write(rows, lambda error: None)
    run.close()
    reading, seen, query = Reading(store, search_s=0.0), [], Query(text="number 3456")
    stops = []
    while True:
        found = reading.rows("r", query)
        seen += [row.index for row in found.rows]
        if found.through is None:
            break
        stops.append(found.through)
        query = query._replace(after=found.through)
    store.close()
    assert seen == [3456]
    assert stops == [999, 1999, 2999]


def test_one_row_shows_its_error_its_attempts_and_its_input(client: httpx.Client) -> None:
    text = client.get("/row?run=plain&at=13").text
    for said in (
        "Row 14 <small>index 13</small>",
        "ValueError: row 13 is bad",
        "question 13",
        "fail_row",
        "will most likely fail again",
    ):
        assert said in text
    assert text.count("ValueError: row 13 is bad") == 1
    assert client.get("/row?run=plain&at=999").status_code == 404
    assert client.get("/row?run=plain&at=-1").status_code == 404


def test_hostile_rows_are_text_and_long_ones_are_cut_until_asked_for(client: httpx.Client) -> None:
    text = client.get("/rows?run=hostile").text
    assert "<script>window" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 100_000
    whole = client.get("/row?run=hostile&at=5")
    assert len(whole.text) < 100_000
    assert "Show all" in whole.text
    assert len(client.get("/row?run=hostile&at=5&whole=1").text) > 5_000_000
    for at in range(5):
        shown = client.get(f"/row?run=hostile&at={at}").text
        assert "<script>window" not in shown
        assert "\x1b" not in shown


def test_a_text_in_full_has_its_tabs_and_its_indents() -> None:
    said = "func main() {\r\n\tif ok {\n\t\treturn\n\t}\n}\n"
    assert visible(said) == said
    assert visible("  two\x1b[0m\n\t\u202eone\ralone") == "  two\\x1b[0m\n\t\\u202eone alone"


def test_the_report_of_a_run_is_there_with_its_own_policy(client: httpx.Client) -> None:
    answer = client.get("/report?run=plain")
    assert "Failed rows" in answer.text
    assert "sha256-" in answer.headers["content-security-policy"]


def test_the_stream_says_how_it_stands_and_ends_with_the_run_that_is_gone(client: httpx.Client) -> None:
    with client.stream("GET", "/stream?run=plain") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = next(answer.iter_text())
        assert first.startswith("event: parts\ndata: {")
    with client.stream("GET", "/stream?run=nobody") as answer:
        assert "".join(answer.iter_text()).startswith("event: gone\ndata: there is no run")


def test_runs_whose_names_look_alike_are_series_of_their_own(tmp_path: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    for name in ("two words", "two\nwords", "n" * 400, "n" * 400 + "m"):
        BatchProcessor(ScriptedChain(then=str), store=tmp_path / "alike.db", run=name).batch(["a row"])
    with Dashboard(tmp_path / "alike.db", 0) as page:
        text = httpx.get(page.url.replace("/?", "/metrics?")).text
    series = [
        (sample.name, *sample.labels.values())
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len({run for name, run, *_ in series if name == "cottonpalm_run_active"}) == 4
    assert len(set(series)) == len(series), "else Prometheus refuses the whole page"


def test_prometheus_reads_the_runs_of_the_store(
    client: httpx.Client, page: Dashboard, stranger: httpx.Client
) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    token = parse_qs(urlsplit(page.url).query)["token"][0]
    assert stranger.get("/metrics").status_code == 401
    bearer = stranger.get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert bearer.headers["content-type"].startswith("text/plain")
    assert stranger.get("/metrics", params={"token": token}).status_code == 200
    assert faults(bearer.text) == []
    assert promtool_says(bearer.text) == ""
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(bearer.text)
        for sample in family.samples
    }
    assert found["cottonpalm_store_rows_total", "plain", "ok"] == 180
    assert found["cottonpalm_store_rows_total", "plain", "failed"] == 20
    assert found["cottonpalm_run_active", "plain"] == 0


# -- the server


def test_a_port_that_is_taken_is_named_and_without_one_any_other_does(page: Dashboard, store: Path) -> None:
    with pytest.raises(ConfigError, match=rf"cannot listen at 127.0.0.1:{page.port}: Address already in use"):
        Dashboard(store, page.port)
    with Dashboard(store) as one, Dashboard(store) as other:
        assert one.port != other.port


@pytest.mark.parametrize("port", [-1, 65536, "8765", 87.5, True])
def test_a_port_that_is_none_is_refused_by_what_it_is(store: Path, port: Any) -> None:
    with pytest.raises(ConfigError, match=rf"port={port!r}: a port is a whole number from 0 to 65535"):
        Dashboard(store, port)


def test_an_address_that_is_none_of_this_machine_is_not_blamed_on_the_port(store: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot listen at 192\.0\.2\.1: .*; name an address of this machine"
    ):
        Dashboard(store, host="192.0.2.1")  # an address for examples, which nobody has
    with pytest.raises(ConfigError, match="would let every machine reach the live page"):
        Dashboard(store, 0, host="")


def test_it_listens_on_this_machine_alone_unless_asked(page: Dashboard) -> None:
    assert page._socket.getsockname()[0] == "127.0.0.1"


def test_when_it_is_closed_the_port_is_free_and_open_streams_end(store: Path) -> None:
    found = Dashboard(store, 0)
    with httpx.Client(trust_env=False) as client:
        client.get(found.url)
        with client.stream("GET", f"http://127.0.0.1:{found.port}/stream") as answer:
            lines = answer.iter_text()
            next(lines)
            found.close()
            assert "event: gone\ndata: this page ended" in "".join(lines)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", found.port))


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no store .*first run in it makes it, .*open_store"):
        Dashboard(tmp_path / "none.db", 0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="a store in memory has no page"):
        Dashboard("memory:", 0)


def test_a_store_that_was_replaced_is_told_and_not_shown_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "moved.db"
    BatchProcessor(ScriptedChain(then=str.upper), store=path, run="old").batch(["a"])
    with Dashboard(path, 0) as found, httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert "old" in client.get(found.url).text
        path.rename(tmp_path / "away.db")
        BatchProcessor(ScriptedChain(then=str.upper), store=path, run="new").batch(["a"])
        for place in ("/", "/now?run=old", "/rows?run=old", "/row?run=old&at=0", "/report?run=old"):
            answer = client.get(f"http://127.0.0.1:{found.port}{place}")
            assert answer.status_code == 404, place
            assert "The store was deleted or replaced; start this page again." in answer.text


def test_a_second_start_has_another_token(store: Path) -> None:
    tokens: set[Any] = set()
    for _ in range(2):
        with Dashboard(store, 0) as found:
            tokens.add(urlsplit(found.url).query)
    assert len(tokens) == 2


def test_a_store_that_cannot_be_read_leaves_the_port_free(
    page: Dashboard, store: Path, tmp_path: Path
) -> None:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        port = any_free.getsockname()[1]
    foreign = tmp_path / "notes.db"
    foreign.write_text("no database, but a text that is longer than nothing")
    with pytest.raises(StoreError) as kept:  # with its traceback, as a notebook does
        Dashboard(foreign, port)
    with pytest.raises(ConfigError, match="cannot listen"):
        Dashboard(store, page.port)
    with Dashboard(store, port) as other:
        assert (other.port, "is not a database" in str(kept.value)) == (port, True)


def test_a_store_that_another_program_locks_is_shown_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    go, going = threading.Event(), threading.Event()

    def answer(text: str) -> str:
        going.set()
        go.wait()
        return text

    processor = BatchProcessor(RunnableLambda(answer), store=path, run="goes")
    work = threading.Thread(target=processor.batch, args=(["a"],))
    work.start()
    assert going.wait(60)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other, Dashboard(path, 0) as found:
            other.execute("BEGIN IMMEDIATE")
            places = ("/", "/now?run=goes", "/report?run=goes", "/metrics")
            with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
                client.get(found.url.replace("/?", "/live.js?"))
                shown = [client.get(f"http://127.0.0.1:{found.port}{place}") for place in places]
            other.execute("ROLLBACK")
            assert [answer.status_code for answer in shown] == [200] * len(places)
            assert all("goes" in answer.text for answer in shown)
    finally:
        go.set()
        work.join()
