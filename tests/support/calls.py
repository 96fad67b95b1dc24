"""Requests as the hook would see them, from their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.providers.call import Call, call_of
from cottonpalm.providers.paths import family_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def recognise(
    method: str, url: tuple[str, str, int | None, str], headers: Mapping[str, str], content: bytes
) -> Call | None:
    """The request as a `Call` if it is a POST to a listed model path with a body of that shape, else None.

    Args:
        method: of HTTP.
        url: scheme, host, port where it is not the scheme's own, path.
        headers: names in lower case; only those of `WHOSE` matter.
        content: the whole body.
    """
    if method != "POST" or (family := family_of(url[3])) is None:
        return None
    return call_of(family, url, headers, content)
