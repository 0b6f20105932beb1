"""How deep JSON is, without parsing it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.web import HttpLimits
from understudy.web.body import is_shallow

TRICKY_TEXT = st.text('[]{}"\\ aé\u2028\U0001f600', max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY_TEXT, inner, max_size=3),
    max_leaves=30,
)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _num_containers(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + sum(map(_num_containers, value)) if isinstance(value, list) else 0


@given(
    value=VALUES,
    ensure_ascii=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"]),
    indent=st.none() | st.integers(0, 2),
)
def test_depth_and_number_are_those_of_the_parsed_value(
    value: Any,
    *,
    ensure_ascii: bool,
    encoding: str,
    indent: int | None,
) -> None:
    """Whatever stands in strings, and in each encoding that Python's parser reads."""
    body = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent).encode(encoding)
    depth, num_containers = _depth(value), _num_containers(value)
    assert is_shallow(body, HttpLimits(json_depth=depth, json_containers=num_containers))
    if depth:
        assert not is_shallow(body, HttpLimits(json_depth=depth - 1))
        assert not is_shallow(body, HttpLimits(json_containers=num_containers - 1))


@given(body=st.binary(max_size=60) | TRICKY_TEXT.map(str.encode))
def test_anything_else_is_called_something(body: bytes) -> None:
    """What is no JSON raises nothing, and what cannot be deep is not called deep."""
    assert is_shallow(body, HttpLimits(json_depth=len(body), json_containers=len(body)))


@pytest.mark.parametrize(
    "nested", [b"[" * 101, b'{"a":' * 101, b"[" * 100_000 + b"]" * 100_000, b'[{"[":' * 51]
)
def test_a_hundred_levels_are_enough(nested: bytes) -> None:
    """One more is refused, closed or not."""
    assert not is_shallow(nested, HttpLimits())
    assert is_shallow(b"[" * 100 + b"]" * 100, HttpLimits())
    assert is_shallow(b'"' + nested.replace(b'"', b"") + b'"', HttpLimits())
