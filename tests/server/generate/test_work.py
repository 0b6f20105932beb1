"""Laws of the work that constraints take: little, whatever is sent, and an answer or an error for people at its end."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.costly_constraints import COSTLY, LARGE_BUT_USUAL

from understudy.server.generate import (
    MAX_WORK_UNITS,
    Constraint,
    ConstraintError,
    Tool,
    Work,
    text_for,
    tool_calls,
)
from understudy.server.generate.grammar import regex

MOST_CALLS = 500_000
"""Some fifty milliseconds of Python; what has no limit of work takes millions, or no end of them."""


class TooManyCallsError(Exception):
    """More functions were called than a text may take."""


def _num_calls(function: Callable[[], object]) -> int:
    """Return how many functions are called, of Python and of C; raises TooManyCallsError beyond the most."""
    num_calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal num_calls
        num_calls += event.endswith("call")
        if num_calls > MOST_CALLS:
            sys.setprofile(None)
            raise TooManyCallsError

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return num_calls


def _told(constraint: Constraint, work: Work | None = None) -> None:
    with suppress(ConstraintError):
        assert isinstance(text_for(constraint, Random(0), work), str)


@pytest.mark.parametrize("name", [*COSTLY, *LARGE_BUT_USUAL])
def test_no_constraint_takes_long(name: str) -> None:
    """A text comes, or a refusal, after few calls of functions."""
    constraint = {**COSTLY, **LARGE_BUT_USUAL}[name]
    regex._parsed.cache_clear()
    assert _num_calls(lambda: _told(constraint)) <= MOST_CALLS


@pytest.mark.parametrize("name", LARGE_BUT_USUAL)
def test_what_is_large_but_usual_is_written(name: str) -> None:
    """The limit of work is far above what people ask for."""
    for seed in range(3):
        work = Work()
        assert text_for(LARGE_BUT_USUAL[name], Random(seed), work)
        assert 0 < work.spent_units <= MAX_WORK_UNITS


_KEYWORDS = st.sampled_from(
    ["type", "enum", "const", "$ref", "$defs", "properties", "required", "items", "prefixItems", "minItems", "maxItems",
     "uniqueItems", "contains", "minContains", "anyOf", "oneOf", "allOf", "not", "if", "then", "pattern", "format",
     "minLength", "maxLength", "minimum", "exclusiveMaximum", "multipleOf", "patternProperties", "propertyNames",
     "additionalProperties", "minProperties", "maxProperties", "dependentRequired"]
)  # fmt: skip
_TAG_KEYWORDS = st.sampled_from(
    ["format", "type", "elements", "content", "begin", "end", "tags", "triggers", "structures", "schema", "json_schema",
     "min", "max", "pattern", "grammar", "value", "rules", "separator", "excludes", "max_chars", "style"]
)  # fmt: skip
_WORDS = st.sampled_from(
    ["string", "integer", "number", "array", "object", "null", "boolean", "#", "#/", "#/enum/0", "#/$defs/a", "a", "a*",
     "(a|b)+", "(", "date", "uuid", "tag", "sequence", "or", "repeat", "star", "json_schema", "regex", "const_string",
     "any_text", "triggered_tags", "tags_with_separator", "dispatch", "structural_tag", 'root ::= "a"']
)  # fmt: skip
_PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), _WORDS, st.text(max_size=5)
)


def _values(keywords: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        _PLAIN,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(keywords | st.text(max_size=3), inner, max_size=5)
        ),
        max_leaves=25,
    )


@given(schema=_values(_KEYWORDS))
def test_any_value_as_a_schema_gives_a_text_or_an_error_for_people(schema: object) -> None:
    """As the value itself, as its text, and as the parameters of a tool, in bounded work."""
    for constraint in (
        Constraint(json=schema),  # type: ignore[arg-type]  # whatever is sent
        Constraint(json=json.dumps(schema)),
    ):
        assert _num_calls(lambda constraint=constraint: _told(constraint)) <= MOST_CALLS  # type: ignore[misc]  # bound now
    with suppress(ConstraintError):
        tool_calls([Tool("f", schema)], "required", parallel=False, rng=Random(0))  # type: ignore[arg-type]  # whatever is sent


@given(tag=_values(_TAG_KEYWORDS))
def test_any_value_as_a_tag_gives_a_text_or_an_error_for_people(tag: object) -> None:
    """As the tag, and as its format, in bounded work."""
    for whole in (tag, {"type": "structural_tag", "format": tag}):
        constraint = Constraint(structural_tag=json.dumps(whole))
        assert _num_calls(lambda constraint=constraint: _told(constraint)) <= MOST_CALLS  # type: ignore[misc]  # bound now


@given(
    text=st.text(max_size=200)
    | st.text("ab01(){}[]|*+?^$\\.,-:~/\"'= \n%#", max_size=60)
    | st.lists(st.sampled_from(["root ::= ", "start: ", '"a"', "[a-z]", "{2,}", "/b+/", "\n", "|", "(", ")", "*", "x"])).map(
        "".join
    ),
    kind=st.sampled_from(["regex", "grammar"]),
)  # fmt: skip
def test_any_text_gives_a_text_or_an_error_for_people(text: str, kind: str) -> None:
    """As a regular expression and as a grammar, in bounded work."""
    constraint = Constraint(**{kind: text})  # type: ignore[arg-type]  # by name
    assert _num_calls(lambda: _told(constraint)) <= MOST_CALLS


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": [{}]}, "{} is no type"),
        ({"type": [["string"]]}, "is no type"),
        ({"$ref": "#/enum/" + "1" * 5000, "enum": [1]}, "not in it"),
        ({"dependentRequired": {"a": 5}, "required": ["a"]}, "dependentRequired .* arrays of strings"),
        ({"dependentRequired": {"a": [5]}, "required": ["a"]}, "dependentRequired .* arrays of strings"),
        ({"type": "integer", "minimum": 10**400}, "minimum .* greater than any number can be"),
        (
            {"allOf": [{"type": "integer", "multipleOf": 10**300 + number} for number in range(90)]},
            "no value",
        ),
    ],
)
def test_schemas_of_a_wrong_shape_are_refused(schema: dict[str, Any], problem: str) -> None:
    """The error names what is wrong, however much of it there is."""
    with pytest.raises(ConstraintError, match=problem) as refusal:
        text_for(Constraint(json=schema), Random(0))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@given(seed=st.integers(0, 99), name=st.sampled_from(sorted(LARGE_BUT_USUAL)))
def test_work_depends_on_constraint_and_chance_alone(seed: int, name: str) -> None:
    """What was read before makes no difference, so the same request is never refused only sometimes."""
    spent = []
    for _ in range(2):
        work = Work()
        text_for(LARGE_BUT_USUAL[name], Random(seed), work)
        spent.append(work.spent_units)
    assert spent[0] == spent[1]
