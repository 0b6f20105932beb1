"""Laws of JSON that satisfies a schema."""

import json
from random import Random

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.schemas import SCHEMAS, Schema

from understudy.server.generate import Constraint, ConstraintError, text_for
from understudy.server.generate.schema import SchemaDocument
from understudy.server.generate.schema.conforms import Checker
from understudy.server.generate.work import Work

_FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER

NODE: Schema = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "right": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value", "left", "right", "children"],
    "additionalProperties": False,
}


def _written(schema: object, seed: int = 0) -> object:
    return json.loads(text_for(Constraint(json=schema), Random(seed)))  # type: ignore[arg-type]  # also what is none


@given(schema=SCHEMAS, seed=st.integers(0, 9))
def test_a_text_satisfies_its_schema(schema: Schema, seed: int) -> None:
    """An independent validator agrees, formats included; the same chance gives the same text."""
    text = text_for(Constraint(json=json.dumps(schema)), Random(seed))
    jsonschema.Draft202012Validator(schema, format_checker=_FORMATS).validate(json.loads(text))
    assert text_for(Constraint(json=schema), Random(seed)) == text


@given(schema=SCHEMAS, value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e6, 1e6) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "x1"]), inner, max_size=4),
    max_leaves=8,
))  # fmt: skip
def test_the_checker_agrees_with_an_independent_validator(schema: Schema, value: object) -> None:
    """On any value, whether it fits or not."""
    fits = Checker(SchemaDocument(schema, Work())).conforms(value, schema)
    assert fits == jsonschema.Draft202012Validator(schema).is_valid(value)


@given(seed=st.integers(0, 500))
def test_recursive_schemas_come_to_an_end(seed: int) -> None:
    """A tree is valid, and of a size that one can read."""
    schema = {"$defs": {"node": NODE}, "$ref": "#/$defs/node"}
    value = _written(schema, seed)
    jsonschema.Draft202012Validator(schema).validate(value)
    assert len(json.dumps(value)) < 50_000


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"a": {"minLength": 3}}}]},
        {"$defs": {"a/b~c": {"const": 5}}, "$ref": "#/$defs/a~1b~0c"},
        {"definitions": {"x y": {"type": "null"}}, "items": {"$ref": "#/definitions/x%20y"}, "type": "array", "minItems": 1},
        {"type": "object", "minProperties": 300},
        {"type": "integer", "minimum": 5, "exclusiveMinimum": 5, "maximum": 6},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
        {"type": "number", "multipleOf": 0.01, "minimum": 0.29, "maximum": 0.3},
        {"type": "array", "items": {"enum": [1, 2, 3, 1.0]}, "uniqueItems": True, "minItems": 3},
        {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "minLength": 40, "maxLength": 40},
        {"dependentRequired": {"a": ["b"]}, "properties": {"a": {}, "b": {}}, "type": "object"},
        {"type": "array", "contains": {"const": 7}, "minContains": 2, "items": {"type": "integer"}},
        {"anyOf": [False, {"type": "object", "required": ["x"], "additionalProperties": False}, {"const": "way out"}]},
        {"enum": ["\ud800", "\N{GRINNING FACE}"]},
        {},
    ],
)  # fmt: skip
def test_awkward_schemas_are_satisfied(schema: Schema) -> None:
    """Those that need a choice taken back, an exact bound, or a reference with escapes."""
    for seed in range(20):
        value = _written(schema, seed)
        jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (False, "no value"),
        ({"enum": []}, "no value"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no value"),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "no value"),
        ({"type": "object", "required": ["x"], "additionalProperties": False}, "no value"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2, "uniqueItems": True}, "no value"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no value"),
        ({"not": {}}, "no value"),
        ({"$ref": "#"}, "no value"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no value"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "too complex"),
        ({"type": "array", "minItems": 10**9}, "too large"),
        ({"type": "object", "minProperties": 10**9}, "too large"),
        ({"type": "string", "minLength": 10**9}, "longer than"),
        ({"type": "string", "pattern": "(a"}, "regex"),
        ({"type": "string", "pattern": "(?=a)b"}, "look around"),
        ({"$ref": "https://example.com/schema"}, "only #/"),
        ({"$ref": "#/$defs/none"}, "not in it"),
        ({"type": "strin"}, "no type"),
        ({"properties": []}, "must be an object"),
        ({"items": {"minimum": "5"}, "minItems": 1}, "must be a number"),
        ({"minimum": True}, "must be a number"),
        ({"multipleOf": 0}, "greater than 0"),
        ("{", "Invalid JSON"),
        ('{"const": NaN}', "Invalid JSON"),
        ('{"const": 1e999}', "Invalid JSON"),
        ("[]", "an object or a boolean"),
        ("[" * 100_000, "nested too deeply"),
        ({"enum": ["x" * 300_000]}, "too long"),
    ],
)  # fmt: skip
def test_the_impossible_is_refused(schema: object, problem: str) -> None:
    """In one line, in bounded work."""
    with pytest.raises(ConstraintError, match=problem) as refusal:
        _written(schema)
    assert "\n" not in str(refusal.value)


def test_nesting_is_limited_as_in_vllm() -> None:
    """64 levels of objects and arrays are taken, 65 are not."""
    schema: Schema = {"type": "null"}
    for _ in range(31):
        schema = {"items": {"items": schema, "minItems": 1}, "minItems": 1}
    jsonschema.Draft202012Validator(schema).validate(_written(schema))
    assert _written({"allOf": [schema]}) is not None
    with pytest.raises(ConstraintError, match="at most 64 levels"):
        _written({"items": {"allOf": [schema]}})


def test_whitespace_can_be_left_out() -> None:
    """`disable_any_whitespace` leaves none outside of strings."""
    schema = {"properties": {"a": {"const": 1}, "b": {"const": [1, 2]}}, "required": ["a", "b"]}
    assert text_for(Constraint(json=schema, disable_any_whitespace=True), Random(0)) == '{"a":1,"b":[1,2]}'
    assert text_for(Constraint(json=schema), Random(0)) == '{"a": 1, "b": [1, 2]}'
