"""What a request wants of the engine, after every check that vLLM makes of it, in its order and words.

(vllm/sampling_params.py and vllm/v1/engine/input_processor.py, 0.33.0)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from understudy.wire.errors import ApiError, refusal
from understudy.wire.fields import RepetitionDetectionParams, StructuredOutputsParams
from understudy.wire.limits import (
    MAX_BAD_WORDS,
    MAX_LOGPROB_TOKEN_IDS,
    MAX_N_SEQUENCES,
    MAX_STOP_CHARACTERS,
    ModelLimits,
)

_GREEDY_BELOW = 1e-5
_LEAST_TEMPERATURE = 1e-2
_MOST_LOGIT_BIAS = 100.0
_NEUTRAL = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to answer one prompt. `max_tokens` is what remains after the model's limits, None if nothing bounds it yet.

    `logprobs` is the number of log probabilities per token, -1 for the whole vocabulary, None for none.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] | None = None
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    structured_outputs: StructuredOutputsParams | None = None
    repetition_detection: RepetitionDetectionParams | None = None
    thinking_token_budget: int | None = None
    stream_interval: int | None = None
    routed_experts_prompt_start: int = 0
    extra_args: Mapping[str, Any] | None = None
    use_beam_search: bool = False

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < _GREEDY_BELOW

    @property
    def skip_reading_prefix_cache(self) -> bool:
        """Whether every token of the prompt must be computed: cached ones have no log probabilities."""
        return self.prompt_logprobs is not None


class SamplingFields(Protocol):
    """The fields that the bodies of completions and of chats share."""

    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    stop: str | list[str] | None
    stop_token_ids: list[int] | None
    min_tokens: int
    ignore_eos: bool
    include_stop_str_in_output: bool
    skip_special_tokens: bool | None
    spaces_between_special_tokens: bool
    logprob_token_ids: list[int] | None
    logit_bias: dict[str, float] | None
    allowed_token_ids: list[int] | None
    bad_words: list[str]
    repetition_detection: RepetitionDetectionParams | None
    thinking_token_budget: int | None
    stream_interval: int | None
    routed_experts_prompt_start: int
    vllm_xargs: dict[str, str | int | float | list[str | int | float]] | None
    kv_transfer_params: dict[str, Any] | None
    ec_transfer_params: dict[str, Any] | None
    use_beam_search: bool


def sampling_of(
    request: SamplingFields,
    limits: ModelLimits,
    *,
    n: int,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
    structured_outputs: StructuredOutputsParams | None,
) -> Sampling:
    """Return the sampling of one prompt: what the client says, else what the server does, else neutral.

    Raises ApiError for values out of range.
    """
    defaults = limits.default_sampling
    values: dict[str, Any] = {
        name: given if (given := getattr(request, name)) is not None else defaults.get(name, neutral)
        for name, neutral in _NEUTRAL.items()
    }
    skip_special = request.skip_special_tokens
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    extra = dict(request.vllm_xargs or {}) | {
        name: params
        for name in ("kv_transfer_params", "ec_transfer_params")
        if (params := getattr(request, name))
    }
    sampling = Sampling(
        n=n,
        max_tokens=max_tokens,
        min_tokens=request.min_tokens,
        seed=None if request.seed == -1 else request.seed,
        stop=stop,
        stop_token_ids=_stop_token_ids(request.stop_token_ids, defaults),
        include_stop_str_in_output=request.include_stop_str_in_output,
        ignore_eos=request.ignore_eos,
        skip_special_tokens=bool(defaults.get("skip_special_tokens", True))
        if skip_special is None
        else skip_special,
        spaces_between_special_tokens=request.spaces_between_special_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logprob_token_ids=tuple(request.logprob_token_ids) if request.logprob_token_ids else None,
        logit_bias=_logit_bias(request.logit_bias),
        allowed_token_ids=None if request.allowed_token_ids is None else tuple(request.allowed_token_ids),
        bad_words=tuple(dict.fromkeys(request.bad_words)),
        structured_outputs=structured_outputs,
        repetition_detection=request.repetition_detection,
        thinking_token_budget=request.thinking_token_budget,
        stream_interval=request.stream_interval,
        routed_experts_prompt_start=request.routed_experts_prompt_start,
        extra_args=extra or None,
        use_beam_search=request.use_beam_search,
        **values,
    )
    return _verified(sampling)


def _stop_token_ids(given: list[int] | None, defaults: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([*(given or ()), *(defaults.get("stop_token_ids") or ())]))


def _logit_bias(given: dict[str, float] | None) -> dict[int, float] | None:
    if given is None:
        return None
    bias: dict[int, float] = {}
    invalid: list[str] = []
    for token, value in given.items():
        try:
            bias[int(token)] = min(_MOST_LOGIT_BIAS, max(-_MOST_LOGIT_BIAS, value))
        except ValueError:
            invalid.append(token)
    if invalid:
        raise refusal(
            f"logit_bias contains key(s) that cannot be converted to integer token IDs: {invalid!r}",
            "logit_bias",
            invalid,
        )
    return bias


def _verified(sampling: Sampling) -> Sampling:
    """Return the sampling in its final form, or raise ApiError."""
    if sampling.use_beam_search:
        _check_n("beam_width", sampling.n)
        return sampling
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        sampling = replace(sampling, temperature=_LEAST_TEMPERATURE)
    _check_n("n", sampling.n)
    if sampling.extra_args:
        _check_integers(sampling.extra_args)
    _check_penalties(sampling)
    _check_distribution(sampling)
    _check_lengths(sampling)
    _check_words(sampling)
    if not sampling.is_greedy:
        return sampling
    if sampling.n > 1:
        raise refusal(f"n must be 1 when using greedy sampling, got {sampling.n}.")
    return replace(sampling, top_p=1.0, top_k=0, min_p=0.0)


def _check_n(name: str, value: int) -> None:
    if value < 1:
        raise refusal(f"{name} must be at least 1, got {value}.")
    if value > MAX_N_SEQUENCES:
        raise refusal(
            f"{name} must be at most {MAX_N_SEQUENCES}, got {value}. To increase this limit, set the"
            " VLLM_MAX_N_SEQUENCES environment variable."
        )


def _check_integers(extra_args: Mapping[str, Any]) -> None:
    pending: list[object] = [dict(extra_args)]
    while pending:
        value = pending.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise refusal("extra_args integers must be between -2**63 and 2**64 - 1.", "extra_args")
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _check_penalties(sampling: Sampling) -> None:
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(sampling, name)
        if not -2.0 <= value <= 2.0:
            raise refusal(f"{name} must be in [-2, 2], got {value}.")
    repetition = sampling.repetition_penalty
    if not math.isfinite(repetition):
        raise refusal(f"repetition_penalty must be a finite number, got {repetition}.")
    if repetition <= 0.0:
        raise refusal(f"repetition_penalty must be greater than zero, got {repetition}.")


def _check_distribution(sampling: Sampling) -> None:
    temperature = sampling.temperature
    if not math.isfinite(temperature):
        raise refusal(f"temperature must be a finite number, got {temperature}.", "temperature", temperature)
    if temperature < 0.0:
        raise refusal(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    if temperature > 2.0:
        raise refusal(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)
    if not 0.0 < sampling.top_p <= 1.0:
        raise refusal(f"top_p must be in (0, 1], got {sampling.top_p}.", "top_p", sampling.top_p)
    if sampling.top_k < -1:
        raise refusal(f"top_k must be 0 (disable), or at least 1, got {sampling.top_k}.")
    if not 0.0 <= sampling.min_p <= 1.0:
        raise refusal(f"min_p must be in [0, 1], got {sampling.min_p}.")


def _check_lengths(sampling: Sampling) -> None:
    most, least = sampling.max_tokens, sampling.min_tokens
    if most is not None and most < 1:
        raise refusal(f"max_tokens must be at least 1, got {most}.", "max_tokens", most)
    if least < 0:
        raise refusal(f"min_tokens must be greater than or equal to 0, got {least}.")
    if most is not None and least > most:
        raise refusal(f"min_tokens must be less than or equal to max_tokens={most}, got {least}.")
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(sampling, name)
        if value is not None and value < -1:
            raise refusal(f"{name} must be non-negative or -1, got {value}.", name, value)


def _check_words(sampling: Sampling) -> None:
    if not all(sampling.stop):
        raise refusal("stop cannot contain an empty string.")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in sampling.stop):
        raise refusal(f"stop strings must have at most {MAX_STOP_CHARACTERS} characters.", "stop")
    if not all(sampling.bad_words):
        raise refusal(f"bad_words cannot contain an empty string. Got bad_words={list(sampling.bad_words)}")


def check_for_model(sampling: Sampling, limits: ModelLimits) -> None:
    """Raise ApiError for what this model cannot do.

    vLLM finds this out when the engine takes the request. A stream has begun by then: the error is its only event.
    """
    if sampling.use_beam_search:
        return
    _check_logprobs(sampling, limits)
    vocabulary = limits.vocabulary_size
    for name in ("logit_bias", "stop_token_ids"):
        unknown = _unknown(getattr(sampling, name), vocabulary)
        if unknown:
            raise refusal(
                f"token_id(s) {unknown} in {name} contain out-of-vocab token ids. Vocabulary size: {vocabulary}",
                name,
                unknown,
            )
    allowed = sampling.allowed_token_ids
    if allowed is not None and not allowed:
        raise refusal("allowed_token_ids is not None and empty!", "allowed_token_ids", [])
    if unknown := _unknown(allowed, vocabulary):
        raise refusal("allowed_token_ids contains out-of-vocab token id!", "allowed_token_ids", unknown)
    if sampling.structured_outputs is not None:
        sampling.structured_outputs.verify()
    if sampling.thinking_token_budget is not None and not limits.has_reasoning_parser:
        raise refusal(
            "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser and/or"
            " --reasoning-config to use thinking_token_budget."
        )


def _unknown(token_ids: Sequence[int] | Mapping[int, float] | None, vocabulary: int) -> list[int]:
    return [token_id for token_id in token_ids or () if not 0 <= token_id < vocabulary]


def _check_logprobs(sampling: Sampling, limits: ModelLimits) -> None:
    _check_logprob_count("logprobs", "sample", sampling.logprobs, limits)
    ids = sampling.logprob_token_ids
    if ids is not None:
        if len(ids) > MAX_LOGPROB_TOKEN_IDS:
            raise refusal(
                f"Requested logprob_token_ids of length {len(ids)}, which is greater than max allowed:"
                f" {MAX_LOGPROB_TOKEN_IDS}",
                "logprob_token_ids",
                len(ids),
            )
        if unknown := _unknown(ids, limits.vocabulary_size):
            raise refusal(
                f"token_id(s) {unknown} in logprob_token_ids contain out-of-vocab token ids. Vocabulary size:"
                f" {limits.vocabulary_size}",
                "logprob_token_ids",
                unknown,
            )
    _check_logprob_count("prompt_logprobs", "prompt", sampling.prompt_logprobs, limits)


def _check_logprob_count(
    name: str, kind: Literal["sample", "prompt"], count: int | None, limits: ModelLimits
) -> None:
    if count is None:
        return
    wanted = limits.vocabulary_size if count == -1 else count
    if wanted > limits.most_logprobs:
        raise refusal(
            f"Requested {kind} logprobs of {wanted}, which is greater than max allowed: {limits.most_logprobs}",
            name,
            wanted,
        )


def check_prompt(token_ids: Sequence[int], sampling: Sampling, limits: ModelLimits) -> None:
    """Raise ApiError for a prompt that the engine cannot take; like `check_for_model` after a stream has begun."""
    length, most = len(token_ids), limits.max_model_len
    if not length:
        raise ApiError("The decoder prompt cannot be empty")
    if length > most:
        raise ApiError(
            f"The decoder prompt (length {length}) is longer than the maximum model length of {most}. Make sure that"
            " `max_model_len` is no smaller than the number of text tokens."
        )
    if length == most:
        raise ApiError(
            f"The decoder prompt (length {length}) plus the number of requested output tokens (at least 1) is longer"
            f" than the maximum model length of {most}. Make sure that `max_model_len` is no smaller than the number of"
            " text tokens (prompt + requested output tokens)."
        )
    check_vocabulary(token_ids, limits)
    start = sampling.routed_experts_prompt_start
    if not 0 <= start <= length:
        raise refusal(
            f"routed_experts_prompt_start must be between 0 and the prompt length ({length}), inclusive.",
            "routed_experts_prompt_start",
            start,
        )


def check_vocabulary(token_ids: Sequence[int], limits: ModelLimits, parameter: str | None = None) -> None:
    """Raise ApiError for token ids that neither the model nor the tokenizer knows."""
    for extreme in (min(token_ids), max(token_ids)):
        if not 0 <= extreme <= limits.max_token_id:
            error = ApiError(f"Token id {extreme} is out of vocabulary", param=parameter)
            raise error if parameter is None else refusal(error.message, parameter)


def check_bad_words(
    bad_words: Sequence[str], encode: Callable[[str], Sequence[int]], limits: ModelLimits
) -> list[list[int]]:
    """Return the token sequences that bad words stand for, each at the start and inside of a text.

    `encode` adds no special tokens. Raises ApiError where a word has no token or there are too many.
    """
    sequences: list[list[int]] = []
    for word in bad_words:
        bare = list(encode(word.lstrip()))
        if not bare:
            raise refusal(
                "bad_words entries must tokenize to at least one token.", "bad_words", list(bad_words)
            )
        spaced = list(encode(" " + word.lstrip()))
        sequences.append(bare)
        if spaced and spaced[0] != bare[0] and len(spaced) == len(bare):
            sequences.append(spaced)
        if len(sequences) > MAX_BAD_WORDS:
            raise refusal(
                f"Too many bad words after tokenization: {MAX_BAD_WORDS + 1}. The max number is {MAX_BAD_WORDS}.",
                "bad_words",
                list(bad_words),
            )
    unknown = [token_id for sequence in sequences for token_id in sequence if token_id > limits.max_token_id]
    if unknown:
        raise refusal(
            f"The model vocabulary size is {limits.max_token_id + 1}, but the following tokens were specified as bad:"
            f" {unknown}. All token id values should be integers satisfying: 0 <= token_id <= {limits.max_token_id}.",
            "bad_words",
            list(bad_words),
        )
    return sequences
