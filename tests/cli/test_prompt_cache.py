"""`--prompt-cache`: a prompt that the command builds asks for the provider's cache, and says what it would save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback
    from tests.support.replies import Request

GUIDE = "".join(f"Rule {number:03}: say what is so and nothing else.\n" for number in range(100))


def test_a_prompt_of_the_command_asks_for_the_cache_unless_told_not_to(
    cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    systems: list[Any] = []

    def script(request: Request) -> None:
        systems.append(request.body["system"])

    server.script(script)
    (folder / "in.jsonl").write_text("".join(f'{{"text": "row {n}"}}\n' for n in range(6)))
    (folder / "guide.md").write_text(GUIDE)
    model = (
        "--model",
        "anthropic:claude-opus-5-5",
        "--base-url",
        server.url,
        "--model-option",
        "max_tokens=64",
    )
    words = (*model, "--system", GUIDE, "--prompt", "say {text}")

    planned = cottonpalm("plan", "in.jsonl", *words)
    assert "input tokens" in planned.out
    assert "cached on request, they cost 5 % of the price" in planned.out.replace("\n           ", " ")
    off = cottonpalm("plan", "in.jsonl", *words, "--prompt-cache", "off")
    assert "--prompt-cache on could save about" in off.out.replace("\n           ", " ")

    assert cottonpalm("run", "in.jsonl", "-o", "on.jsonl", *words).code == 0
    marks = [system[0].get("cache_control") for system in systems if isinstance(system, list)]
    assert marks == [{"type": "ephemeral"}] * 5  # the first is sent before it is known what rows share

    systems.clear()
    assert cottonpalm("run", "in.jsonl", "-o", "off.jsonl", *words, "--prompt-cache", "off").code == 0
    assert systems == [GUIDE] * 6
    assert cottonpalm("run", "in.jsonl", "-o", "c.jsonl", *words, "--prompt-cache", "no").one_line
