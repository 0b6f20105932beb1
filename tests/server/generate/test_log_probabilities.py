"""Laws of log probabilities."""

import math
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from understudy.server.generate import logprob_of, logprobs_for, prompt_logprobs_for

KEYS = st.binary(min_size=16, max_size=16)
SIZES = st.integers(1, 300)


@given(data=st.data(), key=KEYS, size=SIZES, position=st.integers(0, 10**6), greedy=st.booleans())
def test_they_could_be_a_models(
    data: st.DataObject, key: bytes, size: int, position: int, *, greedy: bool
) -> None:
    """No probability is above 1 nor is their sum, the best come first, no token comes twice, and ranks are right."""
    token_id = data.draw(st.integers(0, size - 1))
    top_k = data.draw(st.integers(-1, size + 3))
    told = logprobs_for(token_id, position, key, top_k, size, greedy=greedy)
    logprobs = [logprob for _, logprob in told.top]
    assert logprobs == sorted(logprobs, reverse=True)
    assert all(logprob <= 0 for logprob in [told.logprob, *logprobs])
    assert sum(map(math.exp, logprobs)) <= 1
    assert len({token for token, _ in told.top}) == len(told.top) == (size if top_k < 0 else min(top_k, size))
    assert all(0 <= token < size for token, _ in told.top)
    assert 1 <= told.rank <= size
    assert not greedy or told.rank == 1
    if told.rank <= len(told.top):
        assert told.top[told.rank - 1] == (token_id, told.logprob)
    else:
        assert token_id not in dict(told.top)


@given(data=st.data(), key=KEYS, size=SIZES, position=st.integers(0, 99))
def test_views_of_one_position_agree(data: st.DataObject, key: bytes, size: int, position: int) -> None:
    """A shorter list begins a longer one, and any token that is asked for has the probability of the whole list."""
    token_id, other_id = data.draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)))
    whole = logprobs_for(token_id, position, key, -1, size)
    for top_k in (0, 1, 5):
        told = logprobs_for(token_id, position, key, top_k, size)
        assert (told.logprob, told.rank, told.top) == (whole.logprob, whole.rank, whole.top[:top_k])
        assert len(told) == len({token_id, *dict(told.top)})
    assert logprob_of(other_id, token_id, position, key, size) == dict(whole.top)[other_id]


@given(prompt=st.lists(st.integers(0, 99), max_size=20), key=KEYS)
def test_a_prompts_first_token_has_none(prompt: list[int], key: bytes) -> None:
    """Every other token has, and they are not those of an answer at the same place."""
    told = prompt_logprobs_for(prompt, key, 3, 100)
    assert [one is None for one in told] == [index == 0 for index in range(len(prompt))]
    for index, one in enumerate(told):
        assert one is None or one.top != logprobs_for(prompt[index], index, key, 3, 100).top


def test_most_tokens_are_the_likeliest() -> None:
    """As with a real model, the token that is said is mostly of rank 1, and sometimes far from it."""
    ranks = [logprobs_for(7, position, b"k" * 16, 0, 32_000).rank for position in range(2000)]
    assert 1000 < ranks.count(1) < 1900
    assert max(ranks) > 50


@given(data=st.data(), key=KEYS, size=SIZES, position=st.integers(0, 99), greedy=st.booleans())
def test_tokens_beyond_the_vocabulary_come_after_it(
    data: st.DataObject, key: bytes, size: int, position: int, *, greedy: bool
) -> None:
    """A model knows more tokens than its tokenizer: each has a probability of its own, below that of all that have texts."""
    others = data.draw(st.sets(st.integers(0, 200_000), min_size=1, max_size=20))
    token_id = data.draw(st.integers(0, size - 1) | st.sampled_from(sorted(others)))
    told = {
        other: logprob_of(other, token_id, position, key, size, greedy=greedy)
        for other in {*others, token_id}
    }
    assert told[token_id] == logprobs_for(token_id, position, key, 1, size, greedy=greedy).logprob
    assert len(set(told.values())) == len(told)
    assert sum(map(math.exp, told.values())) <= 1
    listed = logprobs_for(token_id, position, key, -1, size, greedy=greedy).top
    beyond = [logprob for other, logprob in told.items() if other >= size and other != token_id]
    assert all(logprob < listed[-1][1] for logprob in beyond)


def test_a_prompts_likeliest_tokens_are_worked_out_when_read() -> None:
    """Scoring a prompt takes the same memory whatever is listed: nothing is made for what nobody may read."""
    held = []
    for top_k in (0, 20):
        tracemalloc.start()
        told = prompt_logprobs_for(list(range(1000)), b"k" * 16, top_k, 32_000)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(told) == 1000
    assert held[1] < 1.1 * held[0]
