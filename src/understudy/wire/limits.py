"""What requests are judged by: the served model's limits, and caps that keep one request from taking the memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_N_SEQUENCES = 128
"""Most answers to one prompt. vLLM stops at VLLM_MAX_N_SEQUENCES, 16384: each is an engine request of its own."""

MAX_COMPLETION_PROMPTS = 1024
"""Most prompts in one completion request: VLLM_MAX_COMPLETION_PROMPTS."""

MAX_SAMPLES = 4096
"""Most answers of one request, over all of its prompts. vLLM has no such limit."""

MAX_STOP_STRINGS = 4
"""Most stop strings of one request: VLLM_MAX_STOP_STRINGS."""

MAX_STOP_CHARACTERS = 4096
"""Longest stop string. vLLM has no limit, and each sample holds back that much text."""

MAX_BAD_WORDS = 128
"""Most bad words after tokenization: VLLM_MAX_NUM_BAD_WORDS."""

MAX_LOGPROB_TOKEN_IDS = 128
"""Most token ids in `logprob_token_ids`."""

MAX_SCHEMA_NESTING = 64
"""Deepest nesting of a JSON schema."""

STRUCTURAL_TAG_WRAPPER_NESTING = 16
"""Nesting that a structural tag may have beyond that of the schemas in it."""

MAX_CACHE_SALT_CHARACTERS = 128

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a server with one model accepts. Lengths are in tokens.

    `default_sampling` holds what the generation config sets, in vLLM's names of sampling parameters (among them
    `max_tokens`); `max_tokens_cap` bounds what a request may ask for (an overriding generation config).
    `vocabulary_size` is the model's, `max_token_id` the greatest id of model and tokenizer.
    `max_characters_per_token` bounds how long a text of a full context can be.
    """

    max_model_len: int
    vocabulary_size: int
    max_token_id: int
    served_model_names: tuple[str, ...]
    lora_names: frozenset[str] = frozenset()
    max_logprobs: int = 20
    max_characters_per_token: int | None = None
    default_sampling: Mapping[str, object] = field(default_factory=dict)
    max_tokens_cap: int | None = None
    enable_auto_tool_choice: bool = False
    has_tool_parser: bool = False
    has_reasoning_parser: bool = False
    trust_request_chat_template: bool = False
    trust_request_mm_kwargs: bool = False
    checks_model_name: bool = True

    @property
    def parses_tool_calls(self) -> bool:
        """Whether tool calls are looked for in answers: vLLM loads the parser only where tools may be chosen freely."""
        return self.enable_auto_tool_choice and self.has_tool_parser

    @property
    def most_logprobs(self) -> int:
        """The most log probabilities per token, -1 resolved to the vocabulary's size."""
        return self.vocabulary_size if self.max_logprobs == -1 else self.max_logprobs
