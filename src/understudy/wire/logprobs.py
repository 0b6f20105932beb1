"""Log probabilities in OpenAI's two shapes and in vLLM's own for prompts.

(vllm/entrypoints/openai/completion/serving.py and chat_completion/serving.py, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

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
    return {
        "text_offset": offsets,
        "token_logprobs": [_own_logprob(position) for position in positions],
        "tokens": tokens,
        "top_logprobs": [
            None
            if position.candidates is None
            else {
                _shown(candidate.token_id, candidate.text, as_token_ids=as_token_ids): _finite(
                    candidate.logprob
                )
                for candidate in islice(position.candidates, limit)
            }
            for position in positions
        ],
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
    content = []
    for position in positions:
        shown = _shown(position.token_id, position.text, as_token_ids=as_token_ids)
        entry: dict[str, Any] = {
            "token": shown,
            "logprob": _own_logprob(position) if position.candidates is not None else LEAST_LOGPROB,
            "bytes": list(position.text.encode("utf-8", errors="replace")),
            "top_logprobs": [
                _chat_candidate(candidate, as_token_ids=as_token_ids)
                for candidate in islice(position.candidates or (), limit)
            ],
        }
        content.append(entry)
    return {"content": content}


def prompt_logprobs(positions: Sequence[TokenLogprobs]) -> list[dict[str, Any] | None]:
    """Return vLLM's list for a prompt: per token its candidates by their ids, null for the first."""
    return [
        None
        if position.candidates is None
        else {
            str(candidate.token_id): {
                "logprob": _finite(candidate.logprob),
                "rank": candidate.rank,
                "decoded_token": candidate.text,
            }
            for candidate in position.candidates
        }
        for position in positions
    ]


def _chat_candidate(candidate: Candidate, *, as_token_ids: bool) -> dict[str, Any]:
    shown = _shown(candidate.token_id, candidate.text, as_token_ids=as_token_ids)
    return {
        "token": shown,
        "logprob": _finite(candidate.logprob),
        "bytes": list(shown.encode("utf-8", errors="replace")),
    }


def _own_logprob(position: TokenLogprobs) -> float | None:
    if position.candidates is None:
        return None
    own = next(candidate for candidate in position.candidates if candidate.token_id == position.token_id)
    return _finite(own.logprob)


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _shown(token_id: int, text: str, *, as_token_ids: bool) -> str:
    return f"token_id:{token_id}" if as_token_ids else text
