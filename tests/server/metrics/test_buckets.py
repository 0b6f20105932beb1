"""Bucket bounds are vLLM's, and a custom list is refused where vLLM refuses it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.server.metrics import BUCKET_FAMILIES, check_custom_buckets
from understudy.server.metrics.buckets import histogram_buckets, one_two_five


@given(max_value=st.integers(1, 10**9))
def test_token_buckets_are_all_one_two_fives(max_value: int) -> None:
    """They begin at 1, end at the last one that is not above, and none is left out."""
    bounds = one_two_five(max_value)
    assert bounds[0] == 1
    assert bounds[-1] <= max_value
    following = {1: 2, 2: 2.5, 5: 2}
    for lower, upper in zip(bounds, [*bounds[1:], None], strict=True):
        mantissa = int(str(lower)[0])
        expected = lower * following[mantissa]
        assert expected == upper or (upper is None and expected > max_value)


@given(family=st.sampled_from(sorted(BUCKET_FAMILIES)), bounds=st.sets(st.integers(1, 99), min_size=1))
def test_a_custom_list_replaces_its_family_only(family: str, bounds: set[int]) -> None:
    """Its bounds are taken as they are, all other families keep theirs."""
    custom = check_custom_buckets({family: sorted(bounds)})
    buckets, default = histogram_buckets(4096, custom), histogram_buckets(4096)
    assert buckets == {**default, family: tuple(float(bound) for bound in sorted(bounds))}


@pytest.mark.parametrize(
    ("custom", "complaint"),
    [
        ({"ttft": [1]}, "custom_histogram_buckets: unknown bucket family 'ttft'; known families: \\['inter_"),
        ({"request_tokens": []}, "\\['request_tokens'\\]: bucket list must not be empty"),
        ({"request_tokens": 5}, "must be a list of numbers, got 5"),
        ({"request_tokens": [1, True]}, "bound True must be a number, not a boolean"),
        ({"request_tokens": ["one"]}, "bound 'one' must be a number"),
        ({"request_tokens": [0, 1]}, "bound 0.0 must be finite and greater than 0"),
        ({"request_tokens": [1, math.inf]}, "bound inf must be finite and greater than 0"),
        ({"request_tokens": [2, 2]}, "bounds \\[2.0, 2.0\\] must be strictly increasing"),
    ],
)
def test_wrong_lists_are_named(custom: dict[str, Any], complaint: str) -> None:
    """The message names the family, the bound and what is wrong with it."""
    with pytest.raises(UsageError, match=complaint):
        check_custom_buckets(custom)
