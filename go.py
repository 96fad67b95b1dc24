"""Set the project up and run it. Needs nothing but Python 3.11 or newer with its venv module.

python3 go.py demo    set up, then label 100 real review sentences with the embedded model
python3 go.py test    set up, then run every check
python3 go.py lock    write the pinned requirements anew (after one of the others, which bring uv)
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
NEWEST = (3, 13)  # the newest Python that is run
CORE = ["tests/contract", "tests/engine", "tests/request", "tests/unit", "tests/cli/test_run.py"]  # on NEWEST
UV_INSTALLS = ["pip", "install", "--quiet"]
PIP_INSTALLS = ["-m", "pip", "install", "--quiet", "--progress-bar", "off"]
# What uv is to know of pip's settings, as it calls them.
AS_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
PROBE = "import sys, ensurepip, venv; print(*sys.version_info[:2])"  # Debian packages the latter two apart
VENV_HELP = """
go.py could not make a virtual environment with {python}.
On Debian and Ubuntu its venv module is a package of its own:  apt-get install python3-venv
(for one particular Python: python3.11-venv, python3.13-venv). Then run the same command again.
"""


def say(line: str) -> None:
    """Show a line before what is run next, also when the output is a pipe."""
    print(line, flush=True)


def environment() -> dict[str, str]:
    """The caller's environment, less what would lead a virtual environment astray, or slow down each Python in it."""
    strays = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PYTHONDONTWRITEBYTECODE"}
    kept = {name: value for name, value in os.environ.items() if name not in strays}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(*command: str | Path, quiet: bool = False, more: dict[str, str] | None = None) -> bool:
    """Run a command in the repository, with more in its environment; True if it said 0."""
    out, env = subprocess.DEVNULL if quiet else None, {**environment(), **(more or {})}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=out, check=False)
    except OSError:
        return False
    return done.returncode == 0


def version_of(python: str) -> tuple[int, ...] | None:
    """Its version, or None where it does not run: a name on PATH may lead nowhere."""
    try:
        found = subprocess.run(
            [python, "-c", PROBE], env=environment(), capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return tuple(map(int, found.stdout.split())) if found.returncode == 0 and found.stdout.strip() else None


def find_python(wanted: tuple[int, int]) -> str | None:
    """A Python of this version, if the machine has one."""
    name = f"python{wanted[0]}.{wanted[1]}"
    candidates = [sys.executable, shutil.which(name), f"/usr/bin/{name}", f"/usr/local/bin/{name}"]
    return next((python for python in candidates if python and version_of(python) == wanted), None)


def any_python() -> str:
    """This Python if it is new enough, else any that is."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in (11, 12, 13, 14):
        if python := find_python((3, minor)):
            return python
    raise SystemExit(f"cottonpalm needs Python 3.11 or newer; this is {sys.version.split()[0]}")


def set_up(folder: str, python: str, requirements: str) -> Path:
    """A virtual environment with the pinned requirements and the project; quick when nothing has changed."""
    home, pinned = ROOT / folder, ROOT / "requirements" / requirements
    inner = home / "bin" / "python"
    stamp, state = home / f"go-{pinned.stem}.txt", state_of(pinned)
    if inner.exists() and version_of(str(inner)) and stamp.exists() and stamp.read_text() == state:
        return inner
    if not (
        inner.exists()
        and version_of(str(inner)) == version_of(python)
        and run(inner, "-m", "pip", "-V", quiet=True)
    ):
        say(f"== making {folder} with {python}")
        if not run(python, "-m", "venv", "--clear", home):
            raise SystemExit(VENV_HELP.format(python=python))
    say(f"== installing requirements/{requirements} (pinned, checked by hash)")
    if not (
        install(inner, "--require-hashes", "-r", str(pinned))
        and install(inner, *["--no-deps", "--no-build-isolation", "-e", "."])
    ):
        raise SystemExit("the requirements could not be installed; the lines above say why")
    stamp.write_text(state)
    return inner


def state_of(pinned: Path) -> str:
    """What an environment was made from."""
    digest = hashlib.sha256(pinned.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    return f"{ROOT} {digest.hexdigest()}\n"


def install(python: Path, *what: str) -> bool:
    """Install with uv, which takes a tenth of pip's time, or with the environment's own pip where uv does not work."""
    uv = find_uv(python)
    if uv and run(uv, *UV_INSTALLS, "--python", python, *what, quiet=True, more=settings_for_uv(python)):
        return True
    return run(python, *PIP_INSTALLS, *what)


def find_uv(python: Path) -> str | None:
    """The uv on PATH, else the environment's own, which pip fetches."""
    own = python.with_name("uv")
    if found := shutil.which("uv") or shutil.which(own):
        return found
    run(python, *PIP_INSTALLS, "--require-hashes", "-r", "requirements/uv.txt", quiet=True)
    return shutil.which(own)


def settings_for_uv(python: Path) -> dict[str, str]:
    """Where pip is told to find packages, and whom to trust, as uv wants to hear it."""
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    told = {"UV_SYSTEM_CERTS": "1", "UV_HTTP_CONNECT_TIMEOUT": "5"}  # seconds: only pip may reach anybody
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        if uv_name := AS_UV.get(name.rpartition(".")[2]):
            told[uv_name] = " ".join(str(ast.literal_eval(value)).split())
    return {name: value for name, value in told.items() if name not in os.environ}


def demo() -> int:
    """Label real sentences with the embedded model."""
    python = set_up(".venv", any_python(), "demo.txt")
    say("== the embedded model and its sentences")
    if not run(python, "-m", "cottonpalm.local"):
        return 1
    say("== cottonpalm demo")
    return subprocess.run(
        [python.with_name("cottonpalm"), "demo"], cwd=ROOT, env=environment(), check=False
    ).returncode


def browser() -> str | None:
    """The Chromium that the tests of pages look with; installed where that needs nobody's leave."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")  # as in tests/support/browser.py
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say("== installing Chromium, for the tests of pages")
        run("apt-get", "update", "-qq", quiet=True)
        run(
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "chromium",
            "fonts-dejavu-core",
            quiet=True,
        )
        found = shutil.which("chromium")
    return found


def test() -> int:
    """Run every check, all of them even when one fails; 0 if all passed.

    In CI the tests of pages have to run too; elsewhere a missing Chromium is named.
    """
    python = find_python(OLDEST) or any_python()
    newest = find_python(NEWEST) if version_of(python) != NEWEST else None
    with ThreadPoolExecutor(3) as setting_up:  # pip keeps one core busy for a minute
        looks = setting_up.submit(browser)
        other = setting_up.submit(set_up, ".venv-3.13", newest, "dev.txt") if newest else None
        inner = set_up(".venv", python, "dev.txt")
    newer = other.result() if other else None
    tools = inner.parent
    version = ".".join(map(str, version_of(str(inner)) or ()))
    beside: list[tuple[str, list[str | Path]]] = [
        (f"pytest, what mostly waits, Python {version}", [inner, "-m", "pytest", "-m", "waits"]),
        ("ruff check", [tools / "ruff", "check", "."]),
        ("ruff format", [tools / "ruff", "format", "--check", "."]),
        ("mypy", [tools / "mypy"]),
        ("import contracts", [tools / "lint-imports"]),
    ]
    if newer:
        beside.append(("pytest, core suite, Python 3.13", [newer, "-m", "pytest", "-m", "core", *CORE]))
    # these too wait for a third of their time, so three workers keep two cores busy. Files in the order of their names:
    # the unit tests, which are short, come last and let all workers end together
    spread = ["-m", "not waits", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
    with ThreadPoolExecutor(2) as aside:  # the first thread waits, the other one checks
        begun = aside.map(lambda named: quietly(*named), beside)
        # what three workers would compile at the same time, each for itself, is compiled once
        run(inner, "-m", "pytest", "--collect-only", quiet=True)
        everything = check(f"pytest, all others, Python {version}", [inner, "-m", "pytest", *spread])
        results = [*begun, everything]
    say("\n== summary\n" + "\n".join(line for _, line in results))
    if not newest:
        say("no second Python: the core suite was not run on 3.13 beside the full one")
    if not looks.result():
        say("no Chromium: the tests that look at pages did not run (on Debian: apt-get install chromium)")
    unseen = not looks.result() and os.environ.get("CI") == "true"
    return 0 if all(passed for passed, _ in results) and not unseen else 1


def quietly(name: str, command: list[str | Path]) -> tuple[bool, str]:
    """Run one check beside others: its words come in one piece, when it is over."""
    started = time.monotonic()
    try:
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=ROOT, env=environment(), check=False, **both)
        passed, said = done.returncode == 0, done.stdout.decode(errors="replace").rstrip()
    except OSError as error:
        passed, said = False, str(error)
    say(f"\n== {name}\n{said}")
    return worded(name, passed=passed, seconds=time.monotonic() - started)


def check(name: str, command: list[str | Path]) -> tuple[bool, str]:
    """Run one check and word its line of the summary."""
    say(f"\n== {name}")
    started = time.monotonic()
    passed = run(*command)
    return worded(name, passed=passed, seconds=time.monotonic() - started)


def worded(name: str, *, passed: bool, seconds: float) -> tuple[bool, str]:
    """How a check ended, and its line of the summary."""
    return passed, f"{'passed' if passed else 'FAILED'}  {seconds:6.1f} s  {name}"


def lock() -> int:
    """Write requirements/*.txt anew, with hashes and without a word on where packages come from."""
    inner = ROOT / ".venv" / "bin" / "python"
    uv = find_uv(inner) if inner.exists() else shutil.which("uv")
    if not uv:
        raise SystemExit("go.py lock needs uv:  run python3 go.py demo first, which fetches it")
    words = "pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-config"
    whole = ["pyproject.toml", "requirements/build.in", "--extra"]
    for name, what in (
        ("dev.txt", [*whole, "dev"]),
        ("demo.txt", [*whole, "local"]),
        ("uv.txt", ["requirements/uv.in"]),
    ):
        command = [uv, *words.split(), "--custom-compile-command", "python3 go.py lock", *what]
        if not run(*command, "-o", f"requirements/{name}"):
            return 1
        if re.search(r"://|^--", (ROOT / "requirements" / name).read_text(), re.MULTILINE):
            raise SystemExit(f"requirements/{name} names an address; take it out before you commit it")
    return 0


if __name__ == "__main__":
    commands = {"demo": demo, "test": test, "lock": lock}
    chosen = commands.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if chosen is None:
        raise SystemExit(__doc__)
    sys.exit(chosen())
