"""How many tokens a request took, and how long: the objects at the end of answers.

(vllm/entrypoints/serve/engine/protocol.py and generate/base, 0.33.0)
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request. The details are None unless the server was asked to tell them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    created_cache_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def counts(self) -> dict[str, Any]:
        """The three counts, as every chunk carries them where continuous usage is asked for."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }

    @property
    def whole(self) -> dict[str, Any]:
        """The object of a whole answer: with its nulls."""
        prompt_details = None
        if self._has_prompt_details:
            prompt_details = {
                "cached_tokens": self.cached_tokens,
                "created_cache_tokens": self.created_cache_tokens,
                "multimodal_tokens": None,
            }
        return {
            **self.counts,
            "prompt_tokens_details": prompt_details,
            "completion_tokens_details": self.completion_details,
        }

    @property
    def sparse(self) -> dict[str, Any]:
        """The object of a stream's last chunk: without nulls."""
        usage = self.counts
        if self._has_prompt_details:
            details = {"cached_tokens": self.cached_tokens, "created_cache_tokens": self.created_cache_tokens}
            usage["prompt_tokens_details"] = without_nulls(details)
        if self.completion_details is not None:
            usage["completion_tokens_details"] = self.completion_details
        return usage

    @property
    def completion_details(self) -> dict[str, Any] | None:
        """The count of reasoning tokens, where there is a reasoning parser."""
        return None if self.reasoning_tokens is None else {"reasoning_tokens": self.reasoning_tokens}

    @property
    def _has_prompt_details(self) -> bool:
        return self.cached_tokens is not None or self.created_cache_tokens is not None


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """Times of one request with a single answer, in milliseconds, and its speed in tokens per second."""

    time_to_first_token_ms: float | None = None
    generation_time_ms: float | None = None
    queue_time_ms: float | None = None
    mean_itl_ms: float | None = None
    tokens_per_second: float | None = None

    @property
    def whole(self) -> dict[str, Any]:
        """The object of a whole answer."""
        return {
            "time_to_first_token_ms": self.time_to_first_token_ms,
            "generation_time_ms": self.generation_time_ms,
            "queue_time_ms": self.queue_time_ms,
            "mean_itl_ms": self.mean_itl_ms,
            "tokens_per_second": self.tokens_per_second,
            "speculative_decoding": None,
        }

    @property
    def sparse(self) -> dict[str, Any]:
        """The object of a stream's last chunk."""
        return without_nulls(self.whole)


def request_metrics(
    queued_seconds: float,
    scheduled_seconds: float,
    first_token_seconds: float,
    last_token_seconds: float,
    completion_tokens: int,
) -> RequestMetrics:
    """Return the times of a request by its four moments on one clock; a moment that never came is 0."""
    inference_ms = (last_token_seconds - scheduled_seconds) * 1000
    decode_seconds = last_token_seconds - first_token_seconds
    was_scheduled, has_first, has_last = (
        scheduled_seconds > 0,
        first_token_seconds > 0,
        last_token_seconds > 0,
    )
    return RequestMetrics(
        time_to_first_token_ms=(
            (first_token_seconds - scheduled_seconds) * 1000 if was_scheduled and has_first else None
        ),
        generation_time_ms=decode_seconds * 1000 if has_first and has_last else None,
        queue_time_ms=(
            (scheduled_seconds - queued_seconds) * 1000 if queued_seconds > 0 and was_scheduled else None
        ),
        mean_itl_ms=(
            decode_seconds / (completion_tokens - 1) * 1000
            if has_first and has_last and completion_tokens > 1
            else None
        ),
        tokens_per_second=(
            completion_tokens / inference_ms * 1000
            if was_scheduled and has_last and inference_ms > 0
            else None
        ),
    )


def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are set."""
    return {name: value for name, value in fields.items() if value is not None}
