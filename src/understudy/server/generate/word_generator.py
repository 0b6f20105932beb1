"""Generators that need no model: words by chance, an echo of the prompt, the answers of a dataset."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle

from understudy.server.generate.dataset import AnswerDataset
from understudy.server.generate.grown_answer import FixedAnswer, GrownAnswer
from understudy.server.generate.keyed_random import keyed_random, question_key
from understudy.server.generate.masks import Masks, SharedMasks
from understudy.server.generate.output_length import OutputLength
from understudy.server.generate.question import Answer, Question
from understudy.tokenize import Tokenizer

Voice = Callable[[Question, bytes, Iterator[int]], tuple[Iterator[int], int | None]]
"""Takes a question, its key and endless words by chance; returns endless tokens to say, and the index of the end of
sequence, None where it never comes."""


class WordGenerator:
    """Answers with what a voice says, under the request's masks, or with the text that the question demands.

    The words of the tokenizer, of which any sequence tokenizes to itself, fill what a voice or a mask leaves open.
    """

    def __init__(self, tokenizer: Tokenizer, voice: Voice, *, seed: int = 0) -> None:
        self._tokenizer = tokenizer
        self._masks = SharedMasks(tokenizer.answer_token_ids())
        self._voice = voice
        self._seed = seed

    def answer(self, question: Question) -> Answer:
        """Return the answer; its tokens are made when they are read."""
        key = question_key(self._seed, question)
        masks = Masks(question, self._masks.of(question))
        words = masks.word_stream(lambda: keyed_random(key, "words"))
        if question.text is not None:
            token_ids = self._tokenizer.encode(question.text, add_special_tokens=False)
            return FixedAnswer(question, token_ids, words)
        proposals, end = self._voice(question, key, words)
        substitutes = words if masks.is_open else masks.word_stream(lambda: keyed_random(key, "substitutes"))
        return GrownAnswer(question, masks, proposals, substitutes=substitutes, end=end)


def dummy_voice(length: OutputLength, dataset_lengths: Sequence[int] = ()) -> Voice:
    """Return the voice that says words by chance; `dataset_lengths` is for the length `dataset`."""

    def speak(question: Question, key: bytes, words: Iterator[int]) -> tuple[Iterator[int], int | None]:
        num_tokens = length.draw(question, keyed_random(key, "length"), dataset_lengths)
        return words, None if num_tokens is None else num_tokens - 1

    return speak


def echo_voice(tokenizer: Tokenizer) -> Voice:
    """Return the voice that says the prompt, of a chat the user's last message.

    It does so once, and again and again where the end of sequence is ignored or put off.
    """

    def speak(question: Question, _key: bytes, words: Iterator[int]) -> tuple[Iterator[int], int | None]:
        text = question.prompt_text if question.last_user_text is None else question.last_user_text
        if text is None:
            token_ids = [token for token in question.prompt_token_ids if token != question.eos_token_id]
        else:
            token_ids = tokenizer.encode(text, add_special_tokens=False)
        return (cycle(token_ids) if token_ids else words), len(token_ids)

    return speak


def dataset_voice(tokenizer: Tokenizer, dataset: AnswerDataset) -> Voice:
    """Return the voice that says a dataset's answer to the very prompt, to an unknown prompt any of its answers.

    Words by chance follow where the end of sequence is ignored or put off.
    """

    def speak(question: Question, key: bytes, words: Iterator[int]) -> tuple[Iterator[int], int | None]:
        prompts = [text for text in (question.last_user_text, question.prompt_text) if text is not None]
        text = dataset.choose(prompts, keyed_random(key, "dataset"))
        token_ids = tokenizer.encode(text, add_special_tokens=False)
        return chain(token_ids, words), len(token_ids)

    return speak
