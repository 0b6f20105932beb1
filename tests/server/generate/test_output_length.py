"""Laws of the lengths of answers."""

from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.questions import EOS, QUESTIONS, TOKENIZER, question, read

from understudy.errors import UsageError
from understudy.server.generate import (
    Question,
    keyed_random,
    make_generator,
    parse_output_length,
)

SPECS = [
    "fixed:200",
    "uniform:50-200",
    "normal:200,50",
    "lognormal:200,0.6",
    "exponential:200",
    "normal:1,500",
]


def _lengths(spec: str, **fields: object) -> list[int]:
    length = parse_output_length(spec)
    drawn = [length.draw(question(**fields), keyed_random(b"%d" % seed, "t"), [3, 9]) for seed in range(2000)]
    return [tokens for tokens in drawn if tokens is not None]


@given(spec=st.sampled_from(SPECS), key=st.binary(min_size=1, max_size=16))
def test_a_length_is_positive_and_drawn_from_its_key(spec: str, key: bytes) -> None:
    """Every length is at least 1, and the same chance gives the same length."""
    length = parse_output_length(spec)
    drawn = [length.draw(question(), keyed_random(key, "length")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] is not None
    assert drawn[0] >= 1


def test_distributions_are_what_they_are_called() -> None:
    """Their means and medians are those of the parameters."""
    assert set(_lengths("fixed:200")) == {200}
    uniform = _lengths("uniform:50-200")
    assert (min(uniform), max(uniform)) == (50, 200)
    assert 195 < mean(_lengths("normal:200,50")) < 205
    assert 190 < median(_lengths("lognormal:200,0.6")) < 210
    assert 185 < mean(_lengths("exponential:200")) < 215
    assert set(_lengths("dataset")) == {3, 9}


def test_by_default_only_a_request_without_a_limit_of_its_own_ends_by_itself() -> None:
    """Benchmarks get the tokens that they ask for, chats without a limit get answers of a usual length."""
    assert _lengths("auto", limits_itself=True) == []
    assert _lengths("max-tokens", limits_itself=False) == []
    assert 190 < median(_lengths("auto", limits_itself=False)) < 210


@given(asked=QUESTIONS, spec=st.sampled_from(SPECS))
def test_a_limit_cuts_an_answer(asked: Question, spec: str) -> None:
    """No answer is longer than `max_tokens`, and one that does not end itself is exactly that long."""
    generator = make_generator("dummy", TOKENIZER, output_length=parse_output_length(spec))
    said = read(generator.answer(asked), asked)
    assert 1 <= len(said) <= asked.max_tokens
    assert len(said) == asked.max_tokens or said[-1] == EOS or said[-1] in asked.stop_token_ids


@pytest.mark.parametrize(
    "spec",
    ["", "fixed", "fixed:0", "fixed:1.5", "fixed:x", "uniform:9-3", "uniform:5", "normal:200", "normal:nan,1", "lognormal:9,-1",
     "exponential:inf", "dataset:1", "max-tokens:5", "gamma:3", "fixed:1,2", "fixed:99999999999", "auto:1"],
)  # fmt: skip
def test_a_spec_that_describes_no_length_is_refused(spec: str) -> None:
    """The error names the spec and what is accepted."""
    with pytest.raises(UsageError) as refusal:
        parse_output_length(spec)
    assert spec.partition(":")[0] in str(refusal.value)
    assert "\n" not in str(refusal.value)
