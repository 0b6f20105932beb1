"""What the emulated model is asked, and what it answers: the one seam between the server and its generators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One sample of one request: all that an answer may depend on.

    `prompt_digest` is that of the token ids, for whoever asks about one prompt several times; None leaves it to be made.
    Masks are shared between questions that hold the very same `logit_bias`, `bad_words_token_ids` and
    `allowed_token_ids`, which nobody may change meanwhile. `prompt_text` is None for a prompt of token ids, `last_user_text` for whatever is no chat. `seed` is the request's.
    `max_tokens` is the effective limit; `limits_itself` is False where only the context's length gave it.
    `text` must be said whole and then ended: a structured output or tool calls.
    """

    prompt_token_ids: Sequence[int]
    prompt_digest: bytes | None = None
    max_tokens: int
    model: str = ""
    prompt_text: str | None = None
    last_user_text: str | None = None
    sample_index: int = 0
    seed: int | None = None
    limits_itself: bool = True
    min_tokens: int = 0
    ignore_eos: bool = False
    eos_token_id: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    allowed_token_ids: frozenset[int] | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words_token_ids: Sequence[Sequence[int]] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    text: str | None = None


class Answer(Protocol):
    """An endless sequence of output tokens; whoever reads it stops at an end of sequence, as the engine does."""

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Return the tokens `start` to `start + count` (exclusive). The same call always gives the same tokens."""


class Generator(Protocol):
    """Answers questions. Equal questions get equal answers, whoever else asks and whenever."""

    def answer(self, question: Question) -> Answer:
        """Return the answer; nothing is generated before it is read."""
