"""The progress display, the summary's words, and what foreign text may not do."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from cottonpalm import clock
from cottonpalm.cli.screen.summary import Counts, Summary, Tally, advice_in, resume_command
from cottonpalm.engine.input.keys import Distinct
from cottonpalm.events import (
    Binding,
    BudgetShare,
    CostSpike,
    EndpointRests,
    Paused,
    RequestFinished,
    RowFinished,
    RunEnded,
    RunStarted,
)
from cottonpalm.observers.measures.reported import BatchUse, Repeats
from cottonpalm.observers.terminal.panel import line
from cottonpalm.observers.terminal.progress import PLAIN_EVERY_S, Progress
from cottonpalm.observers.words.formatting import clean, count, duration, model_in, money, rate
from cottonpalm.observers.words.numbers import share_of_budget
from cottonpalm.shell import command_on
from cottonpalm.types import ErrorRecord, Kind, Outcome
from tests.report.made import made

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command

NOTHING = Binding("", "")


@dataclass(frozen=True)
class Numbers:
    total: int | None = None
    stored: int = 0
    ok: int = 0
    failed: int = 0
    finished: bool = False
    requests: int = 0
    limit: float = 10.0
    binding: Binding = NOTHING
    pause_s: float = 0.0
    silent_s: float = 0.0
    trouble: str = ""
    attempts: int = 0
    allowed_per_s: float | None = None
    cost_usd: float = 0
    budget_spent_usd: float | None = None
    cost_known: bool = True
    chunks: int | None = None
    chunks_total: int | None = None
    out: int = 0


def screen(terminal: bool, width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width, highlight=False, markup=False, emoji=False
    )


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_chunks_are_counted_where_rows_come_in_chunks() -> None:
    progress = Progress(console=screen(terminal=False))
    for chunks, total, said in ((3, 10, "chunks 3/10"), (1200, None, "1,200 chunks")):
        numbers = Numbers(total=100, ok=30, chunks=chunks, chunks_total=total)
        assert said in line(progress.numbers(numbers), 120)
    assert "chunk" not in line(progress.numbers(Numbers(total=100, ok=30)), 120)


def test_while_all_waits_for_batches_no_time_that_is_left_is_guessed() -> None:
    progress = Progress(console=screen(terminal=False))
    for ok in range(0, 60, 10):
        progress.numbers(Numbers(total=100, ok=ok))
    waiting = progress.numbers(Numbers(total=100, ok=60, out=40, binding=Binding("batch", "")))
    assert waiting.left is None
    assert "left" not in (said := line(waiting, 120))
    assert "waits for batches" in said
    assert "40 out" in said


def test_while_the_users_own_ceiling_binds_the_time_that_is_left_is_reckoned_by_it() -> None:
    """Rows that come forty seconds apart leave no trace in half a minute."""
    now = 0.0
    clock.replace(lambda: now)
    own = Binding("own tokens", "host/model")
    try:
        progress, left = Progress(console=screen(terminal=False)), []
        for second in range(200):
            now, done = float(second), 1 + second // 40
            seen = Numbers(total=11, ok=done, attempts=2 * done, allowed_per_s=0.05, binding=own)
            found = progress.numbers(seen).left
            assert found is not None
            left.append(found.seconds)
    finally:
        clock.replace()
    assert left == [40.0 * (10 - second // 40) for second in range(200)]


def test_why_it_binds_is_told_beside_the_line_once_and_below_the_numbers_on_a_terminal() -> None:
    now = 0.0
    clock.replace(lambda: now)
    try:
        console = screen(terminal=False)
        progress = Progress(console=console)
        why = "requests per second: about 40, found from 3 rejections"
        progress.watch(lambda: Numbers(total=10, ok=5, binding=Binding("pace", "host/m", why)))
        for second in range(25):
            now = float(second)
            progress._tick()
    finally:
        clock.replace()
    assert shown(console).count(f"  request rate: {why}\n") == 1
    terminal = screen(terminal=True)
    progress = Progress(console=terminal)
    progress.watch(lambda: Numbers(total=10, ok=5, binding=Binding("pace", "host/m", why)))
    progress.see(RunStarted("night", None))
    progress._tick()
    progress.see(RunEnded(None))
    assert why in shown(terminal)


def test_a_ceiling_that_does_not_bind_says_nothing_of_the_time_that_is_left() -> None:
    now = 0.0
    clock.replace(lambda: now)
    try:
        progress = Progress(console=screen(terminal=False))
        progress.numbers(Numbers(total=1000, ok=0, allowed_per_s=1.0))
        now = 10.0
        left = progress.numbers(Numbers(total=1000, ok=500, attempts=5, allowed_per_s=1.0)).left
    finally:
        clock.replace()
    assert left is not None
    assert left.seconds == pytest.approx(10.0), "rows that the cache answers need no request"


def test_where_there_is_no_terminal_a_line_comes_every_ten_seconds() -> None:
    now = 0.0
    clock.replace(lambda: now)
    try:
        console = screen(terminal=False)
        progress = Progress(console=console)
        progress.watch(lambda: Numbers(total=10, ok=5))
        progress._next_plain_s = PLAIN_EVERY_S
        for second in range(25):
            now = float(second)
            progress._tick()
    finally:
        clock.replace()
    assert shown(console).splitlines() == ["5 of 10 (50 %), 0 failed, 0/10 in flight, 0/s, $0"] * 2


def test_on_a_terminal_the_display_is_redrawn_and_taken_away_at_the_end() -> None:
    console = screen(terminal=True)
    progress = Progress(console=console, total=lambda: (10, True))
    progress.watch(lambda: Numbers(ok=5))
    progress.see(RunStarted("night", None))
    progress._tick()
    progress.see(RunEnded(None))
    assert "night" in shown(console)
    assert "5 of 10 (50 %)" in shown(console)
    assert shown(console).endswith("\x1b[2K")  # the last thing is an erased line


def test_what_a_handler_logs_that_was_made_before_the_display_stands_above_it() -> None:
    console, drawn, log = screen(terminal=True), threading.Event(), logging.getLogger("tests.of.a.user")
    handler = logging.StreamHandler()
    before = handler.stream
    log.addHandler(handler)
    try:
        progress = Progress(console=console, total=lambda: (10, True))
        progress.watch(lambda: (drawn.set(), Numbers(ok=5))[1])
        progress.start()
        assert drawn.wait(20)
        log.warning("a line of the user's own")
        progress.close()
    finally:
        log.removeHandler(handler)
    assert "a line of the user's own\n" in shown(console)
    assert handler.stream is before


def test_a_display_that_gets_no_thread_is_left_out_and_tells_at_the_end() -> None:
    console = screen(terminal=False)
    progress = Progress(total=3, console=console)
    threading.stack_size(1 << 46)  # more than the system has: it refuses the thread, as with `ulimit -u`
    try:
        progress.start()
    finally:
        threading.stack_size(0)
    progress.say("pause: somebody asks to wait")
    progress.close()
    assert shown(console) == "pause: somebody asks to wait\n"


def test_what_the_terminal_echoes_of_an_interrupt_fits_behind_the_last_line() -> None:
    console = screen(terminal=True, width=60)
    progress = Progress(console=console, total=lambda: (1000, True))
    progress.see(RowFinished(Outcome(3, "failed", error=replace(ERROR, message="long " * 40))))
    lines = progress.picture(progress.numbers(Numbers(ok=5, failed=1))).renderables
    assert lines[-1].cell_len + len("^C") == 60


def told(*events: object, verbose: bool) -> list[str]:
    console = screen(terminal=False)
    progress = Progress(console=console, verbose=verbose, lines=False)
    for event in events:
        progress.see(event)  # type: ignore[arg-type]
    progress.close()
    progress._tell()
    return shown(console).splitlines()


ERROR = ErrorRecord(Kind.THROTTLE, "RateLimit", "[bold]slow\x1b[31m\ndown")
EVENTS = (
    Paused("host m", 5.0),
    RequestFinished(3, "host m", 429, Kind.THROTTLE, 0.5, None),
    RequestFinished(4, "host m", 200, None, 0.5, None),
    RowFinished(Outcome(3, "failed", error=ERROR)),
)


def test_verbose_tells_of_pauses_retries_and_failures_and_lets_no_text_touch_the_terminal() -> None:
    assert told(*EVENTS, verbose=True) == [
        "pause: host m asks to wait 5.0 s",
        "row 4 (index 3): HTTP 429 from host m after 0.5 s (throttle)",
        "row 4 (index 3) failed (throttle): RateLimit: [bold]slow\\x1b[31m down",
    ]


def test_without_verbose_only_long_pauses_are_told() -> None:
    assert told(*EVENTS, Paused("host m", 5400.0), verbose=False) == ["pause: host m asks to wait 1 h 30 min"]


def test_foreign_text_is_one_harmless_line() -> None:
    assert clean("a\nb\tc") == "a b c"
    assert clean("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert clean("\u202egnp.exe\u200b") == "\\u202egnp.exe\\u200b"
    assert clean("😀 ü") == "😀 ü"
    assert clean("\ud800") == "\\ud800"
    assert len(clean("x" * 1000)) == 200


def test_on_a_page_letters_and_pictures_that_are_joined_stay_so() -> None:
    for said in (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f467 \u2764\ufe0f\u200d\U0001f525",
    ):
        assert clean(said, joined=True) == said
        assert "\\u200" in clean(said), "terminals disagree about their width"
    assert clean("pay\u200dpal \u200ca \u202e", joined=True) == "pay\\u200dpal \\u200ca \\u202e"


def test_numbers_are_said_as_people_say_them() -> None:
    assert [count(1, "row"), count(1200, "row")] == ["1 row", "1,200 rows"]
    assert [money(0), money(12_000_000), money(12_300_000_000), money(1_234_560_000_000_000)] == [
        "$0",
        "$0.000012",
        "$0.0123",
        "$1,234.56",
    ]
    assert [duration(s) for s in (0.04, 9.94, 9.96, 59.6, 72, 3600, 11_100, 187_200)] == [
        "40 ms", "9.9 s", "10 s", "1 min 00 s", "1 min 12 s", "1 h 00 min", "3 h 05 min", "2 d 4 h",
    ]  # fmt: skip
    assert [rate(r) for r in (1234.0, 6.9, 0.5, 0.001)] == ["1,234/s", "6.9/s", "30.0/min", "3.6/h"]


# -- the summary ------------------------------------------------------------------------------------------------------


def hashes(distinct: int, rows: int, seed: int) -> list[bytes]:
    rng = Random(seed)
    kinds = [rng.randbytes(16) for _ in range(distinct)]
    found = [*kinds, *(rng.choice(kinds) for _ in range(rows - distinct))]
    rng.shuffle(found)
    return found


def test_repeats_are_counted_exactly_while_they_fit() -> None:
    counter = Distinct(most=1000)
    for content in hashes(700, 1000, 1):
        counter.add(content)
    assert (counter.repeats, counter.exact) == (300, True)


def test_beyond_that_repeats_are_estimated_in_bounded_memory() -> None:
    counter = Distinct(most=1000)
    for content in hashes(20_000, 30_000, 2):
        counter.add(content)
        assert len(counter._seen) <= 1000
    assert not counter.exact
    assert 8_000 <= counter.repeats <= 12_000


def repeated(times: int) -> Distinct:
    asked = Distinct()
    for _ in range(times + 1):
        asked.add(b"the same question")
    return asked


def test_advice_that_is_worth_a_line_is_told_at_the_end() -> None:
    report = made(1000, cost_usd=10.0, batch=BatchUse(380, 4.20), repeats=Repeats(300, 3.0))
    [said] = advice_in(report)
    assert said.startswith("Send rows through the batch lane. 380 rows (38 %)"), (
        "repeats have a line of their own"
    )
    assert summary(advice=(said,))["advice"] == said
    assert advice_in(made(1000)) == ()
    assert "advice" not in summary()


def summary(**changes: object) -> dict[str, str]:
    given = Summary(
        uncertain_pico=0,
        name="night",
        counts=Counts(ok=90, failed=10),
        left=0,
        tally=Tally(
            asked=repeated(5),
            answers=50,
            rows=100,
            kinds={"the provider asked to wait (throttle)": 10},
            first_failed="row 3: E: x",
        ),
        seconds=10.0,
        used=(1000, 200),
        cost_pico=2 * 10**12,
        cost_whole=True,
        cost_total_pico=4 * 10**12,
        results="out.jsonl",
        retry="cottonpalm retry night",
        resume=None,
    )
    return dict(replace(given, **changes).lines())  # type: ignore[arg-type]


def test_the_summary_says_how_it_went_what_it_took_and_how_to_go_on() -> None:
    assert summary() == {
        "night": "100 rows: 90 ok, 10 failed",
        "time": "10 s for 100 rows, 10.0/s",
        "cost": "$2.00, 1,000 tokens in, 200 out ($4.00 for the whole run)",
        "repeats": "5 rows the same as an earlier one: --cache would have saved 5 calls, about $0.2000",
        "failed": "10 the provider asked to wait (throttle); the first, row 3: E: x",
        "results": "out.jsonl",
        "retry": "cottonpalm retry night",
    }


def test_what_may_be_charged_besides_is_a_line_of_its_own() -> None:
    most = "up to $0.0300 besides, for requests whose answer never came, or whose cost was not told or not stored"
    assert summary(uncertain_pico=3 * 10**10)["uncertain"] == most


def test_shares_of_the_budget_and_dear_rows_are_said_above_the_progress() -> None:
    console = screen(terminal=False)
    progress = Progress(console=console)
    for share in (0.5, 0.8, 1.0):
        progress.see(BudgetShare(share, share, 1.0))
    progress.see(CostSpike(7, 0.6, 0.01))
    progress.start()
    progress.close()
    assert re.findall(r"budget: (\d+) % reached", shown(console)) == ["50", "80", "100"]
    assert "row 8 (index 7) cost $0.6000, where others cost $0.0100" in shown(console)


def test_rows_that_are_left_or_unknown_are_said() -> None:
    assert summary(left=900)["night"] == "1,000 rows: 90 ok, 10 failed, 900 left"
    assert summary(left=None)["night"] == "100 rows: 90 ok, 10 failed, the input was not read to its end"
    assert summary(cost_whole=False)["cost"].startswith("at least $2.00, 1,000 tokens in")
    assert summary(cost_pico=None)["cost"].startswith("no price known for this model: --price IN:OUT")


def test_commands_can_be_pasted() -> None:
    assert command_on("retry", "my run", "cottonpalm.db") == "cottonpalm retry 'my run'"
    assert command_on("cancel", "r", "other.db") == "cottonpalm cancel r --store other.db"
    argv = ["run", "in.csv", "--fresh", "--overwrite", "-p", "Is {text} good?"]
    assert resume_command(argv) == "cottonpalm run in.csv -p 'Is {text} good?'"


def test_what_is_left_of_a_budget_is_not_called_spent() -> None:
    assert share_of_budget(BudgetShare(0.5, 0.5, 1.0)) == "budget: 50 % reached, $0.50 of $1.00"
    assert share_of_budget(BudgetShare(1.0, 1.0, 1.0)) == "budget: 100 % reached, $1.00 of $1.00"
    early = share_of_budget(BudgetShare(1.0, 0.27, 1.0))
    assert early == "budget: $0.27 of $1.00 is spent, and what is left is too little for another request"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (Numbers(binding=Binding("down", "host/m"), pause_s=12.4), "provider down, 12 s to go"),
        (
            Numbers(binding=Binding("down", "h/m"), pause_s=12.4, trouble="connection refused at h:1"),
            "connection refused at h:1, 12 s to go",
        ),
        (
            Numbers(binding=Binding("concurrency", "h/m"), silent_s=45.0, trouble="unknown host h"),
            "unknown host h",
        ),
        (Numbers(binding=Binding("pause", "host/m"), pause_s=75.0), "pause, 1 min 15 s to go"),
        (Numbers(binding=Binding("concurrency", "host/m"), requests=10, silent_s=45.2), "no answer for 45 s"),
        (Numbers(binding=Binding("concurrency", "host/m"), requests=10, silent_s=5.0), "at the limit"),
        (
            Numbers(binding=Binding("down", "host/m"), pause_s=4.0, silent_s=90.0),
            "provider down, 4.0 s to go",
        ),
    ],
)
def test_the_line_says_what_is_wrong_with_the_provider_and_for_how_long(numbers: Numbers, said: str) -> None:
    shown_now = Progress(console=screen(False)).numbers(replace(numbers, total=100, ok=3))
    assert said in line(shown_now, 120)


def test_an_endpoint_that_rests_is_told_once_when_it_is_serious() -> None:
    rests = [
        EndpointRests("gpu-1/m", s, "Connection error.", Kind.TRANSIENT) for s in (1, 2, 4, 8, 30, 30, 30)
    ]
    lines = told(*rests, verbose=False)
    assert lines == [
        "endpoint gpu-1/m rests for 8.0 s, the others go on: Connection error.",
        "endpoint gpu-1/m rests for 30 s, the others go on: Connection error.",
    ]
    assert len(told(*rests, verbose=True)) == 7
    refusal = EndpointRests("gpu-1/m", 60.0, "401: no such key", Kind.STOP_RUN)
    assert told(refusal, verbose=False) == [
        "endpoint gpu-1/m rests for 1 min 00 s, the others go on: 401: no such key"
    ]


def test_a_narrow_line_leaves_all_else_out_before_the_reason_why_nothing_goes_on() -> None:
    dead = Numbers(
        total=200_000, ok=103_456, failed=1_234, binding=Binding("down", "h/m"), pause_s=12.4,
        trouble="the name cannot be found at api.example-company.com",
    )  # fmt: skip
    for numbers in (dead, replace(dead, binding=Binding("concurrency", "h/m"))):
        said = line(Progress(console=screen(False)).numbers(numbers))
        assert "the name cannot be found at api.example-company.com" in said
        assert said.startswith("104,690 of 200,000")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("api.openai.com/gpt-4o-mini", "api.openai.com/gpt-4o-mini"),
        (
            "a-very-long-host.of.some.cloud.example.com:8443/gpt-4o-mini",
            "a-very-long-host.of.some.c…/gpt-4o-mini",
        ),
        (
            "host/org/a-model-whose-own-name-is-longer-than-all-room",
            "host/org/a-model-whose-own-name-is-lon…",
        ),
        ("a-name-without-a-host-that-is-longer-than-all-the-room", "a-name-without-a-host-that-is-longer-t…"),
    ],
)
def test_of_a_long_host_and_model_the_host_is_cut_first(model: str, said: str) -> None:
    assert model_in(model, 39) == said


def test_a_run_that_goes_on_shows_the_rows_that_failed_before(cottonpalm: Command, folder: Path) -> None:
    (folder / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(6)))
    (folder / "cp_odd.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "def odd(row):\n"
        "    if not row['n'] % 2: raise ValueError('even')\n"
        "    return 'x'\n"
        "chain = RunnableLambda(odd)\n"
    )
    words = ("run", "in.jsonl", "-o", "out.jsonl", "--chain", "cp_odd:chain", "--limit")
    assert cottonpalm(*words, "5").code == 3
    assert "3 before" in on_a_terminal(folder, *words, "6")
    assert "before" not in on_a_terminal(folder, "retry", "out")


def on_a_terminal(folder: Path, *words: str) -> str:
    """What a command shows on its stderr, where that is a terminal."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "cottonpalm", *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # of Linux, at the end
            while block := os.read(ours, 4096):
                shown += block
    os.close(ours)
    return shown.decode()
