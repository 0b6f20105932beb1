"""Large answers have the bytes of small ones, and come in pieces of which none takes long."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.wire.errors import compact_json
from understudy.wire.json_pieces import json_in_pieces, json_pieces
from understudy.wire.made import Made, listed
from understudy.wire.sse import encode

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tables = st.integers(65, 1100).flatmap(
        lambda size: inner.map(lambda value: {str(number): value for number in range(size)})
    )
    runs = st.tuples(st.lists(inner, max_size=3), st.integers(1, 200)).map(lambda drawn: drawn[0] * drawn[1])
    made = runs.map(lambda values: Made(lambda number: values[number], range(len(values))))
    return runs | runs.map(tuple) | made | tables | st.dictionaries(st.text(), inner, max_size=4)


@given(value=st.recursive(SCALARS, _nested, max_leaves=8))
def test_the_pieces_are_the_whole(value: Any) -> None:
    """Objects, tables, lists short and long, lists that are made when they are read: byte by byte."""
    assert json_in_pieces(value) == compact_json(value)


@given(size=st.integers(1, 20_000), count=st.integers(1, 200), is_made=st.booleans(), is_nested=st.booleans())
def test_no_piece_is_large(size: int, count: int, *, is_made: bool, is_nested: bool) -> None:
    """Whatever the size of the items of a list, a piece is at most twice what it should be, or one item."""
    item: Any = {"text": "x" * size}
    if is_nested:
        item = {"items": [item] * 10}
    items = Made(lambda _number: item, range(count)) if is_made else [item] * count
    assert max(map(len, json_pieces({"items": items}))) <= 2 * 65_536 + size


@given(value=st.lists(SCALARS), index=st.integers(-5, 5))
def test_a_made_list_is_a_list(value: list[Any], index: int) -> None:
    """It has the length, the items and the slices of one, in either encoder, and nothing else passes for one."""
    made = Made(lambda number: value[number], range(len(value)))
    assert len(made) == len(value)
    assert list(made) == made[:] == listed(made) == value
    assert made[index:] == value[index:]
    if -len(value) <= index < len(value):
        assert made[index] == value[index]
    assert compact_json({"a": made}) == compact_json({"a": value})
    if all(abs(each) < 2**63 for each in value if isinstance(each, int)):
        assert encode({"a": made}) == encode({"a": value})
    with pytest.raises(TypeError, match="set is no JSON"):
        compact_json({"a": {1}})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused(value: float) -> None:
    """As `compact_json` refuses it."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_in_pieces([value])
    assert json.loads(json_in_pieces([1.5])) == [1.5]
