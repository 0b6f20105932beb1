"""Laws of answers: they depend on the question alone, obey the request, and end where they should."""

import math
import subprocess
import sys
import tracemalloc
from collections import UserDict
from collections.abc import ItemsView
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.questions import EOS, QUESTIONS, TOKENIZER, WORDS, question, read, text

from understudy.server.generate import (
    Generator,
    Question,
    make_generator,
    parse_output_length,
    prompt_digest,
    question_key,
)
from understudy.server.generate.dataset import AnswerDataset
from understudy.server.generate.masks import Masks, SharedMasks
from understudy.server.generate.word_generator import WordGenerator, dataset_voice

DUMMY = make_generator("dummy", TOKENIZER)
SHORT = make_generator("dummy", TOKENIZER, output_length=parse_output_length("uniform:1-30"))
ECHO = make_generator("echo", TOKENIZER)
DATASET = WordGenerator(
    TOKENIZER, dataset_voice(TOKENIZER, AnswerDataset([("hi", "hello there"), ("a", "one two three")]))
)
GENERATORS = st.sampled_from([DUMMY, SHORT, ECHO, DATASET])


@given(generator=GENERATORS, asked=QUESTIONS, cuts=st.lists(st.integers(1, 40), max_size=10), other=QUESTIONS)
def test_an_answer_is_a_function_of_its_question(
    generator: Generator, asked: Question, cuts: list[int], other: Question
) -> None:
    """The same tokens come however they are read, in whatever order, and whoever else is answered meanwhile."""
    whole = list(generator.answer(asked).tokens(0, 400))
    answer = generator.answer(asked)
    disturbance = generator.answer(other)
    start = 0
    for cut in cuts:
        assert list(answer.tokens(start, cut)) == whole[start : start + cut]
        disturbance.tokens(start, cut)
        start += cut
    assert list(answer.tokens(3, 5)) == whole[3:8]
    assert len(whole) == 400


@given(asked=QUESTIONS, generator=GENERATORS)
def test_masks_hold(asked: Question, generator: Generator) -> None:
    """Nothing is said that vLLM would mask, unless everything is masked."""
    said = read(generator.answer(asked), asked)
    masks = Masks(asked, SharedMasks(WORDS).of(asked))
    for index, token_id in enumerate(said):
        before = said[:index]
        if not masks.allows(token_id, before):
            assert not any(masks.allows(other, before) for other in masks.candidates())


@given(asked=QUESTIONS)
def test_no_answer_ends_before_its_minimum(asked: Question) -> None:
    """Before `min_tokens` neither the end of sequence nor a stop token comes."""
    said = read(SHORT.answer(asked), asked)
    early = said[: asked.min_tokens]
    assert EOS not in early
    assert asked.stop_token_ids.isdisjoint(early)


@given(asked=QUESTIONS)
def test_whoever_ignores_the_end_gets_all_tokens(asked: Question) -> None:
    """With `ignore_eos` the answer has exactly `max_tokens` tokens, none of them an end of sequence."""
    asked = replace(asked, ignore_eos=True, stop_token_ids=frozenset(), allowed_token_ids=None)
    for generator in (DUMMY, SHORT, ECHO, DATASET):
        said = read(generator.answer(asked), asked)
        assert len(said) == asked.max_tokens
        assert EOS not in said


@given(
    prompt=st.lists(st.integers(0, 1000), max_size=5),
    seed=st.none() | st.integers(0, 9),
    length=st.integers(1, 60),
)
def test_dummy_text_tokenizes_to_what_was_counted(prompt: list[int], seed: int | None, length: int) -> None:
    """Text of words by chance has exactly the tokens that the answer has, but for its end of sequence."""
    asked = question(prompt_token_ids=prompt, seed=seed)
    generator = make_generator("dummy", TOKENIZER, output_length=parse_output_length(f"fixed:{length}"))
    said = read(generator.answer(asked), asked)
    assert len(said) == length
    assert said[-1] == EOS
    assert TOKENIZER.encode(text(said), add_special_tokens=False) == said[:-1]


@given(asked=QUESTIONS, change=st.sampled_from(["prompt", "model", "sample", "seed", "server"]))
def test_each_part_of_the_key_counts(asked: Question, change: str) -> None:
    """Another prompt, model, sample, seed or server says something else."""
    asked = replace(asked, allowed_token_ids=None, logit_bias={}, bad_words_token_ids=())
    changed = {
        "prompt": replace(asked, prompt_token_ids=(*asked.prompt_token_ids, 1)),
        "model": replace(asked, model="other"),
        "sample": replace(asked, sample_index=asked.sample_index + 1),
        "seed": replace(asked, seed=(asked.seed or 0) + 10),
        "server": asked,
    }[change]
    generator = make_generator("dummy", TOKENIZER, seed=1 if change == "server" else 0)
    assert list(DUMMY.answer(asked).tokens(0, 30)) != list(generator.answer(changed).tokens(0, 30))


@given(index=st.integers(0, 5), seed=st.integers(0, 5))
def test_sample_i_of_a_seed_is_the_first_sample_of_seed_plus_i(index: int, seed: int) -> None:
    """As in vLLM, which gives the samples of a request consecutive seeds."""
    one = DUMMY.answer(question(seed=seed, sample_index=index)).tokens(0, 20)
    assert one == DUMMY.answer(question(seed=seed + index)).tokens(0, 20)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_says_the_same(hash_seed: str) -> None:
    """Neither the process nor its hash seed changes an answer."""
    program = (
        "from tests.server.generate.questions import TOKENIZER, question\n"
        "from understudy.server.generate import make_generator\n"
        "print(list(make_generator('dummy', TOKENIZER).answer(question(seed=3)).tokens(0, 20)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(list(DUMMY.answer(question(seed=3)).tokens(0, 20)))


def test_a_bias_of_a_hundred_says_one_token_only() -> None:
    """As in OpenAI's API, the highest bias amounts to an exclusive selection."""
    token_id = WORDS[17]
    assert set(DUMMY.answer(question(logit_bias={token_id: 100.0})).tokens(0, 50)) == {token_id}


def test_a_small_bias_makes_a_token_more_frequent() -> None:
    """A bias of ln(n) makes a token of n words as frequent as all the others together."""
    bias = {WORDS[17]: math.log(len(WORDS))}
    said = list(DUMMY.answer(question(logit_bias=bias)).tokens(0, 1000))
    assert 400 < said.count(WORDS[17]) < 600


@given(token_ids=st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), min_tokens=st.integers(0, 60))
def test_an_echo_says_the_prompt_once(token_ids: list[int], min_tokens: int) -> None:
    """A completion's prompt, a chat's last user message; only a minimum beyond it brings it again."""
    words = text(token_ids)
    for asked in (
        question(prompt_text=words, min_tokens=min_tokens),
        question(prompt_text="template around it", last_user_text=words, min_tokens=min_tokens),
        question(prompt_token_ids=token_ids, min_tokens=min_tokens),
    ):
        said = read(ECHO.answer(asked), asked)
        length = max(len(token_ids), min_tokens)
        assert said == [*(token_ids * (length // len(token_ids) + 1))[:length], EOS]


@given(said=st.lists(st.sampled_from(WORDS), max_size=40), asked=QUESTIONS)
def test_a_demanded_text_is_said_whole_and_then_ended(said: list[int], asked: Question) -> None:
    """A structured output ends right after its text, even before `min_tokens`, as vLLM's grammars make it."""
    demanded = replace(asked, text=text(said), ignore_eos=False)
    for generator in (DUMMY, ECHO, DATASET):
        assert list(generator.answer(demanded).tokens(0, len(said) + 1)) == [*said, EOS]


def test_a_dataset_answers_its_own_prompts() -> None:
    """A known prompt gets its answer, an unknown one any."""
    known = question(prompt_text="hi")
    assert text(read(DATASET.answer(known), known)) == "hello there"
    told = {
        text(read(DATASET.answer(asked), asked))
        for asked in (question(prompt_text="new", seed=seed) for seed in range(20))
    }
    assert told == {"hello there", "one two three"}


def test_a_long_answer_grows_only_as_it_is_read() -> None:
    """An answer of a million tokens holds few of them until they are asked for."""
    answer = DUMMY.answer(question(max_tokens=10**6))
    answer.tokens(0, 1)
    assert len(answer._said) < 1000  # type: ignore[attr-defined]  # what is held is the point here


@given(asked=QUESTIONS, generator=GENERATORS)
def test_a_prompts_digest_changes_no_answer(asked: Question, generator: Generator) -> None:
    """Whoever asks for many samples may work it out once."""
    prepared = replace(asked, prompt_digest=prompt_digest(asked.prompt_token_ids))
    assert question_key(3, prepared) == question_key(3, asked)
    assert list(generator.answer(prepared).tokens(0, 50)) == list(generator.answer(asked).tokens(0, 50))


@given(asked=QUESTIONS, other=QUESTIONS, generator=GENERATORS)
def test_shared_masks_change_no_answer(asked: Question, other: Question, generator: Generator) -> None:
    """Whether a question's masks are those of the one before, or another request came between."""
    fresh = replace(
        asked,
        logit_bias=dict(asked.logit_bias),
        bad_words_token_ids=list(asked.bad_words_token_ids),
        allowed_token_ids=None if asked.allowed_token_ids is None else frozenset([*asked.allowed_token_ids]),
    )
    told = [list(generator.answer(one).tokens(0, 50)) for one in (asked, asked, other, fresh, asked)]
    assert told[0] == told[1] == told[3] == told[4]


class _CountedBias(UserDict[int, float]):
    """A bias that counts how often it is read as a whole."""

    num_readings = 0

    def items(self) -> ItemsView[int, float]:
        self.num_readings += 1
        return super().items()


def test_samples_of_a_request_read_its_bias_once() -> None:
    """A bias of a whole vocabulary costs the same for 1 sample and for 128."""
    readings = []
    for num_samples in (1, 128):
        bias = _CountedBias(dict.fromkeys(range(1000), -100.0))
        for index in range(num_samples):
            DUMMY.answer(question(logit_bias=bias, sample_index=index)).tokens(0, 1)
        readings.append(bias.num_readings)
    assert readings[0] == readings[1]


def test_an_answer_that_nobody_reads_draws_nothing() -> None:
    """A source of chance takes 2.5 KiB: a queue of requests holds none of them."""
    generator = make_generator("dummy", TOKENIZER, output_length=parse_output_length("max-tokens"))
    generator.answer(question()).tokens(0, 1)
    tracemalloc.start()
    answers = [generator.answer(question(prompt_token_ids=(index,))) for index in range(100)]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(answers) == 100
    assert held < 100 * 2000
