"""Plugins: the package in examples/plugins, installed into a folder of its own."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command

PACKAGE = ROOT / "examples" / "plugins"


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with this one in it."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_")
    info = folder / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    groups = project["entry-points"].items()
    said = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in of.items()) for group, of in groups
    ]
    (info / "entry_points.txt").write_text(
        "\n".join([*said, "[cottonpalm.readers]", "bad = no_such_module:f", ""])
    )
    (folder / f"{name}.py").write_bytes((PACKAGE / f"{name}.py").read_bytes())
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_package_brings_a_provider_a_format_and_an_observer(
    site: Path, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.ltsv").write_text("id:1\ttext:hello\nid:2\ttext:ab\n")
    asked = (
        "run",
        "in.ltsv",
        "-o",
        "out.ltsv",
        "-p",
        "{text}",
        "--model",
        "echo:loud",
        "--observer",
        "lengths",
    )
    said = cottonpalm(*asked, "-q")
    assert (said.code, said.err) == (0, "longest answer: 6 characters\n")
    assert (folder / "out.ltsv").read_text() == (
        "id:1\ttext:hello\toutput:HELLO!\tstatus:ok\nid:2\ttext:ab\toutput:AB!\tstatus:ok\n"
    )
    assert cottonpalm("export", "out", "-o", "again.ltsv").code == 0
    assert (folder / "again.ltsv").read_bytes() == (folder / "out.ltsv").read_bytes()


def test_a_plugin_that_is_not_there_or_does_not_work_is_one_line(
    site: Path, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.ltsv").write_text("id:1\ttext:hello\n")
    (folder / "in.bad").write_text("")
    asked = ("-p", "{text}", "--model", "echo:loud", "-o", "out.csv")
    assert "there are lengths" in cottonpalm("run", "in.ltsv", *asked, "--observer", "none").one_line
    assert "cannot be imported: ModuleNotFoundError" in cottonpalm("run", "in.bad", *asked).one_line
    server = cottonpalm("run", "in.ltsv", *asked, "--base-url", "http://127.0.0.1:9/v1").one_line
    assert "an echo has no server" in server
    (folder / "in.ltsv").write_text("no label\n")
    assert "in.ltsv cannot be read: ValueError" in cottonpalm("run", "in.ltsv", *asked).one_line
