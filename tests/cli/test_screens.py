"""What people read: names, failures and holders as one can say them."""

from __future__ import annotations

import pytest

from cottonpalm.cli.render import holder_of
from cottonpalm.cli.summary import Tally, retry_command
from cottonpalm.model import ErrorRecord, Kind, Outcome
from cottonpalm.protocols import RunInfo

pytestmark = pytest.mark.core


def test_who_holds_a_run_is_said_in_words() -> None:
    info = RunInfo("r", 0.0, 0, 0, 0, 0, {}, "host-1 4711 1795618678")
    assert (holder_of(info) or "").startswith("process 4711 on host-1, since 2026-11-")
    assert holder_of(info._replace(holder=None)) is None
    assert holder_of(info._replace(holder="this process (pid 3)")) == "this process (pid 3)"


def test_a_retry_command_can_be_pasted_whatever_the_run_is_called() -> None:
    assert retry_command("two words", "s.db", "s.db") == "cottonpalm retry 'two words'"
    assert retry_command("r", "t.db", "s.db") == "cottonpalm retry r --store t.db"
    assert retry_command("-r", "t.db", "s.db") == "cottonpalm retry --store t.db -- -r"


def test_an_error_without_a_message_is_its_type() -> None:
    tally = Tally()
    tally.add(Outcome(3, "failed", error=ErrorRecord(Kind.FAIL_ROW, "CancelledError", "")))
    assert tally.first_failed == "row 3: CancelledError"
