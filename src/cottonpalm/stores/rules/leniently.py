"""Reads JSON that another version of cottonpalm has stored."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = (
    "version"  # a key in stored JSON: we raise its number when older readers would misunderstand it
)
Kept = TypeVar("Kept")


def kept_as(cls: type[Kept], stored: Mapping[str, Any]) -> Kept:
    """Return the stored object; fields that this version does not know are left out, missing ones get defaults."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    return cls(**{name: value for name, value in stored.items() if name in known})


def is_newer(stored: Mapping[str, Any], version: int) -> bool:
    """Whether a later version stored it, in a form that this one would misunderstand."""
    found = stored.get(VERSION, version)
    return not isinstance(found, int) or found > version
