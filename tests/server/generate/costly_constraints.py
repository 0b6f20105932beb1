"""Constraints within the limits of size that would take long without a limit of work, and some that must not be refused."""

import json
from typing import Any

from understudy.server.generate import Constraint

Form = dict[str, Any]

_NAMES = [str(number) for number in range(20_000)]
_LARGE_ENUM: Form = {"enum": _NAMES}
_LETTERS = "".join(chr(0x4E00 + 2 * index) for index in range(8000))


def _members(count: int) -> Form:
    return {name: {} for name in _NAMES[:count]}


def _schema(schema: object) -> Constraint:
    return Constraint(json=json.dumps(schema))


def _array(items: object, length: int = 1000, **more: Any) -> Constraint:
    return _schema({"type": "array", "items": items, "minItems": length, **more})


def _tag(**form: object) -> Constraint:
    return Constraint(structural_tag=json.dumps({"type": "structural_tag", "format": form}))


def _repeated(content: object, times: int = 200_000) -> Constraint:
    return _tag(type="repeat", min=times, max=times, content=content)


def _text(value: str) -> Form:
    return {"type": "const_string", "value": value}


COSTLY: dict[str, Constraint] = {
    "arrays over an enum": _array(_LARGE_ENUM),
    "an enum of which nothing fits": _schema({**_LARGE_ENUM, "not": {"type": "string"}}),
    "names out of an enum": _schema({"type": "object", "propertyNames": _LARGE_ENUM, "minProperties": 500}),
    "a large constant again and again": _array({"const": [1] * 60_000}),
    "long strings": _array({"type": "string", "minLength": 65_000}),
    "many required members": _schema({"required": _NAMES, "properties": _members(4000)}),
    "many alternatives": _array({"anyOf": [{}] * 60_000}),
    "alternatives of alternatives": _schema(
        {"anyOf": [{"not": {}}] * 5000, "oneOf": [{"not": {}}] * 5000, "if": {}, "then": False}
    ),
    "many parts": _array({"allOf": [{}] * 60_000}),
    "patterns of names": _schema(
        {"patternProperties": {f"a{number}b*": {} for number in range(5000)}, "minProperties": 100}
    ),
    "many types": _array({"type": ["string"] * 20_000}),
    "many unknown keywords": _array({f"x{number}": 1 for number in range(20_000)}),
    "a long reference": _array({"$ref": "#/" + "x" * 100_000}, 1000, **{"x" * 100_000: {"const": 1}}),
    "multiples of large numbers": _schema(
        {"allOf": [{"type": "integer", "multipleOf": 10**300 + number} for number in range(90)]}
    ),
    "a slow pattern": _array({"type": "string", "pattern": "^(a+)+b$", "minLength": 200}),
    "many values": Constraint(json='{"x":[' + ",".join(["[]"] * 80_000) + "]}"),
    "a class of many letters": Constraint(regex=f"[{_LETTERS}]{{5000}}"),
    "unclosed classes": Constraint(regex="[" * 8000),
    "a long expression": Constraint(regex="(a)" * 2700),
    "a grammar of bars": Constraint(grammar="root ::= " + "|" * 65_000),
    "a grammar of classes": Constraint(grammar="root ::= " + "[a] " * 16_000),
    "a grammar of expressions": Constraint(
        grammar="start: " + " ".join(f"/a{number}/" for number in range(7000))
    ),
    "a grammar of imports": Constraint(
        grammar="%import common (INT, FLOAT, NUMBER, WS, WORD, LETTER, CNAME)\n" * 900 + 'start: "a"'
    ),
    "letters of either case": Constraint(grammar=f'start: "{"a" * 60_000}"i'),
    "a repeated enum": _repeated({"type": "json_schema", "json_schema": _LARGE_ENUM}),
    "a repeated nothing": _repeated(_text("")),
    "a repeated long text": _repeated(_text("x" * 100_000), 2000),
    "a repeated expression": _repeated({"type": "regex", "pattern": "a" * 1000}, 2000),
    "a repeated grammar": _repeated({"type": "grammar", "grammar": "root ::= " + '"a"' * 100}, 2000),
    "many exclusions": _repeated({"type": "any_text", "excludes": ["a"] * 20_000}, 1000),
    "many rules": _repeated({"type": "dispatch", "rules": [["x", _text("y")]] * 2000}, 2000),
}

LARGE_BUT_USUAL: dict[str, Constraint] = {
    "a choice out of many": _schema({"enum": [str(number) for number in range(28_000)]}),
    "an array of choices out of many": _array(_LARGE_ENUM, 100, uniqueItems=True),
    "a choice out of many in each tag": _repeated({"type": "json_schema", "json_schema": _LARGE_ENUM}, 100),
    "five thousand optional members": _schema({"properties": _members(5000)}),
    "a thousand required members": _schema({"required": _NAMES[:1000]}),
    "a long text of a class": Constraint(regex="[a-z]{5000}"),
    "a thousand rules": Constraint(
        grammar="root ::= "
        + " | ".join(f"r{number}" for number in range(1000))
        + "".join(f'\nr{number} ::= "{number}" [a-z]+' for number in range(1000))
    ),
}
