"""`cottonpalm.toml`: options of `run` and `plan` that a folder's commands share; the command line goes before it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.options.typer_classes import PORT
from cottonpalm.cli.problems import Problem, os_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME: Final = "cottonpalm.toml"
CHOOSING: Final = ("config", "profile")  # which file, and what of it
BEGINNING: Final = """\
# Options of `cottonpalm run` and `cottonpalm plan` in this folder: any flag, without its dashes.
# What is said on the command line goes before what stands here.

[run]
# model = "openai:gpt-4o-mini"
# prompt = "Is this review positive? {text}"
# model-option = ["temperature=0", "max_tokens=50"]
# budget = 5           # US dollars
# id-field = "id"      # rows keep their place also when their text is edited

# A profile is taken with --profile NAME, and goes before [run].
# [profile.trial]
# limit = 20
# budget = 0.1
"""


def options_of(
    file: str | None, profile: str | None, command: Any, others: Iterable[Any] = ()
) -> dict[str, Any]:
    """Return the defaults that a file gives to a command, by the names of its parameters.

    Args:
        file: as it was named; None: `cottonpalm.toml` in this folder, if there is one.
        profile: the profile that is asked for.
        command: of click; its options are those that the file may give.
        others: commands that the file is for, too; it may name their options, and this one does without.

    Raises:
        Problem: the file cannot be read, or names what is no option or no profile.
    """
    path = Path(file or NAME)
    if file is None and not path.exists():
        if profile is not None:
            raise Problem(f"--profile {profile}: there is no {NAME} here; `cottonpalm init` writes one")
        return {}
    data = _read(path)
    if loose := [key for key in data if key not in ("run", "profile")]:
        raise Problem(f"{path}: {loose[0]!r} stands outside of [run] and [profile.NAME]; put it below [run]")
    profiles = _table(data.get("profile", {}), path, "[profile.NAME]")
    if profile is not None and profile not in profiles:
        raise Problem(f"--profile {profile}: {path} has {', '.join(map(repr, profiles)) or 'no profile'}")
    known = {word: one for each in (*others, command) for word, one in _words(each).items()}
    found: dict[str, Any] = {}
    for table, title in (
        (data.get("run", {}), "[run]"),
        (profiles.get(profile or "", {}), f"[profile.{profile}]"),
    ):
        for key, value in _table(table, path, title).items():
            if (option := _option(key, known, path)) is not None:
                found[str(option.name)] = _meant(key, value, option, path)
    return found


def _words(command: Any) -> dict[str, Any]:
    """The options of a command by their spellings, without dashes."""
    return {word.lstrip("-"): one for one in command.params for word in (*one.opts, *one.secondary_opts)}


def _table(value: Any, path: Path, title: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Problem(f"{path}: write {title} on a line of its own, and its options below")
    return value


def _meant(key: str, value: Any, option: Any, path: Path) -> Any:
    """What the option gets: `no-cache = true` says `cache = false`; one value is a list of one where many may be."""
    if f"--{key.replace('_', '-')}" in option.secondary_opts:
        if not isinstance(value, bool):
            raise Problem(f"{path}: {key} = {value!r}: say true or false")
        return not value
    if option.multiple:
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        raise Problem(f"{path}: {key} = {value!r}: give one value, not a list")
    if isinstance(value, bool) and f"--{key}" == PORT:  # as on the command line, without a port
        return "auto" if value else None
    if isinstance(value, bool) and not getattr(option, "is_flag", False):
        raise Problem(f"{path}: {key} = {str(value).lower()}: this option takes a value, not true or false")
    return value


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise os_problem("read", str(path), error) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"{path} is not TOML: {error}") from error


def _option(key: str, known: Mapping[str, Any], path: Path) -> Any:
    """Return the parameter that a key of the file means; None where only another command has it."""
    word = key.replace("_", "-")
    if word in CHOOSING:  # it would be read too late, and nothing would come of it
        raise Problem(
            f"{path}: {word} stands in the file that it chooses from: say --{word} on the command line"
        )
    if word in known:
        return known[word]
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    raise Problem(f"{path}: no option {key!r}{f'; did you mean {near[0]}?' if near else ''}")


def write_beginning() -> Path:
    """Write a file that explains itself.

    Raises:
        Problem: there is one already, or it cannot be written.
    """
    path = Path(NAME)
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(BEGINNING)
    except FileExistsError:
        raise Problem(f"{NAME} is here already; edit it, or move it away") from None
    except OSError as error:
        raise os_problem("write", NAME, error) from error
    return path
