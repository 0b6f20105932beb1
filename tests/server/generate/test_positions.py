"""Laws of log probabilities in the form that answers are built of."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.questions import TOKENIZER

from understudy.server.positions import Positions
from understudy.wire.sampling import Sampling

MODEL_VOCABULARY = 128_256
IDS = st.integers(0, MODEL_VOCABULARY - 1)
SAMPLING = Sampling(max_tokens=5)


def _positions(sampling: Sampling) -> Positions:
    return Positions(TOKENIZER, MODEL_VOCABULARY, sampling, b"k" * 16)


@given(said=IDS, others=st.lists(IDS, min_size=1, max_size=5, unique=True), greedy=st.booleans())
def test_any_token_of_the_model_can_be_asked_for(said: int, others: list[int], *, greedy: bool) -> None:
    """Also one that the tokenizer has no text for; alternatives are chosen among those that have one."""
    sampling = replace(
        SAMPLING, logprobs=3, logprob_token_ids=tuple(others), temperature=0.0 if greedy else 1.0
    )
    told = _positions(sampling).of_output([said], 7)[0].candidates or ()
    chosen = [candidate.token_id for candidate in told[: len(told) - len([o for o in others if o != said])]]
    assert chosen[0] == said
    assert all(token_id < TOKENIZER.vocabulary_size for token_id in chosen[1:])
    assert {*others, said} <= {candidate.token_id for candidate in told}
    assert all(candidate.logprob <= 0 for candidate in told)


@given(prompt=st.lists(IDS, min_size=1, max_size=10), count=st.integers(0, 5))
def test_a_prompts_candidates_can_be_read_again(prompt: list[int], count: int) -> None:
    """They are made when they are read, and are the same by iteration, by index and in number."""
    told = _positions(replace(SAMPLING, prompt_logprobs=count)).of_prompt(prompt)
    assert [position.token_id for position in told] == prompt
    assert told[0].candidates is None
    for position in told[1:]:
        assert position.candidates is not None
        listed = list(position.candidates)
        assert listed == list(position.candidates) == position.candidates[:]
        assert len(position.candidates) == len(listed) in {count, count + 1}
        assert listed[0] == position.candidates[0]
        assert listed[0].token_id == position.token_id
