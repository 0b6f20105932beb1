"""Log probabilities in OpenAI's three shapes and in vLLM's own for prompts.

(vllm/entrypoints/openai: completion/serving.py, chat_completion/serving.py and responses/serving.py, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from understudy.wire.made import Made

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has not."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token that could have come: its id, text and log probability; `rank` 1 is the likeliest."""

    token_id: int
    text: str
    logprob: float
    rank: int = 1


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One position: the token that came, and the candidates in the engine's order, the one that came first.

    `candidates` is None for the first token of a prompt, which has no probability.
    """

    token_id: int
    text: str
    candidates: Sequence[Candidate] | None


def completion_logprobs(
    positions: Sequence[TokenLogprobs],
    wanted: int,
    *,
    first_offset: int = 0,
    as_token_ids: bool = False,
    all_candidates: bool = False,
) -> dict[str, Any]:
    """Return the object of /v1/completions: four lists. `wanted` more than the sampled token are told, all for -1.

    `first_offset` is where the first token starts, in characters of all tokens that were told before.
    """
    limit = None if all_candidates or wanted == -1 else wanted + 1
    tokens = [_shown(position.token_id, position.text, as_token_ids=as_token_ids) for position in positions]
    offsets = []
    for token in tokens:
        offsets.append(first_offset)
        first_offset += len(token)

    def top(position: TokenLogprobs) -> dict[str, float] | None:
        if position.candidates is None:
            return None
        return {
            _shown(candidate.token_id, candidate.text, as_token_ids=as_token_ids): _finite(candidate.logprob)
            for candidate in islice(position.candidates, limit)
        }

    return {
        "text_offset": offsets,
        "token_logprobs": [_own_logprob(position) for position in positions],
        "tokens": tokens,
        "top_logprobs": Made(top, positions),
    }


def next_offset(logprobs: dict[str, Any], offset: int) -> int:
    """Return where the token after those of a completion's object starts."""
    return logprobs["text_offset"][-1] + len(logprobs["tokens"][-1]) if logprobs["tokens"] else offset


def chat_logprobs(
    positions: Sequence[TokenLogprobs],
    wanted: int,
    *,
    as_token_ids: bool = False,
    all_candidates: bool = False,
) -> dict[str, Any]:
    """Return the object of a chat: one entry per token, with its `wanted` likeliest candidates, all for -1."""
    limit = None if all_candidates or wanted == -1 else wanted

    def entry(position: TokenLogprobs) -> dict[str, Any]:
        return {
            "token": _shown(position.token_id, position.text, as_token_ids=as_token_ids),
            "logprob": _own_logprob(position) if position.candidates is not None else LEAST_LOGPROB,
            "bytes": list(position.text.encode("utf-8", errors="replace")),
            "top_logprobs": [
                _chat_candidate(candidate, as_token_ids=as_token_ids)
                for candidate in islice(position.candidates or (), limit)
            ],
        }

    return {"content": Made(entry, positions)}


def response_logprobs(
    positions: Sequence[TokenLogprobs], wanted: int, *, as_token_ids: bool = False
) -> Sequence[dict[str, Any]]:
    """Return the list of /v1/responses: one entry per token, with its `wanted` likeliest candidates, none for -1."""

    def entry(position: TokenLogprobs) -> dict[str, Any]:
        own = _own_logprob(position)
        told = _response_token(position.token_id, position.text, own, as_token_ids=as_token_ids)
        told["top_logprobs"] = [
            _response_token(
                candidate.token_id, candidate.text, _finite(candidate.logprob), as_token_ids=as_token_ids
            )
            for candidate in islice(position.candidates or (), max(0, wanted))
        ]
        return told

    return Made(entry, positions)


def prompt_logprobs(positions: Sequence[TokenLogprobs]) -> Sequence[dict[str, Any] | None]:
    """Return vLLM's list for a prompt: per token its candidates by their ids, null for the first."""
    return Made(_scored, positions)


def _scored(position: TokenLogprobs) -> dict[str, Any] | None:
    if position.candidates is None:
        return None
    return {
        str(candidate.token_id): {
            "logprob": _finite(candidate.logprob),
            "rank": candidate.rank,
            "decoded_token": candidate.text,
        }
        for candidate in position.candidates
    }


def _chat_candidate(candidate: Candidate, *, as_token_ids: bool) -> dict[str, Any]:
    shown = _shown(candidate.token_id, candidate.text, as_token_ids=as_token_ids)
    return {
        "token": shown,
        "logprob": _finite(candidate.logprob),
        "bytes": list(shown.encode("utf-8", errors="replace")),
    }


def _response_token(token_id: int, text: str, logprob: float | None, *, as_token_ids: bool) -> dict[str, Any]:
    shown = _shown(token_id, text, as_token_ids=as_token_ids)
    return {"token": shown, "bytes": list(shown.encode("utf-8", errors="replace")), "logprob": logprob}


def _own_logprob(position: TokenLogprobs) -> float | None:
    if position.candidates is None:
        return None
    own = next(candidate for candidate in position.candidates if candidate.token_id == position.token_id)
    return _finite(own.logprob)


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _shown(token_id: int, text: str, *, as_token_ids: bool) -> str:
    return f"token_id:{token_id}" if as_token_ids else text
