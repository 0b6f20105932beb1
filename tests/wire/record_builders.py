"""Record what vLLM's own classes make of log probabilities, usage, metrics and tool calls.

    VLLM_TARGET_DEVICE=cpu HF_HUB_OFFLINE=1 python tests/wire/record_builders.py tests/wire/recordings/builders.json.gz

Run it with a Python that has vLLM 0.33.0. What a server without a GPU does not answer by itself is made here by the
functions that its handlers call.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    FunctionCall,
    PerRequestMetrics,
    ToolCall,
)
from vllm.entrypoints.generate.base.serving import build_per_request_timing_metrics
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    ChatMessage,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import (
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
    CompletionResponseStreamChoice,
    CompletionStreamResponse,
)
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.responses.streaming_events import (
    SimpleStreamingState,
    emit_simple_tool_call_delta,
    emit_simple_tool_call_done,
    emit_simple_tool_call_open,
)
from vllm.entrypoints.scale_out.token_in_token_out.protocol import (
    GenerateLogProb,
    GenerateLogProbs,
    GenerateLogProbsContent,
    GenerateTextChoice,
    GenerateTextResponse,
    GenerateTokensChoice,
    GenerateTokensResponse,
    GenerateTokensStreamChoice,
    GenerateTokensStreamResponse,
)
from vllm.entrypoints.serve.engine.protocol import (
    CompletionTokenUsageInfo,
    ErrorInfo,
    ErrorResponse,
    ModelCard,
    ModelList,
    ModelPermission,
    PromptTokenUsageInfo,
    UsageInfo,
)
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.entrypoints.serve.utils.fingerprint import build_system_fingerprint
from vllm.logprobs import Logprob
from vllm.v1.metrics.stats import RequestStateStats

HEAD: dict[str, Any] = {"id": "x-1", "created": 5, "model": "m"}
POSITIONS: list[dict[str, Any]] = [
    {"token_id": 5, "text": "a", "candidates": None},
    {
        "token_id": 6,
        "text": " b\u00e9",
        "candidates": [[6, " b\u00e9", -0.5, 2], [7, "c", -0.00001234, 1], [8, "d", -3e-7, 3]],
    },
    {
        "token_id": 9,
        "text": "\n",
        "candidates": [[9, "\n", float("-inf"), 4], [7, "c", -1.0, 1], [8, "\ufffd", -2.25, 2]],
    },
]


class _Tokenizer:
    @staticmethod
    def decode(token_id: int) -> str:
        return next(str(position["text"]) for position in POSITIONS if position["token_id"] == token_id)


def _positions(positions: list[dict[str, Any]]) -> tuple[list[int], list[dict[int, Logprob] | None]]:
    token_ids = [position["token_id"] for position in positions]
    logprobs = [
        None
        if position["candidates"] is None
        else {
            token_id: Logprob(logprob=value, rank=rank, decoded_token=text)
            for token_id, text, value, rank in position["candidates"]
        }
        for position in positions
    ]
    return token_ids, logprobs


def _whole(model: Any) -> str:
    return json.dumps(model.model_dump(), ensure_ascii=False, separators=(",", ":"))


def _chunk(model: Any) -> str:
    return f"data: {model.model_dump_json(exclude_unset=True)}\n\n"


def logprobs() -> list[dict[str, Any]]:
    """Return log probabilities in both shapes, whole and as chunks."""
    completions, chats = object.__new__(OpenAIServingCompletion), object.__new__(OpenAIServingChat)
    cases = []
    for wanted in (-1, 0, 1, 2):
        for as_ids in (False, True):
            for every in (False, True):
                token_ids, values = _positions(POSITIONS)
                extra: dict[str, Any] = {
                    "logprob_token_ids": [1] if every else None,
                    "return_as_token_id": as_ids,
                }
                made = completions._create_completion_logprobs(
                    token_ids, values, wanted, _Tokenizer(), initial_text_offset=3, **extra
                )
                chat = chats._create_chat_logprobs(
                    token_ids[1:], values[1:], _Tokenizer(), num_output_top_logprobs=wanted, **extra
                )
                stream = CompletionStreamResponse(
                    **HEAD,
                    object="text_completion",
                    choices=[
                        CompletionResponseStreamChoice(
                            index=0,
                            text="t",
                            logprobs=made,
                            finish_reason=None,
                            stop_reason=None,
                            prompt_token_ids=None,
                            token_ids=None,
                            weight_versions=None,
                        )
                    ],
                    kv_transfer_params=None,
                )
                chat_stream = ChatCompletionStreamResponse(
                    **HEAD,
                    object="chat.completion.chunk",
                    choices=[
                        ChatCompletionResponseStreamChoice(
                            index=0,
                            delta=DeltaMessage(content="t"),
                            logprobs=chat,
                            finish_reason=None,
                            token_ids=None,
                        )
                    ],
                    kv_transfer_params=None,
                )
                cases.append(
                    {
                        "wanted": wanted,
                        "as_token_ids": as_ids,
                        "all_candidates": every,
                        "completion": _whole(made),
                        "completion_chunk": _chunk(stream),
                        "chat": _whole(chat),
                        "chat_chunk": _chunk(chat_stream),
                    }
                )
    return cases


def whole_answers() -> dict[str, str]:
    """Return whole answers with what the recorded server leaves null."""
    _, values = _positions([{**POSITIONS[1]}])
    usage = UsageInfo(
        prompt_tokens=3,
        completion_tokens=2,
        total_tokens=5,
        prompt_tokens_details=PromptTokenUsageInfo(cached_tokens=1, created_cache_tokens=2),
        completion_tokens_details=CompletionTokenUsageInfo(reasoning_tokens=1),
    )
    metrics = PerRequestMetrics(time_to_first_token_ms=1.5, queue_time_ms=0.00001)
    completion = CompletionResponse(
        **HEAD,
        choices=[
            CompletionResponseChoice(index=0, text="t", finish_reason="stop", prompt_logprobs=[None, *values])
        ],
        usage=usage,
        kv_transfer_params={"remote_block_ids": [1, 2]},
        metrics=metrics,
    )
    call = ToolCall(id="call-1", function=FunctionCall(name="f", arguments='{"a":1}'))
    message = ChatMessage(role="assistant", content=None, tool_calls=[call], reasoning="because")
    chat = ChatCompletionResponse(
        **HEAD,
        choices=[ChatCompletionResponseChoice(index=0, message=message, finish_reason="tool_calls")],
        usage=usage,
        prompt_logprobs=[None, *values],
        kv_transfer_params={"a": 1},
        metrics=metrics,
    )
    return {"completion": _whole(completion), "chat": _whole(chat)}


def _chat_chunk(delta: DeltaMessage, **extra: Any) -> str:
    choice = ChatCompletionResponseStreamChoice(
        index=0, delta=delta, logprobs=None, finish_reason=None, token_ids=None
    )
    return _chunk(
        ChatCompletionStreamResponse(
            **HEAD, object="chat.completion.chunk", choices=[choice], kv_transfer_params=None, **extra
        )
    )


def chunks() -> dict[str, str]:
    """Return chunks with tool calls, reasoning, details and metrics."""
    start = DeltaFunctionCall(name="f", arguments="")
    more = DeltaFunctionCall(arguments='{"a"')
    usage = UsageInfo(
        prompt_tokens=3,
        completion_tokens=2,
        total_tokens=5,
        completion_tokens_details=CompletionTokenUsageInfo(reasoning_tokens=1),
    )
    last_usage = usage.model_copy(update={"prompt_tokens_details": PromptTokenUsageInfo(cached_tokens=1)})
    metrics = PerRequestMetrics(time_to_first_token_ms=1.5, queue_time_ms=0.25)
    ends = {
        name: kind(**HEAD, choices=[], usage=last_usage, system_fingerprint="f", metrics=metrics)
        for name, kind in (("completion", CompletionStreamResponse), ("chat", ChatCompletionStreamResponse))
    }
    return {
        "tool_start": _chat_chunk(
            DeltaMessage(tool_calls=[DeltaToolCall(id="call-1", type="function", index=0, function=start)])
        ),
        "tool_more": _chat_chunk(DeltaMessage(tool_calls=[DeltaToolCall(index=0, function=more)])),
        "reasoning": _chat_chunk(DeltaMessage(reasoning="hm")),
        "both": _chat_chunk(DeltaMessage(content="so", reasoning="hm")),
        "usage": _chat_chunk(DeltaMessage(content="t"), usage=usage),
        "nothing": _chat_chunk(DeltaMessage()),
        **{
            f"{name}_end": f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
            for name, chunk in ends.items()
        },
    }


def metrics() -> list[dict[str, Any]]:
    """Return the times of requests by their moments."""
    cases = []
    for moments in (
        (1.0, 1.5, 2.25, 4.0),
        (0.0, 1.5, 2.25, 2.25),
        (1.0, 0.0, 0.0, 0.0),
        (1.0, 2.0, 3.0, 0.0),
    ):
        for tokens in (1, 5):
            queued, scheduled, first, last = moments
            stats = RequestStateStats(
                queued_ts=queued, scheduled_ts=scheduled, first_token_ts=first, last_token_ts=last
            )
            made = build_per_request_timing_metrics(stats, tokens)
            cases.append({"moments": moments, "tokens": tokens, "metrics": made.model_dump()})
    return cases


def response_events() -> str:
    """Return the events of a function call and of a message, numbered from 0, with ids that are not random."""
    state = SimpleStreamingState()
    events = emit_simple_tool_call_open(state, "f", 0, call_id="call-1")
    state.current_item_id = events[0].item.id = "fc-1"
    events += emit_simple_tool_call_delta(state, '{"a"')
    events += emit_simple_tool_call_delta(state, ":1}")
    events += emit_simple_tool_call_done(state)
    for number, event in enumerate(events):
        event.sequence_number = number
    return "".join(
        f"event: {event.type}\ndata: {event.model_dump_json(indent=None, by_alias=True)}\n\n"
        for event in events
    )


def generate() -> dict[str, str]:
    """Return answers of tokens in, tokens out."""
    scored = GenerateLogProbs(
        content=[
            GenerateLogProbsContent(
                token_id=6,
                logprob=-0.5,
                rank=2,
                top_logprobs=[GenerateLogProb(token_id=6, logprob=-0.5, rank=2)],
            )
        ]
    )
    usage = UsageInfo(prompt_tokens=3, completion_tokens=1, total_tokens=4)
    whole: dict[str, Any] = {"request_id": "x-1", "model": "m", "created": 5, "usage": usage}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "token_ids": [6]}
    stream = GenerateTokensStreamChoice(index=0, token_ids=[6], finish_reason=None, logprobs=scored)
    return {
        "tokens": _whole(
            GenerateTokensResponse(
                **whole, prompt_token_ids=[1, 2, 3], choices=[GenerateTokensChoice(**choice, logprobs=scored)]
            )
        ),
        "text": _whole(GenerateTextResponse(**whole, choices=[GenerateTextChoice(**choice, text="t")])),
        "chunk": GenerateTokensStreamResponse(request_id="x-1", choices=[stream]).model_dump_json(),
    }


SERVER_DEFAULTS: dict[str, Any] = {
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 20,
    "max_tokens": 64,
    "stop_token_ids": [7, 8],
}
SAMPLING_BODIES: list[dict[str, Any]] = [
    {},
    {"temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.25},
    {"temperature": 0.001},
    {"temperature": 1e-7, "seed": -1},
    {"n": 3, "seed": 5, "min_tokens": 2, "ignore_eos": True, "stop": "x"},
    {"stop": ["a", "bcd"], "stop_token_ids": [8, 9, 9], "skip_special_tokens": False},
    {"stop": ["a", "bcd"], "include_stop_str_in_output": True, "spaces_between_special_tokens": False},
    {"presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 2, "top_k": -1},
    {
        "logit_bias": {"5": 500, "6": -500, "7": 1.5},
        "allowed_token_ids": [1, 2],
        "bad_words": ["b", "a", "b"],
    },
    {"logprobs": 3, "prompt_logprobs": 2},
    {"logprobs": 3, "logprob_token_ids": [4, 5]},
    {"logprobs": 2, "echo": True},
    {"vllm_xargs": {"a": [1, "b"]}, "kv_transfer_params": {"c": {"d": 1}}, "stream_interval": 4},
    {"routed_experts_prompt_start": 3, "thinking_token_budget": 9},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
    {"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
    {"structured_outputs": {"choice": ["a", "b"]}, "response_format": {"type": "text"}},
    {"structured_outputs": {"regex": "a+"}},
    {
        "structured_outputs": {"json": "{}"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    },
]


def sampling() -> list[dict[str, Any]]:
    """Return the sampling parameters of bodies, with and without a generation config."""
    cases = []
    for defaults in ({}, SERVER_DEFAULTS):
        for body in SAMPLING_BODIES:
            completion = CompletionRequest(prompt="a", **body)
            chat_body = dict(body)
            if "logprobs" in chat_body:
                chat_body |= {"top_logprobs": chat_body["logprobs"], "logprobs": True}
            chat = ChatCompletionRequest(messages=[{"role": "user", "content": "a"}], **chat_body)
            for path, request, sent in (("completion", completion, body), ("chat", chat, chat_body)):
                params = request.to_sampling_params(16, defaults)
                constraint = params.structured_outputs
                names = ["json", "regex", "choice", "grammar", "json_object", "structural_tag"]
                cases.append(
                    {
                        "path": path,
                        "defaults": defaults,
                        "body": sent,
                        "sampling": {
                            **{name: getattr(params, name) for name in SAMPLING_FIELDS},
                            "held_back_characters": params.output_text_buffer_length,
                            "structured_outputs": constraint
                            and {name: getattr(constraint, name) for name in names},
                        },
                    }
                )
    return cases


SAMPLING_FIELDS = [
    "n",
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "logprobs",
    "prompt_logprobs",
    "logprob_token_ids",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "thinking_token_budget",
    "stream_interval",
    "routed_experts_prompt_start",
    "extra_args",
    "skip_reading_prefix_cache",
]


def max_tokens() -> list[list[Any]]:
    """Return how many tokens answers may have."""
    cases = []
    for wanted in (None, 5, 500):
        for prompt_tokens in (1, 90, 100, 101):
            for default in (None, 50):
                for cap in (None, 20):
                    for truncate in (None, -1, 30):
                        defaults = {} if default is None else {"max_tokens": default}
                        try:
                            made = get_max_tokens(100, wanted, prompt_tokens, defaults, cap, truncate)
                        except ValueError as error:
                            made = str(error)
                        cases.append([wanted, prompt_tokens, default, cap, truncate, made])
    return cases


class _Parallel:
    tensor_parallel_size = 2
    pipeline_parallel_size = 3
    data_parallel_size = 4
    enable_expert_parallel = True


class _Config:
    parallel_config = _Parallel()

    @staticmethod
    def compute_hash() -> str:
        return "0123456789abcdef"


def models() -> str:
    """Return a list of a base model and an adapter."""
    permission = ModelPermission(id="modelperm-1", created=5)
    cards = [
        ModelCard(id="m", created=5, root="/models/m", max_model_len=4096, permission=[permission]),
        ModelCard(id="l", created=5, root="/loras/l", parent="m", permission=[permission]),
    ]
    return _whole(ModelList(data=cards))


def main() -> None:
    """Write the file."""
    error = ErrorResponse(error=ErrorInfo(message="m", type="t", param=None, code=500))
    recording = {
        "positions": [
            {
                **position,
                "candidates": position["candidates"]
                and [
                    [token_id, text, None if value == float("-inf") else value, rank]
                    for token_id, text, value, rank in position["candidates"]
                ],
            }
            for position in POSITIONS
        ],
        "logprobs": logprobs(),
        "whole": whole_answers(),
        "chunks": chunks(),
        "metrics": metrics(),
        "fingerprints": {
            mode: build_system_fingerprint(_Config(), mode, "mine")
            for mode in ("full", "hash", "custom", "none")
        },
        "models": models(),
        "response_events": response_events(),
        "generate": generate(),
        "sampling": sampling(),
        "max_tokens": max_tokens(),
        "error": _whole(error),
    }
    Path(sys.argv[1]).write_bytes(gzip.compress(json.dumps(recording).encode(), mtime=0))


if __name__ == "__main__":
    main()
