"""Plugins: the package in examples/plugins, installed into a folder of its own."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command

FAULTS = """
def raises(*given, **options):
    raise RuntimeError("not today")


def no_model(name, **options):
    return 3
"""
OF_FAULTS = """
late = faults:raises
[cottonpalm.writers]
halfway = faults:raises
[cottonpalm.providers]
down = faults:raises
number = faults:no_model
[cottonpalm.observers]
murky = faults:raises
"""
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
        "\n".join([*said, "[cottonpalm.readers]", "bad = no_such_module:f", OF_FAULTS, ""])
    )
    (folder / "faults.py").write_text(FAULTS)
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "down:x"), "--model down:x: RuntimeError: not today"),
        (("--model", "number:x"), "--model number:x: the plugin made no chat model of it (int)"),
        (("--model", "ecko:loud"), "unknown provider 'ecko'; did you mean echo?"),
        (("--model", "echo:loud", "--observer", "murky"), "--observer murky: RuntimeError: not today"),
    ],
)
def test_a_plugin_that_fails_is_named(
    site: Path, cottonpalm: Command, folder: Path, words: tuple[str, ...], said: str
) -> None:
    (folder / "in.csv").write_text("id,text\n1,hello\n")
    told = cottonpalm("run", "in.csv", "-p", "{text}", "-o", "out.csv", *words)
    assert told.code == 2
    assert said in told.one_line


def test_a_reader_that_fails_as_it_opens_its_file_names_the_file(
    site: Path, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.late").write_text("")
    told = cottonpalm("run", "in.late", "-p", "{text}", "-o", "out.csv", "--model", "echo:loud")
    assert told.code == 2
    assert "in.late cannot be read: RuntimeError: not today" in told.one_line


def test_a_writer_that_fails_names_the_file_and_where_the_answers_are(
    site: Path, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.csv").write_text("id,text\n1,hello\n")
    told = cottonpalm("run", "in.csv", "-p", "{text}", "-o", "out.halfway", "--model", "echo:loud")
    assert told.code == 4
    assert "cannot write to out.halfway: RuntimeError: not today; the results are safe in" in told.err
    assert "1 row: 1 ok" in told.err
