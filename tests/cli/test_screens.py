"""What people read: names, failures and holders as one can say them."""

from __future__ import annotations

import re
from pathlib import Path

import cottonpalm
from cottonpalm.cli.screen.screen import holder_of
from cottonpalm.cli.screen.summary import Tally
from cottonpalm.cli.screen.wording import SAID, here
from cottonpalm.protocols import RunInfo
from cottonpalm.shell import command_on
from cottonpalm.stores.rules.changes import compare
from cottonpalm.types import ErrorRecord, Kind, Outcome


def test_who_holds_a_run_is_said_in_words() -> None:
    info = RunInfo("r", 0.0, 0, 0, 0, 0, {}, "host-1 4711 1795618678")
    said = holder_of(info) or ""
    assert re.fullmatch(r"process 4711 on host-1, since 2026-11-\d\d \d\d:\d\d:\d\d \S+", said)
    assert holder_of(info._replace(holder=None)) is None
    assert holder_of(info._replace(holder="this process (pid 3)")) == "this process (pid 3)"


def test_a_retry_command_can_be_pasted_whatever_the_run_is_called() -> None:
    assert command_on("retry", "two words", "cottonpalm.db") == "cottonpalm retry 'two words'"
    assert command_on("retry", "r", "t.db") == "cottonpalm retry r --store t.db"
    assert command_on("retry", "-r", "t.db") == "cottonpalm retry --store t.db -- -r"


def test_an_error_without_a_message_is_its_type() -> None:
    tally = Tally()
    tally.add(Outcome(3, "failed", error=ErrorRecord(Kind.FAIL_ROW, "CancelledError", "")))
    assert tally.first_failed == "row 4 (index 3): CancelledError"


def test_the_library_speaks_the_words_of_the_command_line() -> None:
    said = here(
        "an output of type Review would not come back from the store equal: pass output_type=Review so that it can be "
        "rebuilt (its class must also survive a round trip through JSON)"
    )
    assert "(def answer(row) -> Review), or return its model_dump() (its class" in said


def test_prices_and_maxima_are_asked_for_by_their_flags() -> None:
    said = "no price is known for 'm': pass prices={'m': (in, out)}, dollars per million tokens (--price m=IN:OUT)"
    assert here(said) == "no price is known for 'm': say --price m=IN:OUT, dollars per million tokens"
    told = "so what it costs is not counted; prices={'m': (in, out)} (--price m=IN:OUT) says it"
    assert here(told) == "so what it costs is not counted; --price m=IN:OUT says it"
    assert here("m: pass prices= (--price m=IN:OUT)") == "m: say --price m=IN:OUT, dollars per million tokens"
    assert here("set max_tokens on the model") == "say --model-option max_tokens=N"


def test_every_word_of_the_library_that_is_put_otherwise_is_still_said_there() -> None:
    package = Path(cottonpalm.__file__).parent
    files = [path for path in package.rglob("*.py") if path.name != "wording.py"]
    code = re.sub(r'"\s*f?"', "", "".join(path.read_text(encoding="utf-8") for path in files))
    for python, _ in SAID:
        if r"steps\[" in python:  # put together from a part of the chain: see below
            continue
        beginning = re.sub(r"\\", "", python.removeprefix(" (rows?)").partition("(.+?)")[0])
        assert beginning in code, python


def test_parts_of_the_chain_that_changed_are_put_otherwise() -> None:
    def said(part: str, old: dict[str, str], new: dict[str, str]) -> str:
        [sentence] = compare({f"steps[1] {part}": old}, {f"steps[1] {part}": new}).refuse
        return here(sentence)

    assert said("RowPrompt", {"template": "a"}, {"template": "b"}) == 'the prompt changed: "a" -> "b"'
    assert said("RowPrompt", {"system": "a"}, {"system": "b"}) == 'the prompt: its system changed: "a" -> "b"'
    for name in ("model", "model_name"):
        assert said("ChatOpenAI", {name: "a"}, {name: "b"}) == 'the model changed: "a" -> "b"'
    assert said("ChatOpenAI", {"top": "1"}, {"top": "2"}) == 'the model: its top changed: "1" -> "2"'
