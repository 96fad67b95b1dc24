"""The decisions about shared prompts, one by one."""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import orjson
import pytest

from cottonpalm.providers.call import call_of
from cottonpalm.providers.paths import family_of
from cottonpalm.providers.prompt_cache.marks import Place, marked, own_ends
from cottonpalm.providers.prompt_cache.order import blocks_of
from cottonpalm.providers.prompt_cache.terms import Terms, terms_of
from cottonpalm.request.attempt.steps import Hold
from cottonpalm.request.prompt_cache.asking import Asking, Shared
from cottonpalm.request.prompt_cache.prompts import Prompts
from cottonpalm.request.prompt_cache.rules.marking import Marking
from cottonpalm.request.prompt_cache.rules.patience import LONGEST_S, Patience
from cottonpalm.request.prompt_cache.rules.prefixes import ALIKE, KEPT, Prefixes
from cottonpalm.request.prompt_cache.rules.sharing import Sharing, alike_later, common
from cottonpalm.request.row_account import RowAccount
from cottonpalm.request.transport.holding import hold_sync
from cottonpalm.runtime.wait_queue import RowClosed
from tests.promptcache.kit import RULES
from tests.request.kit import a_run

pytestmark = pytest.mark.core
ITSELF = Terms(minimum=512)  # 2,048 bytes


def text_of(family: str, body: dict[str, Any]) -> bytes:
    return b"\n".join(block.text for block in blocks_of(family, body))


@pytest.mark.parametrize(
    ("family", "first", "then"),
    [
        ("openai", {"tools": [{"name": "f"}]}, {"messages": [{"role": "user", "content": "hi"}]}),
        ("openai", {"response_format": {"type": "x"}}, {"messages": [{"role": "user", "content": "hi"}]}),
        ("openai", {"instructions": "be"}, {"input": "hi"}),
        ("anthropic", {"tools": [{"name": "f"}]}, {"system": "be"}),
        ("anthropic", {"system": "be"}, {"messages": [{"role": "user", "content": "hi"}]}),
        (
            "google",
            {"systemInstruction": {"parts": [{"text": "be"}]}},
            {"contents": [{"parts": [{"text": "hi"}]}]},
        ),
    ],
)
def test_a_prompt_is_laid_out_in_the_providers_order(family: str, first: Any, then: Any) -> None:
    """Whatever comes later in the body may differ, and what comes first in the prompt is still shared."""
    assert text_of(family, {**then, **first}) == text_of(family, {**first, **then})
    assert text_of(family, {**then, **first}).startswith(text_of(family, first))


def test_marks_are_no_part_of_a_prompt_and_a_picture_counts_by_what_it_shows() -> None:
    def body(picture: str, **mark: Any) -> dict[str, Any]:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture * 50_000}"}}
        return {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "what?", **mark}]}]}

    one = text_of("openai", body("a"))
    assert one == text_of("openai", body("a", cache_control={"type": "ephemeral"}))
    assert common(one, text_of("openai", body("b"))) < 10
    assert len(one) < 5_000


def test_the_first_difference_is_found_wherever_it_is() -> None:
    rng = Random(1)
    for _ in range(300):
        base = rng.randbytes(rng.randrange(1, 200))
        at = rng.randrange(len(base))
        other = base[:at] + bytes([base[at] ^ 1]) + rng.randbytes(rng.randrange(50))
        assert common(base, other) == at
    assert common(b"abc", b"abcd") == 3


def test_text_that_is_the_same_after_a_difference_is_measured() -> None:
    instructions = Random(2).randbytes(5_000)
    one, other = (
        b"id " + bytes(str(n), "ascii") + instructions + Random(n).randbytes(300) for n in (17, 4_711)
    )
    assert 4_900 <= alike_later(one, other) <= 5_010


def test_what_all_prompts_share_only_gets_less() -> None:
    sharing = Sharing()
    for prompt in (b"rules: a1", b"rules: a2", b"rules: b", b"rules: a1"):
        sharing.look(prompt)
    assert sharing.shared == len(b"rules: ")
    assert sharing.shared_by(b"rules: x") == 7
    assert sharing.shared_by(b"rubbish") == 0


def asking(prefixes: Prefixes, prompt: bytes, now: float) -> Any:
    return prefixes.chain(prompt, prefixes.places(len(prompt)), now)


def test_who_shares_enough_with_a_request_on_its_way_waits_for_it_and_no_one_else_does() -> None:
    prefixes, shared = Prefixes(ITSELF), b"s" * 4_000
    first = asking(prefixes, shared + b"1", 0)
    prefixes.goes(prefixes.turn(first, 4_001, 0), "first", 0)
    assert prefixes.turn(asking(prefixes, shared + b"2", 0), 4_001, 0).after == "first"
    assert prefixes.turn(asking(prefixes, b"t" * 4_000, 0), 4_000, 0).after is None
    long = shared + b"x" * 60_000  # of which the shared part is less than a tenth
    assert prefixes.turn(asking(prefixes, long, 0), len(long), 0).after is None


def test_an_entry_dies_when_nobody_has_used_it_for_its_life() -> None:
    prefixes, prompt = Prefixes(ITSELF), b"s" * 4_000
    turn = prefixes.turn(asking(prefixes, prompt, 0), 4_000, 0)
    prefixes.goes(turn, "first", 0)
    prefixes.over(turn, 0, written=True)
    for now in (200.0, 400.0, 700.0):
        again = prefixes.turn(asking(prefixes, prompt, now), 4_000, now)
        assert (len(again.leads), len(again.reads)) == (0, 1)
        prefixes.goes(again, "next", now)
    late = prefixes.turn(asking(prefixes, prompt, 1_001), 4_000, 1_001)
    assert (len(late.leads), len(late.reads)) == (1, 0)


def test_many_that_are_alike_are_not_looked_at_until_the_cache_may_have_died() -> None:
    prefixes = Prefixes(ITSELF)
    first = prefixes.turn(asking(prefixes, b"s" * 2_500, 0.0), 2_500, 0.0)
    prefixes.goes(first, "first", 0.0)
    prefixes.over(first, 0.0, written=True)
    for number in range(ALIKE + 1):
        assert not prefixes.skips(1.0)
        asking(prefixes, b"s" * 2_500 + b"%d" % number, 1.0)
    assert sum(prefixes.skips(2.0) for _ in range(320)) == 310
    assert not prefixes.skips(1_000.0)


def test_however_many_are_alike_each_one_waits_while_the_first_of_them_is_under_way() -> None:
    prefixes, prompt = Prefixes(ITSELF), b"s" * 4_000
    first = prefixes.turn(asking(prefixes, prompt, 0), 4_000, 0)
    prefixes.goes(first, "first", 0)
    for _ in range(2 * ALIKE):
        assert not prefixes.skips(0.5)
        assert prefixes.turn(asking(prefixes, prompt, 0.5), 4_000, 0.5).after == "first"
    prefixes.over(first, 0, written=True)
    assert prefixes.skips(1.0)


def test_prompts_that_share_nothing_take_bounded_memory() -> None:
    prefixes = Prefixes(ITSELF)
    for number in range(KEPT + 500):
        asking(prefixes, b"%d" % number + b"s" * 2_048, 1.0)
    assert len(prefixes._known) == KEPT


def test_patience_ends_with_the_seconds_that_were_lost_and_where_nothing_is_cached() -> None:
    patience = Patience()
    assert patience.left_s(0) == LONGEST_S
    patience.waited(0.0, 6.0)
    patience.waited(2.0, 7.0)  # at the same time, but for one second
    assert patience.left_s(0) == 3.0
    patience.waited(10.0, 20.0)
    assert patience.left_s(0) == 0.0
    assert patience.left_s(3_000) == pytest.approx(10 + 9 - 17)
    useless = Patience()
    for _ in range(20):
        useless.read(0)
    assert useless.left_s(10_000) == 0.0


def test_at_most_the_places_given_are_marked_and_the_chains_own_body_stays() -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}}
    body = {
        "tools": [tool],
        "system": "rules and more",
        "messages": [{"role": "user", "content": "a long text"}],
    }
    before = str(body)
    places = [Place(("tools", 0)), Place(("system",), 6), Place(("messages", 0, "content"), 7)]
    new = marked(body, "cache_control", places, hour=True)
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert str(body) == before
    assert new["tools"] == [tool | mark]
    assert new["system"] == [{"type": "text", "text": "rules ", **mark}, {"type": "text", "text": "and more"}]
    assert new["messages"][0]["content"] == [
        {"type": "text", "text": "a long ", **mark},
        {"type": "text", "text": "text"},
    ]
    assert text_of("anthropic", new).replace(b"\n", b"") == text_of("anthropic", body).replace(b"\n", b"")
    assert len(own_ends(new, blocks_of("anthropic", new))) == 3


@pytest.mark.parametrize(
    ("url", "model", "minimum", "asked"),
    [
        ("https://api.openai.com/v1", "gpt-4.1", 1_024, "itself"),
        ("https://api.openai.com/v1", "gpt-5.5", 2_048, "itself"),
        ("https://api.openai.com/v1", "gpt-5.6-mini", 1_024, "breakpoints"),
        ("https://api.openai.com/v1", "gpt-6.1", 1_024, "breakpoints"),
        ("https://api.anthropic.com", "claude-haiku-4-5", 4_096, "cache_control"),
        ("https://api.anthropic.com", "claude-sonnet-4-5-20250929", 1_024, "cache_control"),
        ("https://api.anthropic.com", "claude-sonnet-5", 1_024, "cache_control"),
        ("https://api.anthropic.com", "claude-opus-5-5", 512, "cache_control"),
        ("https://gateway.example", "openai/gpt-4o", 1_024, "itself"),
        ("https://generativelanguage.googleapis.com", "gemini-2.5-flash", 2_048, "itself"),
        ("https://generativelanguage.googleapis.com", "gemini-3-pro", 4_096, "itself"),
    ],
)
def test_the_terms_are_those_of_the_model(url: str, model: str, minimum: int, asked: str) -> None:
    terms = terms_of(url, model)
    assert terms is not None
    assert (terms.minimum, terms.asked) == (minimum, asked)


def test_of_an_unknown_server_nothing_is_assumed() -> None:
    assert terms_of("http://127.0.0.1:8000/v1", "qwen3-8b") is None


def test_a_body_that_nobody_has_thought_of_goes_out_as_it_is() -> None:
    family, odd = family_of("/v1/messages"), {"type": ["?"], "text": 1}
    body = {
        "model": "claude-opus-5-5",
        "system": [odd, RULES],
        "messages": [{"role": "user", "content": [odd]}],
    }
    where = ("https", "api.anthropic.com", None, "/v1/messages")
    call = call_of(family, where, {}, orjson.dumps({**body, "max_tokens": 9}))  # type: ignore[arg-type]
    assert call is not None
    prompts = Prompts("on")
    assert [prompts.asking(call, lambda _: None) for _ in range(3)] == [None] * 3


def test_an_empty_text_is_never_marked() -> None:
    marking = Marking("cache_control", 2_048)
    parts = [{"type": "text", "text": RULES}, {"type": "text", "text": ""}]
    blocks = blocks_of("anthropic", {"system": parts, "messages": []})
    prompt = b"\n".join(block.text for block in blocks)
    marking.places(blocks, prompt, 0)
    assert [place for place, _ in marking.places(blocks, prompt, len(prompt))] == [Place(("system", 0))]


def leading() -> tuple[Asking, Asking]:
    """One that goes, and one that must wait for it."""
    shared = Shared(ITSELF, Prefixes(ITSELF), Patience())
    first, second = (
        Asking(shared, asking(shared.prefixes, b"s" * 4_000 + end, 0), 4_001, None) for end in (b"1", b"2")
    )
    assert first.go(0) is None
    assert second.go(0) == (first, LONGEST_S)
    return first, second


def test_a_thread_waits_until_the_leader_is_answered_its_row_is_closed_or_it_takes_too_long() -> None:
    ended: list[object] = []

    def wait(row: RowAccount, leader: Asking, seconds: float) -> None:
        try:
            ended.append(hold_sync(row, Hold(leader, seconds)))
        except RowClosed:
            ended.append("closed")

    for how, expected in (("answered", True), ("closed", "closed"), ("slow", False)):
        (leader, _), row = leading(), RowAccount(a_run(), 0)
        thread = threading.Thread(target=wait, args=(row, leader, 0.001 if how == "slow" else 60.0))
        thread.start()
        while how != "slow" and not leader._waiting:
            thread.join(0.001)
        if how == "answered":
            leader.over(None, None, answered=True)
        elif how == "closed":
            row.close()
        thread.join(30)
        assert ended.pop() == expected
        assert not leader._waiting
    assert hold_sync(RowAccount(a_run(), 0), Hold(_over(), 60.0))


def _over() -> Asking:
    leader, _ = leading()
    leader.over(None, None, answered=False)
    return leader
