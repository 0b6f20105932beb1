"""Answers of a real model: those of the model itself, however they are read."""

from pathlib import Path

import pytest
import torch
import transformers
from tests.server.generate.questions import EOS, TOKENIZER, WORDS, question, read

from understudy.errors import InputError
from understudy.server.generate import Generator, make_generator

pytestmark = pytest.mark.transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny GPT-2 of random weights."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=TOKENIZER.vocabulary_size, n_positions=128, n_embd=32, n_layer=2, n_head=2
    )
    path = tmp_path_factory.mktemp("model")
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """Return the generator of that model."""
    return make_generator("transformers", TOKENIZER, model_folder=folder)


def test_greedy_answers_are_the_models(folder: Path, generator: Generator) -> None:
    """Step by step with cached keys and values comes what the model generates at once."""
    asked = question(temperature=0.0, max_tokens=20)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([list(asked.prompt_token_ids)])
    whole = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20, pad_token_id=0
    )
    expected = whole[0, prompt.shape[1] :].tolist()
    assert list(generator.answer(asked).tokens(0, 20)) == expected
    answer = generator.answer(asked)
    assert [answer.tokens(index, 1)[0] for index in range(20)] == expected


def test_samples_are_keyed_by_the_question(generator: Generator) -> None:
    """The same question gives the same answer, another seed another, and the likeliest token alone the greedy one."""
    answers = [tuple(generator.answer(question(seed=seed)).tokens(0, 20)) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    greedy = list(generator.answer(question(temperature=0.0)).tokens(0, 20))
    assert list(generator.answer(question(top_k=1)).tokens(0, 20)) == greedy
    assert list(generator.answer(question(top_p=1e-9)).tokens(0, 20)) == greedy


def test_masks_hold(generator: Generator) -> None:
    """Allowed tokens, biases and `min_tokens` work on the model's own probabilities."""
    allowed = frozenset(WORDS[:5])
    assert set(generator.answer(question(allowed_token_ids=allowed)).tokens(0, 40)) <= allowed
    assert set(generator.answer(question(logit_bias={WORDS[3]: 100.0})).tokens(0, 10)) == {WORDS[3]}
    asked = question(logit_bias={EOS: 100.0}, min_tokens=7)
    said = read(generator.answer(asked), asked)
    assert said[-1] == EOS
    assert len(said) == 8


def test_a_demanded_text_is_said(generator: Generator) -> None:
    """A structured output is said in place of the model's words, then ended."""
    said = list(WORDS[:4])
    asked = question(text=TOKENIZER.decode(said))
    assert read(generator.answer(asked), asked) == [*said, EOS]


def test_what_cannot_work_is_refused(generator: Generator, tmp_path: Path) -> None:
    """A folder without a model, one that holds something else, and a question beyond the model's context."""
    with pytest.raises(InputError, match=r"no config\.json"):
        make_generator("transformers", TOKENIZER, model_folder=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(InputError, match="no causal language model"):
        make_generator("transformers", TOKENIZER, model_folder=tmp_path)
    with pytest.raises(InputError, match="the model reads 128"):
        generator.answer(question(max_tokens=126))


@pytest.mark.parametrize("unknown", [-1, TOKENIZER.vocabulary_size, 10**9])
def test_token_ids_that_the_model_does_not_know_are_refused(generator: Generator, unknown: int) -> None:
    """Before a step: the served model may have a larger vocabulary than the one that answers."""
    with pytest.raises(InputError, match=f"the prompt has the token id {unknown}; the model knows 0 to"):
        generator.answer(question(prompt_token_ids=(5, unknown)))
    with pytest.raises(InputError, match=f"logit_bias has the token id {unknown}; the model knows 0 to"):
        generator.answer(question(logit_bias={unknown: 1.0}))
    greatest = TOKENIZER.vocabulary_size - 1
    asked = question(prompt_token_ids=(5, greatest), logit_bias={greatest: 1.0})
    assert len(generator.answer(asked).tokens(0, 3)) == 3
