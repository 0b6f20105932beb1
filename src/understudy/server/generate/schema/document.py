"""A JSON schema as a request gives it: read, measured, checked for shape, and its references resolved."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.expression import Expression
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.work import Work
from understudy.wire.limits import MAX_SCHEMA_NESTING

MAX_SCHEMA_CHARACTERS = 262_144

TYPES = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})

Schema: TypeAlias = bool | Mapping[str, Any]

_SHAPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("properties", "patternProperties", "dependentRequired"), (dict,)),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf", "prefixItems"), (list,)),
    **dict.fromkeys(
        ("additionalProperties", "propertyNames", "not", "if", "then", "else", "contains"), (dict, bool)
    ),
    **dict.fromkeys(("items", "additionalItems"), (dict, bool, list)),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), (int, float)),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (int, float, bool)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (int, float)),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), (int, float)),
    **dict.fromkeys(("pattern", "format", "$ref"), (str,)),
    "type": (str, list),
    "uniqueItems": (bool,),
}

_BREADTH = (
    "properties",
    "patternProperties",
    "required",
    "dependentRequired",
    "allOf",
    "anyOf",
    "oneOf",
    "type",
)
"""Keywords of which every item is looked at whenever a schema is."""

_GREATEST_BOUND = 10**308
_LONGEST_INDEX = 9

_UNITS_OF_A_SCHEMA = 6
_CHARACTERS_OF_A_UNIT = 20
_VALUES_OF_A_UNIT = 5

_NAMES = {
    dict: "an object",
    list: "an array",
    bool: "a boolean",
    str: "a string",
    int: "a number",
    float: "a number",
}


class SchemaDocument:
    """A whole schema; references are looked up in it."""

    def __init__(self, root: Schema, work: Work) -> None:
        self.root = root
        self.work = work
        self._units: dict[int, int] = {}
        self._resolved: dict[str, Schema] = {}
        self._patterns: dict[str, Expression] = {}

    def checked(self, schema: object) -> Schema:
        """Return a schema after checking the shape of its keywords, and spend what a look at it takes.

        Raises ConstraintError.
        """
        if isinstance(schema, bool):
            self.work.spend(1)
            return schema
        if not isinstance(schema, dict):
            raise ConstraintError(f"a JSON schema must be an object or a boolean, got {_shown(schema)}")
        if id(schema) not in self._units:
            _check_shapes(schema)
            self._units[id(schema)] = _units_of(schema)
        self.work.spend(self._units[id(schema)])
        return schema

    def pattern(self, pattern: str) -> Expression:
        """Return a pattern's tree. Raises ConstraintError."""
        if pattern not in self._patterns:
            self._patterns[pattern] = parse_regex(pattern, self.work)
        return self._patterns[pattern]

    def resolve(self, reference: str) -> Schema:
        """Return what a reference means. Raises ConstraintError for what is not within the schema."""
        if reference not in self._resolved:
            self._resolved[reference] = self._found(reference)
        return self._resolved[reference]

    def _found(self, reference: str) -> Schema:
        self.work.spend(len(reference) // _CHARACTERS_OF_A_UNIT)
        pointer = unquote(reference)
        if pointer != "#" and not pointer.startswith("#/"):
            raise ConstraintError(
                f"the JSON schema refers to {_shown(reference)}; only #/... can be resolved"
            )
        node: object = self.root
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and _is_index(name) and int(name) < len(node):
                node = node[int(name)]
            else:
                raise ConstraintError(f"the JSON schema refers to {_shown(reference)}, which is not in it")
        return self.checked(node)


def read_schema(schema: object, work: Work) -> SchemaDocument:
    """Return a schema that is given as a value, or as its JSON text.

    Raises ConstraintError for what is no schema, and for one that is nested deeper than MAX_SCHEMA_NESTING or longer
    than MAX_SCHEMA_CHARACTERS.
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise ConstraintError(
                f"The JSON schema is too long: it may have {MAX_SCHEMA_CHARACTERS:,} characters"
            )
        work.spend(len(text) // _CHARACTERS_OF_A_UNIT)
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, TypeError):
        raise ConstraintError("Invalid JSON grammar specification.") from None
    _check_nesting(value, work)
    document = SchemaDocument(value, work)
    document.checked(value)
    return document


def _refuse_constant(_text: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _check_nesting(value: object, work: Work) -> None:
    """Raise ConstraintError for too many levels."""
    level = [value]
    for _ in range(MAX_SCHEMA_NESTING + 1):
        containers = [node for node in level if isinstance(node, dict | list)]
        if not containers:
            return
        work.spend((len(containers) + sum(map(len, containers))) // _VALUES_OF_A_UNIT)
        level = [
            child for node in containers for child in (node.values() if isinstance(node, dict) else node)
        ]
    if any(isinstance(node, dict | list) for node in level):
        raise _too_deep()


def _too_deep() -> ConstraintError:
    return ConstraintError(
        "The JSON schema is nested too deeply: objects and arrays may nest at most "
        f"{MAX_SCHEMA_NESTING} levels"
    )


def _check_shapes(schema: Mapping[str, Any]) -> None:
    for keyword, types in _SHAPES.items():
        if keyword in schema and (
            not isinstance(schema[keyword], types)
            or (isinstance(schema[keyword], bool) and bool not in types)
        ):
            wanted = " or ".join(dict.fromkeys(_NAMES[one] for one in types))
            raise ConstraintError(
                f"{keyword} in a JSON schema must be {wanted}, got {_shown(schema[keyword])}"
            )
        if keyword in schema:
            _check_bound(keyword, schema[keyword])
    named = schema.get("type", [])
    unknown = [name for name in ([named] if isinstance(named, str) else named) if not _is_type(name)]
    if unknown:
        raise ConstraintError(f"{_shown(unknown[0])} is no type of JSON schema")
    if not _are_names(schema.get("required", [])):
        raise ConstraintError("required in a JSON schema must hold strings")
    if not all(_are_names(names) for names in schema.get("dependentRequired", {}).values()):
        raise ConstraintError("dependentRequired in a JSON schema must hold arrays of strings")
    if schema.get("multipleOf", 1) <= 0:
        raise ConstraintError("multipleOf in a JSON schema must be greater than 0")


def _check_bound(keyword: str, value: object) -> None:
    if isinstance(value, int | float) and abs(value) > _GREATEST_BOUND:
        raise ConstraintError(f"{keyword} in a JSON schema is greater than any number can be")


def _is_type(name: object) -> bool:
    return isinstance(name, str) and name in TYPES


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _is_index(name: str) -> bool:
    return name.isdecimal() and len(name) <= _LONGEST_INDEX


def _units_of(schema: Mapping[str, Any]) -> int:
    looked_at = [schema[keyword] for keyword in _BREADTH if keyword in schema]
    needed = schema.get("dependentRequired", {}).values()
    return _UNITS_OF_A_SCHEMA + len(schema) + sum(map(len, looked_at)) + sum(map(len, needed))


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
