"""Who may ask the live page for what."""

from __future__ import annotations

import pytest

from cottonpalm.live.rules import Asked, host_name, refusal

pytestmark = pytest.mark.core
TOKEN = "the-token-of-this-start"
GET = Asked("GET", "127.0.0.1:8765", cookie=TOKEN)


def status(asked: Asked, *names: str) -> int:
    refused = refusal(asked, TOKEN, names)
    return 200 if refused is None else refused.status


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "localhost", "[::1]:8765", "10.1.2.3"])
def test_an_address_of_this_machine_may_be_asked(host: str) -> None:
    assert status(GET._replace(host=host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8765",
        "evil.example@127.0.0.1",
        "127.0.0.1/evil",
        "",
        None,
        "[::1",
        "127.0.0.1:port",
    ],
)
def test_a_name_that_was_pointed_at_us_gets_nothing_even_with_the_token(host: str | None) -> None:
    assert status(GET._replace(host=host)) == 421


def test_the_name_of_this_machine_may_be_asked_where_it_is_known() -> None:
    assert status(GET._replace(host="here:8765"), "here") == 200
    assert status(GET._replace(host="here:8765")) == 421


@pytest.mark.parametrize("wrong", [None, "", "the-token", TOKEN + "x", "the-t\u00f6ken"])
def test_without_the_token_nothing_is_read_or_changed(wrong: str | None) -> None:
    for method in ("GET", "HEAD", "POST"):
        asked = Asked(method, "localhost", "http://localhost", cookie=wrong, bearer=wrong, token=wrong)
        assert status(asked) == 401


def test_the_token_in_the_address_reads_and_never_changes() -> None:
    asked = Asked("GET", "localhost", token=TOKEN)
    assert status(asked) == 200
    assert status(asked._replace(method="POST", origin="http://localhost")) == 401


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:8765", 200),
        (None, 403),
        ("null", 403),
        ("http://127.0.0.1:9999", 403),  # another program on this machine
        ("http://evil.example", 403),
        ("http://127.0.0.1:8765.evil.example", 403),
        ("file://", 403),
    ],
)
def test_only_our_own_page_changes_a_run_by_cookie(origin: str | None, expected: int) -> None:
    assert status(GET._replace(method="POST", origin=origin)) == expected


def test_a_program_changes_a_run_with_the_token_in_a_header() -> None:
    asked = Asked("POST", "localhost", bearer=TOKEN)
    assert status(asked) == 200
    assert status(asked._replace(origin="http://evil.example")) == 403


def test_names_of_hosts_are_read_as_browsers_write_them() -> None:
    assert host_name("LOCALHOST:80") == "localhost"
    assert host_name("[2001:db8::1]:443") == "2001:db8::1"
