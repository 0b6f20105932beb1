"""Whether a JSON value satisfies a schema, as far as our writer knows its keywords."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.match import Matcher
from understudy.server.generate.schema.document import Schema, SchemaDocument
from understudy.server.generate.work import Work

_MAX_NESTING = 150


class Checker:
    """Checks values against the parts of one document; formats are not looked at."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._work = document.work
        self._nesting = 0
        self._listed: dict[int, frozenset[Hashable]] = {}
        self._taken: set[tuple[int, int]] = set()

    def took(self, item: object, schema: Schema) -> None:
        """Note that the item, this very object, is listed in the schema: nobody need look for it."""
        self._taken.add((id(schema), id(item)))

    def conforms(self, value: object, schema: Schema) -> bool:
        """Whether the value satisfies the schema. Raises ConstraintError for a schema of a wrong shape or too deep."""
        schema = self._document.checked(schema)
        if isinstance(schema, bool):
            return schema
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise ConstraintError("the JSON schema is too complex")
        fits = (
            self._has_type(value, schema)
            and self._is_listed(value, schema)
            and self._meets_bounds(value, schema)
            and self._composes(value, schema)
        )
        self._nesting -= 1
        return fits

    def _has_type(self, value: object, schema: Mapping[str, Any]) -> bool:
        if "type" not in schema:
            return True
        named = schema["type"]
        return bool(type_names(value).intersection([named] if isinstance(named, str) else named))

    def _is_listed(self, value: object, schema: Mapping[str, Any]) -> bool:
        if "const" in schema and self._key(schema["const"]) != self._key(value):
            return False
        if "enum" not in schema or (id(schema), id(value)) in self._taken:
            return True
        if id(schema) not in self._listed:
            self._work.spend(len(schema["enum"]))
            self._listed[id(schema)] = frozenset(self._key(listed) for listed in schema["enum"])
        return self._key(value) in self._listed[id(schema)]

    def _key(self, value: object) -> Hashable:
        return equality_key(value, self._work)

    def _meets_bounds(self, value: object, schema: Mapping[str, Any]) -> bool:
        checks: dict[type, Callable[[Any, Mapping[str, Any]], bool]] = {
            str: self._string_fits,
            int: number_fits,
            float: number_fits,
            list: self._array_fits,
            dict: self._object_fits,
        }
        check = checks.get(type(value))
        return check is None or check(value, schema)

    def _composes(self, value: object, schema: Mapping[str, Any]) -> bool:
        def fits(other: Schema) -> bool:
            return self.conforms(value, other)

        if "$ref" in schema and not fits(self._document.resolve(schema["$ref"])):
            return False
        if not all(fits(other) for other in schema.get("allOf", ())):
            return False
        if "anyOf" in schema and not any(fits(other) for other in schema["anyOf"]):
            return False
        if "oneOf" in schema and sum(fits(other) for other in schema["oneOf"]) != 1:
            return False
        if "not" in schema and fits(schema["not"]):
            return False
        return "if" not in schema or fits(schema.get("then" if fits(schema["if"]) else "else", True))

    def _string_fits(self, value: str, schema: Mapping[str, Any]) -> bool:
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return False
        if "pattern" not in schema:
            return True
        pattern = self._document.pattern(schema["pattern"])
        return Matcher(value, self._work).fits_somewhere(pattern)

    def _array_fits(self, value: Sequence[object], schema: Mapping[str, Any]) -> bool:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        if schema.get("uniqueItems") and len({self._key(item) for item in value}) < len(value):
            return False
        if "contains" in schema:
            num_found = sum(self.conforms(item, schema["contains"]) for item in value)
            if not schema.get("minContains", 1) <= num_found <= schema.get("maxContains", num_found):
                return False
        return all(self.conforms(item, item_schema(schema, index)) for index, item in enumerate(value))

    def _object_fits(self, value: Mapping[str, object], schema: Mapping[str, Any]) -> bool:
        return (
            schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value))
            and all(name in value for name in schema.get("required", ()))
            and all(
                other in value
                for name, others in schema.get("dependentRequired", {}).items()
                if name in value
                for other in others
            )
            and all(self.conforms(name, schema.get("propertyNames", True)) for name in value)
            and all(
                self.conforms(member, other)
                for name, member in value.items()
                for other in property_schemas(schema, name, self._document)
            )
        )


def equality_key(value: object, work: Work) -> Hashable:
    """Return what is the same for values that JSON schema calls equal: 1 and 1.0 are, 1 and true are not."""
    match value:
        case bool():
            return (value,)
        case list():
            work.spend(1 + len(value))
            return ("array", *(equality_key(item, work) for item in value))
        case dict():
            work.spend(1 + len(value))
            return frozenset((name, equality_key(member, work)) for name, member in value.items())
        case _:
            assert isinstance(value, Hashable), "what is neither an object nor an array is a plain value"
            return value


_TYPE_NAMES = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    str: frozenset({"string"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
    type(None): frozenset({"null"}),
}


def type_names(value: object) -> frozenset[str]:
    """Return the names of the types that a JSON value has in JSON schema."""
    if isinstance(value, float) and value.is_integer():
        return _TYPE_NAMES[int]
    return _TYPE_NAMES[type(value)]


def item_schema(schema: Mapping[str, Any], index: int) -> Schema:
    """Return the schema of an array's item, in the forms of all drafts."""
    items = schema.get("items", True)
    prefix = schema.get("prefixItems", [])
    rest = items
    if isinstance(items, list):
        prefix, rest = items, schema.get("additionalItems", True)
    found: Schema = prefix[index] if index < len(prefix) else rest
    return found


def property_schemas(schema: Mapping[str, Any], name: str, document: SchemaDocument) -> list[Schema]:
    """Return all the schemas that a property of that name must satisfy."""
    named = schema.get("properties", {})
    found: list[Schema] = [named[name]] if name in named else []
    for pattern, member in schema.get("patternProperties", {}).items():
        if Matcher(name, document.work).fits_somewhere(document.pattern(pattern)):
            found.append(member)
    return found or [schema.get("additionalProperties", True)]


def number_fits(value: float, schema: Mapping[str, Any]) -> bool:
    """Whether a number is within the bounds of a schema, whose exclusive ones may be draft 4's booleans."""
    lowest, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    highest, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if lowest is not None and (value < lowest or (above is True and value == lowest)):
        return False
    if highest is not None and (value > highest or (below is True and value == highest)):
        return False
    if not isinstance(above, bool | None) and value <= above:
        return False
    if not isinstance(below, bool | None) and value >= below:
        return False
    return "multipleOf" not in schema or is_multiple(value, schema["multipleOf"])


def is_multiple(value: float, step: float) -> bool:
    """Whether a number is a multiple: by division of floats where the step is one, as validators do it."""
    if isinstance(step, int):
        return value % step == 0
    try:
        return (value / step).is_integer()
    except OverflowError:
        return Fraction(value) % Fraction(step) == 0
