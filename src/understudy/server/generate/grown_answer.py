"""An answer that grows as it is read: proposals of a voice, the request's masks over them, and its end."""

from collections.abc import Iterator, Sequence
from itertools import islice

from understudy.server.generate.masks import Masks
from understudy.server.generate.question import Question

MIN_GROWTH_TOKENS = 64
"""How many tokens are made at least at a time: reading one by one costs little more than an index into a list."""

_MAX_DRAWS = 16


class GrownAnswer:
    """What a voice proposes, token by token; where a mask forbids a proposal, one of `substitutes` takes its place.

    `end` is the index at which the end of sequence would naturally come, None where it never does. It is put off to
    `min_tokens`.
    """

    __slots__ = ("_end", "_masks", "_proposals", "_question", "_said", "_substitutes")

    def __init__(
        self,
        question: Question,
        masks: Masks,
        proposals: Iterator[int],
        *,
        substitutes: Iterator[int],
        end: int | None,
    ) -> None:
        self._question = question
        self._masks = masks
        self._proposals = proposals
        self._substitutes = substitutes
        self._said: list[int] = []
        token_id = question.eos_token_id
        can_end = end is not None and token_id is not None and not question.ignore_eos
        self._end = (
            max(end or 0, question.min_tokens) if can_end and masks.may_ever_say(token_id or 0) else None
        )

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Return the tokens `start` to `start + count` (exclusive)."""
        end = start + count
        if end > len(self._said):
            self._grow(end)
        return self._said[start:end]

    def _grow(self, num_tokens: int) -> None:
        said = self._said
        target = max(num_tokens, len(said) + MIN_GROWTH_TOKENS)
        if self._end is not None and len(said) <= self._end < target:
            self._say(self._end)
            assert self._question.eos_token_id is not None, (
                "only an answer with an end of sequence has an end"
            )
            said.append(self._question.eos_token_id)
        self._say(target)

    def _say(self, stop: int) -> None:
        said = self._said
        if self._masks.is_open:
            said.extend(islice(self._proposals, stop - len(said)))
            return
        while len(said) < stop:
            proposal = next(self._proposals)
            said.append(proposal if self._masks.allows(proposal, said) else self._substitute())

    def _substitute(self) -> int:
        for token_id in islice(self._substitutes, _MAX_DRAWS):
            if self._masks.allows(token_id, self._said):
                return token_id
        return self._masks.any_allowed(self._said)


class FixedAnswer:
    """A text that is demanded, whatever the masks forbid, and its end of sequence, even before `min_tokens`.

    Both are as in vLLM, whose grammars leave no other token. `then` goes on where the end of sequence is ignored.
    """

    __slots__ = ("_said", "_then")

    def __init__(self, question: Question, token_ids: Sequence[int], then: Iterator[int]) -> None:
        self._said = list(token_ids)
        if question.eos_token_id is not None and not question.ignore_eos:
            self._said.append(question.eos_token_id)
        self._then = then

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Return the tokens `start` to `start + count` (exclusive)."""
        end = start + count
        if end > len(self._said):
            self._said.extend(islice(self._then, max(end - len(self._said), MIN_GROWTH_TOKENS)))
        return self._said[start:end]
