"""The fields of vLLM's request bodies, each with values that it accepts and values that are wrong, extreme or strange.

The values keep a run comparable and short. No string or token stops an answer that the two servers may sample differently: stop
strings cannot occur, stop tokens are special or out of the vocabulary, and a grammar needs more tokens than are asked for.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Field(NamedTuple):
    """Values of one field: good ones give an answer, odd ones an error or a surprise."""

    good: tuple[Any, ...]
    odd: tuple[Any, ...]


HUGE = 2**63
ANYTHING: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.0, 1.5, 2**31, HUGE, -HUGE, 10**30, 1e300),
    *("", "1", "1.0", "x", "true", "é\U0001f600", [], [None], [1], ["x"], [[]], {}, {"a": 1}, {"type": "x"}),
)
_NUMBER = (*ANYTHING, "0.5")
_BOOLEAN = Field((True, False, None), ("yes", "off", "maybe", 2, 0.0, [], {}))
_STRICT_BOOLEAN = Field((True, False), ("yes", "off", "maybe", 2, 0.0, None, [], {}))
_SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "string", "minLength": 90}},
    "required": ["x"],
    "additionalProperties": False,
}
_FORMATS = Field(
    (
        {"type": "text"},
        None,
        {"type": "json_schema", "json_schema": {"name": "thing", "schema": _SCHEMA}},
        {"type": "json_schema", "json_schema": {"name": "thing", "schema": _SCHEMA, "strict": True}},
    ),
    (
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": None},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"name": "thing", "schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"name": "thing", "schema": "x"}},
        {"type": "structural_tag"},
        {"type": "structural_tag", "format": {}},
        {"type": "structural_tag", "structures": [], "triggers": []},
        {"type": "xml"},
        {},
        "json",
        [],
        1,
    ),
)
_STRUCTURED = Field(
    (None, {"regex": "[a-z]{90,99}"}, {"json": _SCHEMA}, {"choice": ["q" * 90, "z" * 90]}),
    (
        {},
        {"regex": "("},
        {"regex": ""},
        {"regex": 1},
        {"choice": []},
        {"choice": "x"},
        {"choice": [1]},
        {"json": "{"},
        {"json": {"type": "nonsense"}},
        {"grammar": "nonsense ::="},
        {"grammar": ""},
        {"regex": "a", "choice": ["a"]},
        {"json_object": False},
        {"structural_tag": "{}"},
        {"unknown": 1},
        {"regex": "[a-z]{90}", "backend": "x"},
        "x",
        [],
        1,
    ),
)

SAMPLING: Mapping[str, Field] = {
    "model": Field(("m", None), ("nope", "", "M", "m ", 1, [], {}, True, "../m")),
    "frequency_penalty": Field((0, 0.5, -2, 2, None), (2.1, -2.1, *_NUMBER)),
    "presence_penalty": Field((0, 0.5, -2, 2.0, None), (3, -3, *_NUMBER)),
    "repetition_penalty": Field((1, 1.1, 0.5, None), (0, -1, *_NUMBER)),
    "temperature": Field((0.5, 1, 1.0, 2, None), (2.01, -0.1, 100, *_NUMBER)),
    "top_p": Field((0.1, 1, 0.9, None), (0, 1.1, -0.5, *_NUMBER)),
    "top_k": Field((0, -1, 1, 50, None), (-2, -100, 100_000, 1.5, *_NUMBER)),
    "min_p": Field((0, 0.1, 1, None), (-0.1, 1.5, *_NUMBER)),
    "length_penalty": Field((1.0, 0.5, -1), ("x", None, [])),
    "logit_bias": Field(
        ({}, {"5": 1}, {"300": -100.0, "301": 100}, None),
        ({"x": 1}, {"5": "x"}, {"5": None}, {"99999": 1}, {"-1": 1}, {"5": 101}, {"1.5": 1}, [], "x", 1),
    ),
    "seed": Field((0, 42, -1, 2**62, None), (HUGE, -HUGE - 1, *ANYTHING)),
    "stop": Field(
        ("\x01never\x02", ["\x01", "\x02\x03"], [], None, ["\x01a", "\x01b", "\x01c", "\x01d"]),
        ("", [""], ["\x01", ""], ["\x01"] * 5, [1], [None], 1, {}, True, ["\x01", 2], [[]]),
    ),
    "stop_token_ids": Field(
        ([], [0], [1, 2], [31_999], None), (["x"], [1.5], [None], "x", 5, [-1], [32_000], [HUGE], {}, [[1]])
    ),
    "include_stop_str_in_output": _STRICT_BOOLEAN,
    "ignore_eos": _STRICT_BOOLEAN,
    "min_tokens": Field((0, 1), (9, 100, -1, "1", None, 1.5, HUGE, [], "x")),
    "skip_special_tokens": _BOOLEAN,
    "spaces_between_special_tokens": _STRICT_BOOLEAN,
    "truncate_prompt_tokens": Field(
        (1, 3, 5, 4000, -1, None), (0, -2, 4096, 4097, HUGE, 2**62, "3", 1.5, "x", [])
    ),
    "truncation_side": Field(("left", "right", None), ("LEFT", "middle", "", 1, [], True)),
    "allowed_token_ids": Field(
        ([300, 301], [5], None), ([], [-1], [32_000], [HUGE], ["x"], 5, "x", {}, [1.5])
    ),
    "bad_words": Field(([], ["hello"], ["a b", "c"]), ([""], ["x"] * 129, [1], "x", None, {}, [[]])),
    "logprob_token_ids": Field((None,), ([5], [], [-1], [99_999], ["x"], "x", 1)),
    "response_format": _FORMATS,
    "structured_outputs": _STRUCTURED,
    "priority": Field((0, 1, -5, 2**31), (HUGE, -HUGE - 1, None, 1.5, "x", "1", [], True)),
    "session_id": Field(("s-1", "", None), (1, [], {}, True)),
    "return_tokens_as_token_ids": _BOOLEAN,
    "return_token_ids": _BOOLEAN,
    "return_weight_versions": _STRICT_BOOLEAN,
    "return_token_offsets": _BOOLEAN,
    "routed_experts_prompt_start": Field((0, 1), (-1, None, "x", 1.5)),
    "mm_payload": Field(("none", "tensors"), ("x", None, 1)),
    "cache_salt": Field(
        ("salt", "é", "a" * 128, None),
        ("", "a" * 129, "a" * 1025, "a@b", "a/b", "a\\b", "a\x00b", 1, [], {}, True),
    ),
    "kv_transfer_params": Field(({}, {"do_remote_decode": False}, None), ([], "x", 1, True)),
    "ec_transfer_params": Field(({}, None), ([], "x", 1)),
    "vllm_xargs": Field(
        ({}, {"a": 1, "b": "x", "c": [1, "y"]}, None), ({"a": None}, {"a": {}}, {"a": [[]]}, [], "x")
    ),
    "repetition_detection": Field(
        (None, {"max_pattern_size": 4, "min_count": 1000}),
        (
            {},
            {"max_pattern_size": -1},
            {"min_count": "x"},
            {"max_pattern_size": 2, "min_pattern_size": 5},
            [],
            "x",
            1,
        ),
    ),
    "thinking_token_budget": Field((None,), (0, 5, -1, -2, "x", 1.5, [])),
    "stream_interval": Field((1, 2, 100, None), (0, -1, "x", 1.5, [], HUGE)),
    "watermarking": Field((None, False), (True, "x", 2, [])),
    "user": Field(("someone", "", "é", None), (1, [], {}, True)),
    "return_mm_kwargs": _BOOLEAN,
    "junk": Field((1, None, {"a": [1, 2]}, "x"), ([[[[[[[[[[]]]]]]]]]],)),
    "extra_body": Field(({"top_k": 5}, None), (1,)),
    "best_of": Field((1, 2), (-1, "x")),
}
COMPLETION: Mapping[str, Field] = {
    **SAMPLING,
    "n": Field((1, 2, 3), (0, -1, 16_385, 2**31, None, "2", 1.5, "x", [], True)),
    "max_tokens": Field(
        (1, 2, 3, 5, 8), (0, -1, 4097, 5000, HUGE, 10**30, None, "3", 3.0, 3.5, "x", [], True, 1e300)
    ),
    "echo": _BOOLEAN,
    "logprobs": Field(
        (0, 1, 2, 5, None), (20, 21, 1000, -1, -2, True, False, "2", "x", 1.5, 1.0, [], {}, HUGE)
    ),
    "prompt_logprobs": Field((0, 1, 3, None), (21, -1, -2, "1", "x", 1.5, [], True)),
    "suffix": Field((None,), ("", "x", 1, [])),
    "add_special_tokens": _STRICT_BOOLEAN,
    "use_beam_search": Field((False,), (True, None, "x")),
    "prompt_embeds": Field((None,), ("", "AAAA", [], ["AAAA"], 1, {})),
    "stream_options": Field((None,), ({}, {"include_usage": True}, [], "x", 1)),
}
_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
CHAT: Mapping[str, Field] = {
    **SAMPLING,
    "n": Field((1, 2, 3, None), (0, -1, 16_385, 2**31, "2", 1.5, "x", [], True)),
    "logprobs": Field((True, False, None), (1, 0, 2, "true", "x", [], {})),
    "top_logprobs": Field((None,), (0, 1, 5, 20, 21, -1, -2, "1", "x", 1.5, [], True, HUGE)),
    "prompt_logprobs": Field((0, 1, 3, None), (21, -1, -2, "1", "x", 1.5, [], True)),
    "use_beam_search": Field((False,), (True, None, "x")),
    "tools": Field(
        (None,),
        (
            [],
            [_TOOL],
            [_TOOL, _TOOL],
            [{}],
            [{"type": "function"}],
            [{"type": "function", "function": {}}],
            [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
            [{"type": "retrieval", "function": {"name": "f"}}],
            [{"type": "function", "function": {"name": "f f!"}}],
            {},
            "x",
            1,
        ),
    ),
    "tool_choice": Field(
        ("none", None),
        (
            *("auto", "required", "any", "", 1, [], {}, True, {"type": "function"}),
            {"type": "function", "function": {"name": "f"}},
            {"type": "function", "function": {"name": "other"}},
            {"type": "function", "function": {}},
            {"type": "x", "function": {"name": "f"}},
        ),
    ),
    "parallel_tool_calls": _BOOLEAN,
    "reasoning_effort": Field(("none", "low", "high", None), ("", "huge", 1, [], True)),
    "include_reasoning": _STRICT_BOOLEAN,
    "echo": _STRICT_BOOLEAN,
    "add_generation_prompt": _STRICT_BOOLEAN,
    "continue_final_message": Field((False,), (True, None, "x", 2)),
    "add_special_tokens": _STRICT_BOOLEAN,
    "documents": Field(([], [{"title": "t", "text": "x"}], None), ([{"title": 1}], "x", {}, [1])),
    "chat_template": Field((None,), ("", "{{ messages }}", "{% bad", 1, [])),
    "chat_template_kwargs": Field(
        ({}, {"enable_thinking": False}, None),
        ({"chat_template": "x"}, {"tokenize": True}, {"messages": []}, [], "x", 1),
    ),
    "media_io_kwargs": Field(({}, {"image": {}}, None), ({"image": 1}, [], "x")),
    "mm_processor_kwargs": Field((None,), ({}, {"a": 1}, [], "x")),
    "return_prompt_text": _BOOLEAN,
    "metadata": Field(({"a": "b"}, None), (1,)),
    "store": Field((False, True), ("x",)),
    "service_tier": Field(("auto", None), (1,)),
    "stream_options": Field((None,), ({}, {"include_usage": True}, [], "x", 1)),
    "functions": Field(([],), ("x",)),
}
STREAM_OPTIONS = Field(
    (
        *(None, {}, {"include_usage": True}, {"include_usage": False}, {"continuous_usage_stats": True}),
        {"include_usage": True, "continuous_usage_stats": True},
        {"include_usage": True, "continuous_usage_stats": False, "extra": 1},
    ),
    ({"include_usage": "x"}, {"include_usage": None}, {"include_usage": 2}, [], "x", 1, True),
)
TOKENIZE: Mapping[str, Field] = {
    "model": SAMPLING["model"],
    "add_special_tokens": _STRICT_BOOLEAN,
    "return_token_strs": _BOOLEAN,
    "add_generation_prompt": _STRICT_BOOLEAN,
    "continue_final_message": Field((False,), (True, None, "x")),
    "chat_template": CHAT["chat_template"],
    "chat_template_kwargs": CHAT["chat_template_kwargs"],
    "tools": CHAT["tools"],
    "return_token_offsets": _BOOLEAN,
    "junk": SAMPLING["junk"],
}
RESPONSES: Mapping[str, Field] = {
    "model": SAMPLING["model"],
    "instructions": Field((None, "Be brief."), (1, [])),
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "top_k": SAMPLING["top_k"],
    "metadata": Field((None, {"a": "b"}), ("x", 1)),
    "store": _BOOLEAN,
    "background": Field((False,), ("x", None)),
    "parallel_tool_calls": _BOOLEAN,
    "service_tier": Field(("auto", "default"), ("x", 1)),
    "truncation": Field(("disabled", "auto", None), ("x", 1)),
    "tool_choice": Field(("none", "auto"), ("x", 1, {})),
    "tools": Field(([],), ("x", [{}], [1])),
    "text": Field((None, {"format": {"type": "text"}}), ("x", {"format": {"type": "x"}})),
    "previous_response_id": Field((None,), ("", "resp_none", 1)),
    "user": SAMPLING["user"],
    "priority": SAMPLING["priority"],
    "cache_salt": SAMPLING["cache_salt"],
    "junk": SAMPLING["junk"],
}
MESSAGES: Mapping[str, Field] = {
    "model": Field(("m",), ("nope", "", None, 1)),
    "system": Field((None, "Be brief.", [{"type": "text", "text": "Be brief."}]), (1, [1], {})),
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "top_k": SAMPLING["top_k"],
    "stop_sequences": Field((None, ["\x01"]), ([""], "x", [1])),
    "metadata": Field((None, {"user_id": "u"}), ("x",)),
    "tool_choice": Field((None,), ({"type": "auto"}, {"type": "any"}, {"type": "none"}, {}, "x")),
    "tools": Field((None, []), ([{"name": "f", "input_schema": {"type": "object"}}], [{}], "x")),
    "junk": SAMPLING["junk"],
}
