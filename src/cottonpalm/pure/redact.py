"""Takes what looks like a credential out of a text that will be kept."""

from __future__ import annotations

import re
from typing import Final

_SECRETS: Final = re.compile(
    r"""(?ix)
    \b(?: sk | pk | rk | gsk | xai | key ) [-_] [a-z0-9_\-*.]{6,}            # vendor keys, whole or half hidden
    | \b AIza [a-z0-9_\-]{10,}
    | (?<= bearer\ ) [a-z0-9._\-~+/=]{6,}
    | (?<= basic\ ) [a-z0-9+/=]{8,}
    | \b eyJ [a-z0-9_\-]{8,} (?: \. [a-z0-9_\-]+ ){1,2}                       # JSON web tokens
    | (?<= ://) [^/\s:@]+ : [^/\s@]+ (?= @ )                                  # user:password in an address
    """
)
_NAMED: Final = re.compile(
    r"""(?ix)
    ( (?: api[-_ ]?key | authorization | x-api-key | access[-_]?token | password | secret ) ['"]? \s* [:=] \s* ['"]? )
    (?! bearer\b | basic\b ) (?: \[redacted\] [^\s'",;&)}\]]* | [^\s'",;&)}\]]{4,} )
    """
)


def redact(text: str) -> str:
    """The text with every credential-like part replaced by `[redacted]`."""
    return _NAMED.sub(r"\1[redacted]", _SECRETS.sub("[redacted]", text))
