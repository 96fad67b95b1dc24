"""The file itself: styles and script inside, and a policy that lets in nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from cottonpalm.observers.page.markup import Markup, tag
from cottonpalm.observers.page.plots import hatches

MADE_HERE: Final = '<meta name="generator" content="cottonpalm">'  # how a file of ours is known


@cache
def _resource(name: str) -> str:
    return (files("cottonpalm.observers.page") / name).read_text("utf-8").strip()


def _allowed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def policy() -> str:
    """What a page of ours may do: nothing but run and style itself with its own two texts."""
    own = f"style-src {_allowed(_resource('style.css'))}; script-src {_allowed(_resource('script.js'))}"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def document(title: str, *parts: Markup | None) -> str:
    """One HTML file that loads nothing, and may run and style itself with nothing but its own two texts."""
    style, script = _resource("style.css"), _resource("script.js")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(MADE_HERE),
        tag("meta", http_equiv="Content-Security-Policy", content=policy()),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", hatches(), tag("main", *parts), tag("script", Markup(script)))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def json_link(text: bytes) -> str:
    """A file within the page, to be saved."""
    return "data:application/json;base64," + base64.b64encode(text).decode()
