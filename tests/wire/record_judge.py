"""Record what a real `vllm serve` answers to some hundred good and bad bodies.

    python tests/wire/record_judge.py http://127.0.0.1:8123 tests/wire/recordings/judge.jsonl.gz

The server is vLLM 0.33.0 with a Llama configuration of 4,096 tokens of context and 32,000 of vocabulary, served as `m`.
Each line holds the path, the body that was sent (as text, or in base64 if it is none), the content type if it is not
JSON's, the status and the body of the answer.
"""

import base64
import gzip
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

Case = tuple[str, bytes, str]
JSON_TYPE = "application/json"

COMPLETION: dict[str, Any] = {"prompt": "a", "max_tokens": 2}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
SCHEMA = {"type": "object"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
ODD_VALUES: list[Any] = [None, "x", -1, 1.5, [], {}, True]

SHARED_FIELDS = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "user",
    "use_beam_search",
    "top_k",
    "min_p",
    "repetition_penalty",
    "length_penalty",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "truncate_prompt_tokens",
    "truncation_side",
    "allowed_token_ids",
    "prompt_logprobs",
    "logprob_token_ids",
    "bad_words",
    "response_format",
    "structured_outputs",
    "priority",
    "request_id",
    "session_id",
    "return_tokens_as_token_ids",
    "return_token_ids",
    "return_weight_versions",
    "routed_experts_prompt_start",
    "cache_salt",
    "kv_transfer_params",
    "vllm_xargs",
    "repetition_detection",
    "thinking_token_budget",
    "stream_interval",
    "add_special_tokens",
    "model",
    "mm_payload",
    "watermarking",
]
COMPLETION_FIELDS = ["prompt", "echo", "suffix", *SHARED_FIELDS]
CHAT_FIELDS = [
    "messages",
    "top_logprobs",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "reasoning_effort",
    "include_reasoning",
    "parallel_tool_calls",
    "add_generation_prompt",
    "continue_final_message",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "echo",
    "return_prompt_text",
    *SHARED_FIELDS,
]

BAD_SHARED: list[dict[str, Any]] = [
    {"model": "nope"},
    {"max_tokens": 0},
    {"max_tokens": -5},
    {"max_tokens": 4097},
    {"max_tokens": 2**70},
    {"temperature": -0.1},
    {"temperature": 2.1},
    {"top_p": 0},
    {"top_p": 1.01},
    {"top_k": -2},
    {"min_p": 1.1},
    {"min_p": -0.5},
    {"presence_penalty": 2.5},
    {"frequency_penalty": -2.5},
    {"repetition_penalty": 0},
    {"repetition_penalty": -1},
    {"n": 0},
    {"n": -3},
    {"n": 2, "temperature": 0},
    {"min_tokens": 3},
    {"min_tokens": -1},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"stop": ""},
    {"stop": ["a", ""]},
    {"stop_token_ids": [1, 32000, -1]},
    {"stop_token_ids": ["a"]},
    {"allowed_token_ids": []},
    {"allowed_token_ids": [40000]},
    {"logit_bias": {"a": 1, "5": 1, "b": 2}},
    {"logit_bias": {"40000": 1}},
    {"logit_bias": {"5": "x"}},
    {"bad_words": ["", "a"]},
    {"bad_words": "a"},
    {"prompt_logprobs": 21},
    {"prompt_logprobs": -1},
    {"prompt_logprobs": -2},
    {"prompt_logprobs": 1, "stream": True},
    {"prompt_logprobs": "1"},
    {"stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": {"include_usage": "perhaps"}},
    {"stream": True, "stream_options": 5},
    {"cache_salt": ""},
    {"cache_salt": 5},
    {"cache_salt": "x" * 129},
    {"cache_salt": "a/b"},
    {"cache_salt": "a@b"},
    {"seed": 2**63},
    {"seed": "x"},
    {"priority": 2**64},
    {"stream_interval": 0},
    {"truncate_prompt_tokens": -2},
    {"truncate_prompt_tokens": 5000},
    {"truncation_side": "middle"},
    {"routed_experts_prompt_start": -1},
    {"routed_experts_prompt_start": 4000},
    {"thinking_token_budget": 5},
    {"thinking_token_budget": -2},
    {"thinking_token_budget": 1.5},
    {"thinking_token_budget": "many"},
    {"vllm_xargs": {"a": 2**65}},
    {"vllm_xargs": {"a": {"b": 1}}},
    {"kv_transfer_params": []},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "structural_tag"}},
    {"response_format": {"type": "xml"}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
    {"response_format": "json"},
    {"structured_outputs": {}},
    {"structured_outputs": {"json": {}, "regex": "a"}},
    {"structured_outputs": {"json": {}, "grammar": "a"}},
    {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"grammar": " "}},
    {"structured_outputs": {"json": ""}},
    {"structured_outputs": {"json": "{"}},
    {"structured_outputs": {"json_object": False}},
    {"structured_outputs": {"regex": "\x00"}},
    {"structured_outputs": {"structural_tag": ""}},
    {"structured_outputs": {"structural_tag": "x"}},
    {"structured_outputs": {"regex": 5}},
    {"structured_outputs": {"json": json.loads('{"a":' * 65 + "1" + "}" * 65)}},
    {"structured_outputs": "json"},
    {"repetition_detection": {"max_pattern_size": 2}},
    {"repetition_detection": {"max_pattern_size": -2}},
    {"repetition_detection": {"min_pattern_size": 2}},
    {"repetition_detection": 7},
    {"logprob_token_ids": [1]},
    {"logprob_token_ids": [1], "use_beam_search": True},
    {"mm_payload": "all"},
    {"mm_processor_kwargs": {"a": 1}},
    {"media_io_kwargs": {"image": {"a": 1}}},
    {"max_tokens": "many", "temperature": "hot", "top_p": [], "n": {}},
    {"user": "/home/someone/secret.txt", "model": "/usr/lib/m.bin"},
    {"stop": [1] * 4 + ["x"], "stop_token_ids": ["a"] * 12},
    {"stop": "x" * 300, "seed": "y" * 300},
]
BAD_COMPLETIONS: list[dict[str, Any]] = [
    {"prompt": ""},
    {"prompt": None},
    {"prompt": []},
    {"prompt": [[]]},
    {"prompt": ["a", ""]},
    {"prompt": ["a", 3]},
    {"prompt": [1, "a"]},
    {"prompt": [[1], "a"]},
    {"prompt": [-1]},
    {"prompt": [[1, -1]]},
    {"prompt": [32000]},
    {"prompt": [[5], [999999]]},
    {"prompt": {"a": 1}},
    {"prompt": ["a"] * 1025},
    {"prompt": [[1]] * 1025},
    {"prompt": [5] * 4096},
    {"prompt": [5] * 4097},
    {"prompt": [5] * 5000},
    {"prompt": "a b " * 4000},
    {"prompt": "a b " * 4000, "truncate_prompt_tokens": 0},
    {"prompt_embeds": "aGk="},
    {"prompt_embeds": "aGk=", "echo": True},
    {"prompt_embeds": "aGk=", "prompt_logprobs": 1},
    {"prompt_embeds": []},
    {"suffix": "b"},
    {"suffix": "b", "echo": True},
    {"suffix": "b", "truncate_prompt_tokens": 5},
    {"suffix": "b", "prompt": [1]},
    {"suffix": "b", "prompt_embeds": "aGk="},
    {"logprobs": 21},
    {"logprobs": -2},
    {"logprobs": "5"},
    {"logprobs": 1.5},
    {"logprobs": 21, "stream": True},
    {"prompt": [999999], "stream": True},
    {"stop_token_ids": [-1], "stream": True},
    {"temperature": -1, "stream": True},
    {"logprobs": 1, "logprob_token_ids": [1] * 129},
    {"logprobs": 1, "logprob_token_ids": [99999]},
    {"logprobs": 1, "logprob_token_ids": [1], "echo": True, "max_tokens": 0},
    {"use_beam_search": True, "stream": True},
    {"use_beam_search": True, "echo": True, "logprobs": 1},
    {"use_beam_search": True, "n": 0},
]
BAD_MESSAGES: list[Any] = [
    [],
    None,
    3,
    "a",
    {},
    [1],
    ["a"],
    [{}],
    [{"role": 5}],
    [{"content": "x"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": 5}],
    [{"role": "user", "content": [5]}],
    [{"role": "user", "content": [{"type": "x"}]}],
    [{"role": "user", "content": [{"text": "x"}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "text", "text": 5}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
    [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "a", "format": "wav"}}]}],
    [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "http://x"}}]}],
    [{"role": "robot", "content": [{"type": "x"}]}],
    [{"role": "tool", "content": "x"}, {"role": "tool", "content": [{"type": "y"}]}],
    [{"role": "assistant", "tool_calls": 5}],
    [{"role": "assistant", "tool_calls": [5]}],
    [{"role": "assistant", "tool_calls": [{"type": "function"}]}],
    [{"role": "assistant", "content": [{"type": "x"}]}],
    [
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}],
        }
    ],
    [{"role": "system", "content": {}}],
    [{"author": {"role": "robot"}}],
]
BAD_CHATS: list[dict[str, Any]] = [
    *({"messages": messages} for messages in BAD_MESSAGES),
    {"logprobs": True, "top_logprobs": 21},
    {"top_logprobs": 1},
    {"logprobs": True, "top_logprobs": -2},
    {"logprobs": True, "top_logprobs": "1"},
    {"logprobs": 5},
    {"max_completion_tokens": 5000},
    {"max_completion_tokens": 0},
    {"max_tokens": 5, "max_completion_tokens": -1},
    {"continue_final_message": True},
    {"continue_final_message": True, "add_generation_prompt": True},
    {"chat_template": "{{ messages }}"},
    {"chat_template_kwargs": {"chat_template": "x"}},
    {"tools": []},
    {"tools": [1]},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "code", "function": {"name": "f"}}]},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "auto"},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": "maybe"},
    {"tools": [TOOL], "tool_choice": 5},
    {"tools": [TOOL], "tool_choice": {}},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {}}},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": ""}}},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tools": [{"type": "function"}], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tool_choice": "auto"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"structured_outputs": {"json": {}}, "tools": [TOOL], "tool_choice": {"function": {"name": "f"}}},
    {"reasoning_effort": "huge"},
    {"n": None, "logprobs": 21},
    {"messages": [{"role": "user", "content": "a b " * 4000}]},
    {"temperature": -1, "stream": True},
    {"logprobs": True, "top_logprobs": 30, "stream": True},
    {"kv_transfer_params": {"prompt_token_ids": []}},
    {"kv_transfer_params": {"prompt_token_ids": [1.5]}},
    {"kv_transfer_params": {"prompt_token_ids": [99999]}},
]
GOOD_SHARED: list[dict[str, Any]] = [
    {},
    {"n": 2},
    {"seed": 5, "user": "u", "unknown_field": {"a": 1}},
    {"return_token_ids": True},
    {"return_weight_versions": True},
    {"stop": ["=", "re", "al"], "max_tokens": 12},
    {"stop": "e", "include_stop_str_in_output": True, "max_tokens": 12},
    {"max_tokens": 5, "stop_token_ids": list(range(200, 400))},
    {"ignore_eos": True, "min_tokens": 1},
    {"temperature": 0},
    {"model": None, "temperature": None, "top_p": None, "stop": None, "seed": None, "stop_token_ids": None},
    {"model": "m", "logit_bias": {"5": 500}, "bad_words": ["bad"], "cache_salt": "x"},
    {"response_format": {"type": "text"}, "priority": 3, "session_id": "s"},
    {"kv_transfer_params": {"do_remote_prefill": True}, "vllm_xargs": {"a": [1, "b"]}},
    {"stream_interval": 3, "max_tokens": 7},
    {"truncate_prompt_tokens": 1},
    {"repetition_detection": {"max_pattern_size": 3, "min_count": 2}},
]
GOOD_COMPLETIONS: list[dict[str, Any]] = [
    *GOOD_SHARED,
    {"prompt": [5, 6, 7]},
    {"prompt": ["a", "b"], "n": 2},
    {"prompt": [[5], [6, 7]], "return_token_ids": True},
    {"echo": True},
    {"echo": True, "return_token_ids": True},
    {"echo": True, "max_tokens": 0},
    {"prompt": [5] * 4090, "max_tokens": 50},
    {"prompt": [5] * 5000, "truncate_prompt_tokens": -1},
    {"max_tokens": None},
    {"prompt": [True, 1.0, "2"]},
]
GOOD_CHATS: list[dict[str, Any]] = [
    *GOOD_SHARED,
    {"n": None, "logprobs": None, "top_logprobs": None},
    {"return_prompt_text": True, "return_token_ids": True},
    {"echo": True},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "echo": True,
    },
    {"messages": [{"role": "user"}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
        ]
    },
    {"messages": [{"role": "robot", "content": ["a", {"type": "thinking", "thinking": "b"}]}]},
    {"tools": [TOOL], "tool_choice": "none"},
    {"max_completion_tokens": 1, "max_tokens": 3},
]
BAD_TOKENIZE: list[dict[str, Any]] = [
    {},
    {"prompt": 1},
    {"prompt": None},
    {"prompt": ["a"]},
    {"messages": 5},
    {"messages": []},
    {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
    {"prompt": "a", "model": "nope"},
    {"messages": [{"role": "user", "content": "a"}], "model": "nope"},
    {"prompt": "a", "add_special_tokens": "perhaps"},
    {"prompt": 5, "messages": 5},
    {"messages": [{"role": "user", "content": "a"}], "chat_template": "x"},
    {"messages": [{"role": "user", "content": "a"}], "continue_final_message": True},
    {
        "messages": [{"role": "user", "content": "a"}],
        "continue_final_message": True,
        "add_generation_prompt": True,
    },
    {"messages": [{"role": "user", "content": "a"}], "tools": [1]},
    {"messages": [{"role": "user", "content": "a"}], "mm_processor_kwargs": {"a": 1}},
]
GOOD_TOKENIZE: list[dict[str, Any]] = [
    {"prompt": "hello world"},
    {"prompt": ""},
    {"prompt": "hello", "return_token_strs": True, "add_special_tokens": False},
    {"messages": [{"role": "user", "content": "a"}]},
    {"messages": [{"role": "user", "content": "a"}], "return_token_strs": True, "tools": []},
    {"prompt": "a", "messages": [{"role": "user", "content": "a"}]},
]
BAD_DETOKENIZE: list[dict[str, Any]] = [
    {},
    {"tokens": 5},
    {"tokens": [-1]},
    {"tokens": ["a", -1]},
    {"tokens": [2**63]},
    {"tokens": [1.5]},
    {"tokens": [[1]]},
    {"tokens": [1], "model": "nope"},
]
GOOD_DETOKENIZE: list[dict[str, Any]] = [{"tokens": [5, 6, 200]}, {"tokens": []}, {"tokens": [1, 2, 300]}]
RESPONSE: dict[str, Any] = {"input": "a", "max_output_tokens": 2}
FUNCTION_TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}
BAD_RESPONSES: list[dict[str, Any]] = [
    {"input": 5},
    {"input": None},
    {"model": "nope"},
    {"temperature": -1},
    {"temperature": "hot"},
    {"top_p": 0},
    {"presence_penalty": 3},
    {"max_output_tokens": 5000},
    {"max_output_tokens": 0},
    {"max_output_tokens": "many"},
    {"previous_response_id": "resp_x"},
    {"background": True},
    {"background": True, "store": False},
    {"prompt": {"id": "p"}},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "name": "f"}},
    {"tools": [FUNCTION_TOOL], "tool_choice": {"type": "function", "name": "g"}},
    {"tools": [FUNCTION_TOOL], "tool_choice": {"type": "function"}},
    {"include": ["everything"]},
    {"truncation": "maybe"},
    {"service_tier": "best"},
    {"cache_salt": "a/b"},
    {"seed": 2**64},
    {"stop": [""]},
    {"stop_token_ids": [-1]},
    {"metadata": {"a": 5}},
    {"text": {"format": {"type": "json_object"}}, "structured_outputs": {"regex": "a"}},
    {"input": "a b " * 4000},
    {"mm_processor_kwargs": {"a": 1}},
    {"chat_template_kwargs": {"chat_template": "x"}},
    {"temperature": -1, "stream": True},
    {"input": []},
    {"input": [5]},
    {"input": [{"role": "robot", "content": "a"}]},
    {"input": [{"role": "user", "content": 5}]},
    {"input": [{"role": "user", "content": [5]}]},
    {"input": [{"type": "function_call", "name": "f"}]},
    {"tools": [5]},
    {"tools": [{"type": "magic"}]},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "function", "name": "f", "parameters": 5}]},
]
GOOD_RESPONSES: list[dict[str, Any]] = [
    {},
    {"instructions": "be brief", "temperature": 0.5, "top_p": 0.9, "metadata": {"a": "b"}, "user": "u"},
    {"input": [{"role": "user", "content": "a"}]},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
    {
        "input": [
            {"role": "user", "content": "a"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "5"},
        ],
    },
    {"tools": [{**FUNCTION_TOOL, "description": "d", "strict": True}]},
    {"tools": [FUNCTION_TOOL], "tool_choice": "none", "parallel_tool_calls": False},
    {"reasoning": {"effort": "low"}},
    {"text": {"format": {"type": "text"}}},
    {"text": {"verbosity": "low"}},
    {"prompt_cache_key": "k", "prompt_cache_options": {}, "prompt_cache_retention": "in-memory"},
    {"safety_identifier": "s", "service_tier": "flex", "truncation": "auto", "max_tool_calls": 3},
    {"max_output_tokens": 3, "stop": ["="], "seed": 5, "presence_penalty": 0.5, "frequency_penalty": 0.25},
    {"request_id": "resp_mine", "store": False},
]
BAD_BYTES: list[tuple[bytes, str]] = [
    (b"", JSON_TYPE),
    (b"{", JSON_TYPE),
    (b'{"prompt":', JSON_TYPE),
    (b'{"prompt":"a",}', JSON_TYPE),
    (b"{'prompt':1}", JSON_TYPE),
    (b'{"prompt":"a"} x', JSON_TYPE),
    (b'{"prompt":"\\x"}', JSON_TYPE),
    (b"nul", JSON_TYPE),
    (b"null", JSON_TYPE),
    (b"[]", JSON_TYPE),
    (b"5", JSON_TYPE),
    (b'"a"', JSON_TYPE),
    (b"true", JSON_TYPE),
    (b"\xff\xfe{", JSON_TYPE),
    (b'{"prompt":"\xff"}', JSON_TYPE),
    (b'{"prompt":"\\ud800","max_tokens":1}', JSON_TYPE),
    (b'{"prompt":"\\ud83d\\ude00","max_tokens":0}', JSON_TYPE),
    (b'{"prompt":"a","logprobs":' + b"[" * 900 + b"]" * 900 + b"}", JSON_TYPE),
    (b"[" * 3000 + b"]" * 3000, JSON_TYPE),
    (b'{"prompt":"a","seed":' + b"9" * 5000 + b"}", JSON_TYPE),
    (b'{"prompt":"a","temperature":NaN}', JSON_TYPE),
    (b'{"prompt":"a","temperature":Infinity}', JSON_TYPE),
    (b'{"prompt":"a","top_p":NaN}', JSON_TYPE),
    (b'{"prompt":"a","max_tokens":1e400}', JSON_TYPE),
    (b'{"prompt":"a","max_tokens":0,"n":NaN}', JSON_TYPE),
    (b'{"prompt":"a","max_tokens":0}', "application/json; charset=utf-8"),
    (b'{"prompt":"a","max_tokens":0}', "Application/JSON"),
    (b'{"prompt":"a"}', "text/plain"),
    (b'{"prompt":"a"}', "application/x-www-form-urlencoded"),
    (b'{"prompt":"a"}', "application/vnd.api+json"),
    (b'{"p', "application/vnd.api+json"),
    (b'{"p', "text/plain"),
    (b"", "text/plain"),
]
PATHS = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
    "responses": "/v1/responses",
}


def cases() -> list[Case]:
    """Return every case once: path, body, content type."""
    bodies: list[tuple[str, dict[str, Any]]] = []
    for path, base, fields, bad, good in (
        (PATHS["completions"], COMPLETION, COMPLETION_FIELDS, BAD_COMPLETIONS, GOOD_COMPLETIONS),
        (PATHS["chat"], CHAT, CHAT_FIELDS, BAD_CHATS, GOOD_CHATS),
    ):
        bodies.extend((path, {**base, **change}) for change in (*BAD_SHARED, *bad))
        for name in fields:
            bodies.extend((path, {**base, name: value}) for value in ODD_VALUES if _is_light(name, value))
        bodies.extend((path, {**base, **change}) for change in good)
        for change in good:
            streams = {**base, **change, "stream": True}
            bodies.append((path, streams))
            bodies.append((path, {**streams, "stream_options": {"include_usage": True}}))
        usage = {"include_usage": True, "continuous_usage_stats": True}
        bodies.append((path, {**base, "stream": True, "stream_options": usage, "max_tokens": 3}))
        bodies.append((path, {**base, "stream": True, "stream_options": {"continuous_usage_stats": True}}))
    bodies.extend(
        (PATHS["responses"], {**RESPONSE, **change}) for change in (*BAD_RESPONSES, *GOOD_RESPONSES)
    )
    bodies.extend((PATHS["responses"], {**RESPONSE, **change, "stream": True}) for change in GOOD_RESPONSES)
    bodies.extend((PATHS["tokenize"], body) for body in (*BAD_TOKENIZE, *GOOD_TOKENIZE))
    bodies.extend((PATHS["detokenize"], body) for body in (*BAD_DETOKENIZE, *GOOD_DETOKENIZE))
    encoded = [(path, json.dumps(body).encode(), JSON_TYPE) for path, body in bodies]
    encoded.extend((PATHS["completions"], body, content_type) for body, content_type in BAD_BYTES)
    return list(dict.fromkeys(encoded))


def _is_light(name: str, value: object) -> bool:
    """Whether a body costs the server little: no unbounded answers, no log probabilities, which its executor lacks."""
    unbounded = name == "max_tokens" and value is None
    scored = name in {"logprobs", "prompt_logprobs", "use_beam_search", "ignore_eos"} and value in (
        True,
        [],
        {},
        1.5,
    )
    return not unbounded and not scored


def record(base_url: str, case: Case) -> dict[str, Any]:
    """Return one line of the recording."""
    path, body, content_type = case
    request = urllib.request.Request(base_url + path, data=body, headers={"Content-Type": content_type})  # noqa: S310 - the user's own server
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
            status, answered = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, answered = error.code, error.read()
    line: dict[str, Any] = {"path": path}
    try:
        line["body"] = body.decode()
    except UnicodeDecodeError:
        line["base64"] = base64.b64encode(body).decode()
    if content_type != JSON_TYPE:
        line["content_type"] = content_type
    return {**line, "status": status, "answer": answered.decode()}


def main() -> None:
    """Ask the server and write the file."""
    base_url, target = sys.argv[1:]
    lines = [json.dumps(record(base_url, case), ensure_ascii=False) for case in cases()]
    Path(target).write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    print(len(lines), "answers")


if __name__ == "__main__":
    main()
