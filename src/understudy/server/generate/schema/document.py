"""A JSON schema as a request gives it: read, measured, checked for shape, and its references resolved."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote

from understudy.server.generate.constraint_error import ConstraintError

MAX_SCHEMA_NESTING = 64
"""vLLM's own limit (vllm/sampling_params.py, 0.33.0)."""

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

    def __init__(self, root: Schema) -> None:
        self.root = root
        self._checked: set[int] = set()

    def checked(self, schema: object) -> Schema:
        """Return a schema after checking the shape of its keywords. Raises ConstraintError."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise ConstraintError(f"a JSON schema must be an object or a boolean, got {_shown(schema)}")
        if id(schema) not in self._checked:
            _check_shapes(schema)
            self._checked.add(id(schema))
        return schema

    def resolve(self, reference: str) -> Schema:
        """Return what a reference means. Raises ConstraintError for what is not within the schema."""
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
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                raise ConstraintError(f"the JSON schema refers to {_shown(reference)}, which is not in it")
        return self.checked(node)


def read_schema(schema: object) -> SchemaDocument:
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
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, TypeError):
        raise ConstraintError("Invalid JSON grammar specification.") from None
    _check_nesting(value)
    document = SchemaDocument(value)
    document.checked(value)
    return document


def _refuse_constant(_text: str) -> NoReturn:
    raise ValueError


def _check_nesting(value: object) -> None:
    """Raise ConstraintError for too many levels, and for numbers beyond all bounds."""
    level = [value]
    for _ in range(MAX_SCHEMA_NESTING + 1):
        if any(isinstance(node, float) and not math.isfinite(node) for node in level):
            raise ConstraintError("Invalid JSON grammar specification.")
        children = (
            node.values() if isinstance(node, dict) else node
            for node in level
            if isinstance(node, dict | list)
        )
        level = [child for group in children for child in group]
        if not level:
            return
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
    named = schema.get("type", [])
    unknown = [name for name in ([named] if isinstance(named, str) else named) if name not in TYPES]
    if unknown:
        raise ConstraintError(f"{_shown(unknown[0])} is no type of JSON schema")
    if not all(isinstance(name, str) for name in schema.get("required", [])):
        raise ConstraintError("required in a JSON schema must hold strings")
    if schema.get("multipleOf", 1) <= 0:
        raise ConstraintError("multipleOf in a JSON schema must be greater than 0")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
