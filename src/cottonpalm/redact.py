"""Recognises credentials, and removes them from texts that will be kept."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

_NAME: Final = re.compile(
    r"key|token|secret|auth|password|passwd|credential|header|cookie|bearer", re.IGNORECASE
)
_KEYS: Final = r"""
    (?: sk | pk | rk | gsk | csk | xai | key ) [-_] [a-z0-9_\-*.]{6,}        # OpenAI and others; half hidden too
    | gh [pousr] _ [a-z0-9]{10,} | github_pat_ [a-z0-9_]{10,}
    | gl [a-z]{2,5} - [a-z0-9_\-]{16,}                                       # GitLab
    | (?-i: A (?: KIA | SIA | ROA | IDA ) [A-Z0-9]{8,} )                     # AWS
    | xox [a-z] [-.] [a-z0-9.\-]{8,} | xapp - [a-z0-9\-]{8,}                 # Slack
    | (?<= hooks.slack.com/services/ ) [a-z0-9/]{8,}
    | (?-i: AIza ) [a-z0-9_\-]{10,} | ya29 \. [a-z0-9_\-.]{8,} | GOCSPX - [a-z0-9_\-]{8,}
    | (?: hf | r8 | npm | api_org | key_live | fw | vck | whsec ) _ [a-z0-9]{16,}  # Hugging Face, Replicate, npm
    | (?-i: ABSK [A-Za-z0-9+/=]{16,} | AQ\. [A-Za-z0-9_\-]{16,} )              # Bedrock, Google
    | sess - [a-z0-9]{16,} | dckr_pat_ [a-z0-9_\-]{16,}
    | pypi - [a-z0-9_\-]{32,}
    | (?: lsv2 | dop | doo | tgp | shpat | glsa ) _ [a-z0-9_]{16,}            # LangSmith, DigitalOcean, Together
    | (?: pplx | nvapi | tvly | dapi | jina ) [-_] [a-z0-9_\-]{12,}
    | SG \. [a-z0-9_\-]{8,} \. [a-z0-9_\-]{8,}                               # SendGrid
    | eyJ [a-z0-9_\-]{8,} (?: \. [a-z0-9_\-]+ ){1,2}                         # JSON web tokens
"""
_TEXT: Final = re.compile(  # a single word: a prompt that begins with "Basic questions" is not a credential
    rf"(?ix) (?: (?: {_KEYS} ) \S* | (?-i: Bearer | Basic ) [ ] \S+ )"
)
_URL: Final = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"^(localhost|127(\.\d+){3}|::1|0\.0\.0\.0)$", re.IGNORECASE)


def is_secret(name: str, value: Any) -> bool:
    """Whether a named value looks like a credential. A number never does: `max_tokens` is not a token."""
    if value is None or isinstance(value, bool | int | float):
        return False
    return _NAME.search(name) is not None or (isinstance(value, str) and looks_secret(value))


def looks_secret(text: str) -> bool:
    """Whether a text looks like a credential."""
    return _TEXT.fullmatch(text) is not None


def public_url(text: str) -> str:
    """Return an address without user, query and fragment; on this machine, also without the port, which is random."""
    if not _URL.match(text):
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return text.partition("://")[0] + "://…"
    if _LOOPBACK.match(host):
        return f"{parts.scheme}://loopback"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


_SECRETS: Final = re.compile(
    rf"""(?ix)
    \b (?: {_KEYS} )
    | (?: (?<= bearer [ +] ) | (?<= bearer%20 ) ) [a-z0-9._\-~+/=]{{6,}}
    | (?<= basic\ ) [a-z0-9+/=]{{8,}}
    | (?<= ://) [^/\s:@]* : [^/\s]+ (?= @ )                                 # user:password in an address, @ included
    | (?<= ://) [^/\s:@?\#]{{16,}} (?= @ )                                   # a token in place of both
    | (?<= -----) BEGIN [A-Z ]* PRIVATE\ KEY -----.*?(?: -----END [A-Z ]* PRIVATE\ KEY (?= -----) | \Z )
    """,
    re.DOTALL,
)
_NAMED: Final = re.compile(
    r"""(?ix)
    ( (?: api[-_ ]?key (?: \ provided )?
        | (?: secret | shared )? [-_]? (?: access | account ) [-_]? key (?: [-_]? id )? | private[-_]key
        | subscription-key | authorization | (?: access | refresh | id | auth | session | security ) [-_]? token
        | password | passwd | pwd | secret | (?: set- )? cookie | signature
        | (?<= [?&;] ) (?: sig | key | token )
      ) \\* ['"]? \s* [:=] \s* \\* ['"]? (?: (?: token | api-?key ) [ :]+ )? )
    (?! bearer\b | basic\b ) ( \[redacted\] [^\s'",;&)}\]]* | [^\s'",;&)}\]]{4,} )
    """
)
_REPEATED: Final = 8  # characters: a shorter value may be a word that is no secret elsewhere


def redact(text: str) -> str:
    """Return the text with every part that looks like a credential replaced by `[redacted]`.

    What is named as one is so wherever the text repeats it.
    """
    found = set[str]()

    def blotted(match: re.Match[str]) -> str:
        found.add(match[2].rstrip(".:"))
        return f"{match[1]}[redacted]"

    text = _NAMED.sub(blotted, _SECRETS.sub("[redacted]", text))
    for secret in sorted(found, key=len, reverse=True):  # one may begin with another
        if len(secret) >= _REPEATED:
            text = text.replace(secret, "[redacted]")
    return text
