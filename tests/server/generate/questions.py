"""Questions by chance, and how an engine reads an answer."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from understudy.server.generate import Answer, Question
from understudy.tokenize import Tokenizer, load_tokenizer

TOKENIZER: Tokenizer = load_tokenizer()
WORDS = TOKENIZER.answer_token_ids()
EOS = TOKENIZER.eos_token_id or 0
assert EOS, "the offline tokenizer ends its answers"


def question(**fields: Any) -> Question:
    """Return a question with plausible defaults."""
    defaults: dict[str, Any] = {
        "prompt_token_ids": (5, 6, 7),
        "max_tokens": 100,
        "eos_token_id": EOS,
        "model": "m",
    }
    return Question(**{**defaults, **fields})


def read(answer: Answer, asked: Question) -> list[int]:
    """Return the output tokens that vLLM's engine would take: up to an end of sequence, a stop token or the limit."""
    said: list[int] = []
    while len(said) < asked.max_tokens:
        said.extend(answer.tokens(len(said), 1))
        if said[-1] in asked.stop_token_ids or (said[-1] == EOS and not asked.ignore_eos):
            break
    return said


def text(token_ids: Sequence[int]) -> str:
    """Return the text of an answer."""
    return TOKENIZER.decode(token_ids)


QUESTIONS = st.builds(
    question,
    prompt_token_ids=st.lists(st.integers(0, 1000), max_size=20).map(tuple),
    prompt_text=st.none() | st.text(max_size=30),
    last_user_text=st.none() | st.text(max_size=30),
    sample_index=st.integers(0, 3),
    seed=st.none() | st.integers(0, 5),
    max_tokens=st.integers(1, 200),
    min_tokens=st.integers(0, 100),
    limits_itself=st.booleans(),
    ignore_eos=st.booleans(),
    stop_token_ids=st.frozensets(st.sampled_from(WORDS), max_size=3),
    allowed_token_ids=st.none() | st.frozensets(st.sampled_from([*WORDS[:50], EOS]), min_size=2, max_size=60),
    logit_bias=st.dictionaries(
        st.sampled_from(WORDS), st.sampled_from([-100.0, -5.0, 3.0, 100.0]), max_size=3
    ),
    bad_words_token_ids=st.lists(st.lists(st.sampled_from(WORDS[:50]), min_size=1, max_size=3), max_size=3),
)
