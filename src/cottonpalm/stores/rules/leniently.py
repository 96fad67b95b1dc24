"""Reading what another version of cottonpalm has stored as JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = (
    "version"  # in stored JSON: raised by hand where an older reader would misunderstand what is there
)
Kept = TypeVar("Kept")


def kept_as(cls: type[Kept], stored: Mapping[str, Any]) -> Kept:
    """The object that was stored; fields that this version does not know are left out, missing ones have defaults."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    return cls(**{name: value for name, value in stored.items() if name in known})


def is_newer(stored: Mapping[str, Any], version: int) -> bool:
    """Whether a later version stored it, in a form that this one would misunderstand."""
    found = stored.get(VERSION, version)
    return not isinstance(found, int) or found > version
