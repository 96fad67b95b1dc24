"""JSON Schema for answers: checks whether a schema can be used, and finds where a value does not fit it.

It ignores keywords that only annotate (`title`, `description`, `format`, `default`), and keywords it does not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Schema: TypeAlias = Any  # a mapping, True or False
DEPTH: Final = 64  # the deepest nesting of values, and of references to references


def misuse(schema: Schema) -> str | None:
    """Say in a few words why a schema cannot be used; None if it can.

    An answer is an object, so the schema must describe an object with named properties.
    """
    if not isinstance(schema, dict):
        return "it is no JSON object"
    properties = schema.get("properties")
    if schema.get("type", "object") != "object" or not isinstance(properties, dict) or not properties:
        return 'it must describe an object: {"type": "object", "properties": {...}}'
    return next(_misuses(schema, schema, "the schema"), None)


def _misuses(schema: Schema, root: Schema, where: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{where} is no JSON object"
        return
    if (unknown := [kind for kind in _listed(schema.get("type", [])) if kind not in _TYPES]) != []:
        yield f"{where} has the type {unknown[0]!r}; JSON Schema knows {', '.join(_TYPES)}"
    if "$ref" in schema and _referred(schema["$ref"], root) is None:
        yield f"{where} refers to {schema['$ref']!r}, which is not in the file"
    for keyword, (holds, kind) in _BOUNDS.items():
        if keyword in schema and not holds(schema[keyword]):
            yield f"{where} has a {keyword!r} that is no {kind}"
    for name, part in _parts(schema):
        yield from _misuses(part, root, name if where == "the schema" else f"{where}.{name}")


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas inside a schema, each with a name."""
    for keyword in ("properties", "$defs", "definitions"):
        if isinstance(found := schema.get(keyword), dict):
            yield from found.items()
    for keyword in ("anyOf", "oneOf", "allOf"):
        for part in _listed(schema.get(keyword, [])):
            yield keyword, part
    for keyword in ("items", "additionalProperties", "not"):
        if keyword in schema:
            yield keyword, schema[keyword]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_pattern(text: Any) -> bool:
    try:
        re.compile(text)
    except (re.error, TypeError):
        return False
    return True


def _referred(ref: Any, root: Schema) -> Schema | None:
    """Return the part of `root` that `#/…` names."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    found = root
    for step in filter(None, ref[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict | bool) else None


# -- values


def flaws(
    value: Any, schema: Schema, root: Schema | None = None, path: str = "", depth: int = 0
) -> Iterator[str]:
    """Yield a sentence for each place where a JSON value does not fit.

    Args:
        value: as `json.loads` gives it.
        schema: the schema it must fit; `misuse` has checked it.
        root: the whole schema, to which references point; `schema` itself by default.
        path: the value's name in the sentences.
        depth: how deep this value is nested; deeper than 64 levels, nothing is checked.
    """
    root = schema if root is None else root
    if isinstance(schema, bool) or depth > DEPTH:
        if schema is False:
            yield f"{path or 'the answer'} must not be there"
        return
    if "$ref" in schema:
        yield from flaws(value, _referred(schema["$ref"], root) or True, root, path, depth + 1)
    for keyword, rule in _RULES.items():
        if keyword in schema and (said := rule(value, schema[keyword])) is not None:
            yield f"{path or 'the answer'} {said}"
    yield from _inside(value, schema, root, path, depth)
    yield from _combined(value, schema, root, path, depth)


def _inside(value: Any, schema: Any, root: Schema, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, part in value.items():
            yield from flaws(part, known.get(name, more), root, f"{path}.{name}" if path else name, depth + 1)
    if isinstance(value, list) and "items" in schema:
        for number, part in enumerate(value):
            yield from flaws(part, schema["items"], root, f"{path}[{number}]", depth + 1)


def _combined(value: Any, schema: Any, root: Schema, path: str, depth: int) -> Iterator[str]:
    def fits(part: Schema) -> bool:
        return next(flaws(value, part, root, path, depth + 1), None) is None

    name = path or "the answer"
    for part in schema.get("allOf", ()):
        yield from flaws(value, part, root, path, depth + 1)
    if "anyOf" in schema and not any(map(fits, schema["anyOf"])):
        yield f"{name} fits none of the forms it may have"
    if "oneOf" in schema and sum(map(fits, schema["oneOf"])) != 1:
        yield f"{name} must fit exactly one of the forms it may have"
    if "not" in schema and fits(schema["not"]):
        yield f"{name} has a form that it must not have"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_NUMBERS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
_BOUNDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "required": (_is_names, "list of names"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "list of values"),
    "pattern": (_is_pattern, "regular expression"),
    **dict.fromkeys(_NUMBERS, (_is_number, "number")),
}
_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _type(value: Any, wanted: Any) -> str | None:
    kinds = _listed(wanted)
    return None if any(_TYPES[kind](value) for kind in kinds) else f"is not of type {' or '.join(kinds)}"


def _required(value: Any, names: Any) -> str | None:
    missing = [name for name in names if name not in value] if isinstance(value, dict) else []
    return f"lacks {missing[0]!r}" if missing else None


def _bound(
    measure: Callable[[Any], Any], holds: Callable[[Any, Any], bool], said: str
) -> Callable[[Any, Any], str | None]:
    """Make a rule about a number or a length. `measure` returns None for values that the rule does not concern."""

    def rule(value: Any, bound: Any) -> str | None:
        size = measure(value)
        return None if size is None or holds(size, bound) else f"{said} {bound}"

    return rule


def _number(value: Any) -> Any:
    return value if _is_number(value) else None


def _length(kind: type[str | list[Any]]) -> Callable[[Any], Any]:
    return lambda value: len(value) if isinstance(value, kind) else None


_RULES: Final[dict[str, Callable[[Any, Any], str | None]]] = {
    "type": _type,
    "enum": lambda value, known: (
        None if any(_same(value, one) for one in known) else f"is none of {', '.join(map(repr, known))}"
    ),
    "const": lambda value, one: None if _same(value, one) else f"is not {one!r}",
    "required": _required,
    "minimum": _bound(_number, lambda size, bound: size >= bound, "is below"),
    "maximum": _bound(_number, lambda size, bound: size <= bound, "is above"),
    "exclusiveMinimum": _bound(_number, lambda size, bound: size > bound, "is not above"),
    "exclusiveMaximum": _bound(_number, lambda size, bound: size < bound, "is not below"),
    "minLength": _bound(_length(str), lambda size, bound: size >= bound, "is shorter than"),
    "maxLength": _bound(_length(str), lambda size, bound: size <= bound, "is longer than"),
    "minItems": _bound(_length(list), lambda size, bound: size >= bound, "has fewer items than"),
    "maxItems": _bound(_length(list), lambda size, bound: size <= bound, "has more items than"),
    "pattern": lambda value, pattern: (
        f"does not match {pattern!r}"
        if isinstance(value, str) and re.search(pattern, value) is None
        else None
    ),
}
