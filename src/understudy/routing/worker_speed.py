"""Measures how fast one worker is, by the streamed answers that it gives and the prompts that it has to compute."""

from math import exp
from typing import NamedTuple

FADING_NS = 2_000_000_000
"""After so long a measurement counts 1/e."""
TOKENS_OF_A_PROMPT = 256
"""Tokens that every prompt counts in addition: about what a GPU computes in the time that a step takes anyway."""


class Speed(NamedTuple):
    """What was measured of a worker lately; None where there is nothing to measure.

    `stream_ns` is the time of all answers under way, added up, from their first tokens on, and `undisturbed` the part of
    it, 0 to 1, in which no prompt waited for its first token. `speed` is tokens per nanosecond of one answer under way,
    `prefill` prompt tokens, those cached left out, per nanosecond in which any prompt waited, and `context` the mean
    number of prompt tokens of all answers under way, while there were any.
    """

    stream_ns: float
    undisturbed: float
    speed: float | None
    prefill: float | None
    context: float | None


class WorkerSpeed:
    """The measurements of one worker, weighted by their age."""

    def __init__(self) -> None:
        self._waiting: set[Watched] = set()
        self._streaming: set[Watched] = set()
        self._context_tokens = 0
        self._now_ns = 0
        self._measured_ns = 0
        # Sums that fade.
        self._waiting_ns = 0.0
        self._prefilled_tokens = 0.0
        self._streaming_ns = 0.0
        self._stream_ns = 0.0
        self._undisturbed_ns = 0.0
        self._context_token_ns = 0.0
        self._tokens = 0.0

    def watch(self, prompt_tokens: int, uncached_tokens: int, now_ns: int) -> "Watched":
        """Return what measures an answer that is asked for now, to a prompt of so many tokens."""
        self._pass_time(now_ns)
        watched = Watched(self, prompt_tokens, uncached_tokens)
        self._waiting.add(watched)
        return watched

    def began(self, watched: "Watched", now_ns: int) -> None:
        """Note the first token of an answer."""
        self._pass_time(now_ns)
        self._waiting.remove(watched)
        self._streaming.add(watched)
        self._prefilled_tokens += watched.uncached_tokens + TOKENS_OF_A_PROMPT
        self._context_tokens += watched.prompt_tokens

    def ended(self, watched: "Watched", now_ns: int) -> None:
        """Note the end of an answer, whether it has begun or not."""
        self._pass_time(now_ns)
        if watched in self._streaming:
            self._streaming.remove(watched)
            self._tokens += watched.take_tokens()
            self._context_tokens -= watched.prompt_tokens
        else:
            self._waiting.remove(watched)

    def measure(self, now_ns: int) -> Speed:
        """Return what was measured up to now, and let it fade from now on."""
        self._pass_time(now_ns)
        self._tokens += sum(watched.take_tokens() for watched in self._streaming)
        measured = Speed(
            self._stream_ns,
            self._undisturbed_ns / self._stream_ns if self._stream_ns else 1.0,
            self._tokens / self._stream_ns if self._stream_ns else None,
            (self._prefilled_tokens + self._largest_waiting()) / self._waiting_ns
            if self._waiting_ns
            else None,
            self._context_token_ns / self._streaming_ns if self._streaming_ns else None,
        )
        self._fade(exp((self._measured_ns - now_ns) / FADING_NS))
        self._measured_ns = now_ns
        return measured

    def _largest_waiting(self) -> int:
        """Return the tokens of the largest prompt that waits: it may be all but computed, and engines compute one after another."""
        return max((watched.uncached_tokens + TOKENS_OF_A_PROMPT for watched in self._waiting), default=0)

    def _pass_time(self, now_ns: int) -> None:
        passed_ns = now_ns - self._now_ns
        self._now_ns = now_ns
        if self._waiting:
            self._waiting_ns += passed_ns
        if self._streaming:
            self._streaming_ns += passed_ns
            self._stream_ns += passed_ns * len(self._streaming)
            if not self._waiting:
                self._undisturbed_ns += passed_ns * len(self._streaming)
            self._context_token_ns += passed_ns * self._context_tokens

    def _fade(self, factor: float) -> None:
        self._waiting_ns *= factor
        self._prefilled_tokens *= factor
        self._streaming_ns *= factor
        self._stream_ns *= factor
        self._undisturbed_ns *= factor
        self._context_token_ns *= factor
        self._tokens *= factor


class Watched:
    """One streamed answer of a worker. Whoever relays it adds to `tokens` each piece that comes after the first."""

    __slots__ = ("_taken", "_worker", "prompt_tokens", "tokens", "uncached_tokens")

    def __init__(self, worker: WorkerSpeed, prompt_tokens: int, uncached_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.uncached_tokens = uncached_tokens
        self.tokens = 0
        self._taken = 0
        self._worker = worker

    def began(self, now_ns: int) -> None:
        """Note the first token; at most once, and not after the end."""
        self._worker.began(self, now_ns)

    def ended(self, now_ns: int) -> None:
        """Note the end of the answer, in whatever way, once."""
        self._worker.ended(self, now_ns)

    def take_tokens(self) -> int:
        """Return how many tokens have come since this was asked before."""
        new, self._taken = self.tokens - self._taken, self.tokens
        return new
