"""Log probabilities of tokens, plausible and seeded, in the form that answers are built of."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from understudy.server.generate import DrawnLogprobs, logprob_of, logprobs_for, prompt_logprobs_for
from understudy.tokenize import Tokenizer
from understudy.wire.logprobs import Candidate, TokenLogprobs
from understudy.wire.sampling import Sampling


class Positions:
    """Tells the log probabilities of one sample's tokens, and of its prompt's."""

    def __init__(self, tokenizer: Tokenizer, vocabulary_size: int, sampling: Sampling, key: bytes) -> None:
        self._tokenizer = tokenizer
        # Only words that the tokenizer knows can be told apart by their texts.
        self._vocabulary_size = min(vocabulary_size, tokenizer.vocabulary_size)
        self._sampling = sampling
        self._key = key
        self._texts: dict[int, str] = {}

    def of_output(self, token_ids: Sequence[int], first_position: int) -> list[TokenLogprobs]:
        """Return what is told of output tokens, the first of which is at `first_position`."""
        return [
            self._output(token_id, position)
            for position, token_id in enumerate(token_ids, start=first_position)
        ]

    def of_prompt(self, token_ids: Sequence[int]) -> list[TokenLogprobs]:
        """Return what is told of a prompt's tokens; the first has no candidates."""
        num_listed = self._sampling.prompt_logprobs or 0
        drawn = prompt_logprobs_for(token_ids, self._key, num_listed, self._vocabulary_size)
        return [
            TokenLogprobs(
                token_id,
                self._text(token_id),
                None if each is None else _Candidates(self._candidates, token_id, each),
            )
            for token_id, each in zip(token_ids, drawn, strict=True)
        ]

    def _output(self, token_id: int, position: int) -> TokenLogprobs:
        sampling = self._sampling
        drawn = logprobs_for(
            token_id,
            position,
            self._key,
            sampling.logprobs or 0,
            self._vocabulary_size,
            greedy=sampling.is_greedy,
        )
        candidates: Sequence[Candidate] = _Candidates(self._candidates, token_id, drawn)
        if sampling.logprob_token_ids:
            candidates = [*candidates, *self._wanted(token_id, position)]
        return TokenLogprobs(token_id, self._text(token_id), candidates)

    def _wanted(self, token_id: int, position: int) -> Iterator[Candidate]:
        """Yield the tokens that the request asks for by their ids, but for the token itself."""
        sampling = self._sampling
        for other in sampling.logprob_token_ids or ():
            if other != token_id:
                logprob = logprob_of(
                    other, token_id, position, self._key, self._vocabulary_size, greedy=sampling.is_greedy
                )
                yield Candidate(other, self._text(other), logprob)

    def _candidates(self, token_id: int, drawn: DrawnLogprobs) -> Iterator[Candidate]:
        """Yield the token itself first, then the likeliest others, as the engine orders them."""
        text = self._text
        yield Candidate(token_id, text(token_id), drawn.logprob, drawn.rank)
        for rank, (other, logprob) in enumerate(drawn.top, start=1):
            if other != token_id:
                yield Candidate(other, text(other), logprob, rank)

    def _text(self, token_id: int) -> str:
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = self._tokenizer.token_text(token_id)
        return text


class _Candidates(Sequence[Candidate]):
    """The candidates at one place, made whenever they are read: a long text has millions."""

    __slots__ = ("_drawn", "_make", "_token_id")

    def __init__(
        self, make: Callable[[int, DrawnLogprobs], Iterator[Candidate]], token_id: int, drawn: DrawnLogprobs
    ) -> None:
        self._make = make
        self._token_id = token_id
        self._drawn = drawn

    def __iter__(self) -> Iterator[Candidate]:
        return self._make(self._token_id, self._drawn)

    def __len__(self) -> int:
        return len(self._drawn)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return list(self)[index]
