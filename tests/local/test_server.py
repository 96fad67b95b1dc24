"""The embedded model answers like any other chat model, costs nothing, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cottonpalm.chain.fingerprint import describe
from cottonpalm.errors import ConfigError, LocalModelError
from cottonpalm.local import fetch, server
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import Usage
from tests.support.loopback import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LABELS = 'root ::= "positive" | "negative"'


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "no-such-model"}, "write smollm2, or the path of a .gguf file"),
        ({"threads": 0}, "threads must be a whole number of at least 1"),
        ({"slots": "four"}, "slots must be a whole number of at least 1"),
        ({"slots": 8, "n_ctx": 4}, "n_ctx is shared by its slots"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        server.model(**settings)  # type: ignore[arg-type]


def test_a_file_of_another_kind_is_refused_before_the_engine_starts(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("hello")
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        server.model(tmp_path / "notes.gguf")


def test_a_broken_model_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\xff" * 5000)
    with pytest.raises(LocalModelError, match=r"the engine could not load .*broken\.gguf") as caught:
        server.model(tmp_path / "broken.gguf")
    assert "\n" not in str(caught.value)


def test_a_frozen_program_is_not_started_again_in_place_of_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(LocalModelError, match="a frozen program"):
        server.model()


@pytest.mark.usefixtures("real_model")
class TestTheRealModel:
    def test_every_answer_is_one_of_the_labels_the_grammar_allows(self) -> None:
        chat = server.model(grammar=LABELS, max_tokens=16)
        answers = chat.batch(["I love it.", "It broke at once.", "Fine."], {"max_concurrency": 3})
        assert {answer.content for answer in answers} <= {"positive", "negative"}
        assert all(answer.usage_metadata["input_tokens"] > 0 for answer in answers)

    def test_the_same_settings_share_one_engine_and_others_get_another(self, tmp_path: Path) -> None:
        path = fetch.status().path
        (tmp_path / "other.gguf").symlink_to(path)
        first, second, other = (
            server.model(),
            server.model(max_tokens=3),
            server.model(tmp_path / "other.gguf"),
        )
        assert first.openai_api_base == second.openai_api_base != other.openai_api_base

    def test_its_name_holds_no_folder_and_follows_the_content(self, tmp_path: Path) -> None:
        (tmp_path / "other.gguf").symlink_to(fetch.status().path)
        chat = server.model(tmp_path / "other.gguf", max_tokens=1)
        assert chat.model_name.startswith("local:other.gguf@")
        assert chat.invoke("Hi").response_metadata["model_name"] == chat.model_name

    def test_it_can_be_asked_from_one_event_loop_after_another(self) -> None:
        chat = server.model(max_tokens=1)
        assert all(asyncio.run(chat.ainvoke("Hi")).content for _ in range(2))

    def test_a_proxy_of_the_environment_never_sees_its_requests(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert server.model(max_tokens=1).invoke("Hi").content

    def test_its_free_port_stays_out_of_the_fingerprint(self) -> None:
        before = describe(server.model(max_tokens=1))
        server.stop()
        after = server.model(max_tokens=1)
        assert describe(after) == before

    def test_its_price_is_zero(self) -> None:
        chat = server.model()
        rates = PriceBook().rates(chat.model_name, chat.openai_api_base)
        assert rates is not None
        assert rates.cost(Usage(1000, 1000)) == 0

    def test_an_engine_that_died_is_started_again(self) -> None:
        server.stop()
        assert server.model(max_tokens=1).invoke("Hi").content

    def test_the_engine_finds_its_package_where_the_program_found_it_though_only_its_own_path_names_it(
        self,
    ) -> None:
        python = getattr(
            sys, "_base_executable", sys.executable
        )  # that of the environment finds it by itself
        code = (
            f"import sys; sys.path += {[*sys.path, str(ROOT / 'src')]!r}\n"
            "from cottonpalm.local import server; print(bool(server.model(max_tokens=1).invoke('Hi').content))"
        )
        words = [python, "-I", "-S", "-c", code]  # -S: the system may have other versions of our packages
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("True\n", "")

    @pytest.mark.parametrize("ending", ["exit", "kill"])
    def test_no_engine_outlives_its_process_even_with_a_request_in_flight(self, ending: str) -> None:
        code = (
            "import threading, sys; from cottonpalm.local import server\n"
            "chat = server.model(max_tokens=900)\n"
            "chunks = chat.stream('Tell a very long story.'); next(chunks)\n"
            "engine = next(iter(server._engines.values()))\n"
            "print(engine._process.pid, flush=True)\n" + ("sys.stdin.read()" if ending == "kill" else "")
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            try:
                engine = os.fdopen(os.pidfd_open(pid))
            except ProcessLookupError:  # both have ended already
                assert ending == "exit"
                return
            with engine:
                if ending == "kill":
                    process.send_signal(signal.SIGKILL)
                process.wait()
                assert select.select([engine], [], [], 30)[0], "the engine is still there"
