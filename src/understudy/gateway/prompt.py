"""From the body of a request to what a policy decides by: the model, the prompt's tokens, and the hashes of its blocks.

Bodies are read as the workers read them, by the same code. What cannot be read has no prompt here, and goes on to a worker all
the same: it is the worker who says what is wrong with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from understudy.engine import CacheIdentity, LoRA
from understudy.engine.hash_chain import HashChain
from understudy.engine.hashing import BlockHasher, event_hash
from understudy.errors import UnderstudyError
from understudy.tokenize import Message, Tokenizer
from understudy.wire.chat import forwarded_token_ids, parse_chat
from understudy.wire.conversation import conversation
from understudy.wire.errors import ApiError
from understudy.wire.limits import ModelLimits
from understudy.wire.responses import parse_responses, response_messages, template_tools

_ANY = 1 << 62
_LENIENT = ModelLimits(
    max_model_len=_ANY,
    vocabulary_size=_ANY,
    max_token_id=_ANY,
    served_model_names=("",),
    enable_auto_tool_choice=True,
    has_tool_parser=True,
    trust_request_mm_kwargs=True,
    checks_model_name=False,
)
"""The router refuses nothing that some worker might take, but a client's own template: it would be run here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The first prompt of a request. `block_hashes` are those of its full blocks, as KV events carry them.

    There are none where a worker computes the whole prompt whatever it holds: logprobs of a prompt are not cached.
    """

    num_tokens: int
    block_hashes: Sequence[int]
    model: str | None = None
    priority: int = 0
    session_id: str | None = None
    wants_stream: bool = False


class _Common(msgspec.Struct):
    """What matters of every body; of a type that is wrong here, a worker will complain."""

    model: str | None = None
    priority: int = 0
    user: str | None = None
    cache_salt: str | None = None
    stream: bool | None = False
    prompt_logprobs: Any = None

    @property
    def reads_cache(self) -> bool:
        """Whether a worker looks for the prompt in its cache."""
        return self.prompt_logprobs is None


class _MayEcho(_Common):
    echo: Any = False
    logprobs: Any = None

    @property
    def reads_cache(self) -> bool:
        """Whether a worker looks for the prompt in its cache: not if the prompt is echoed with logprobs."""
        return self.prompt_logprobs is None and not (self.echo and self.logprobs is not None)


class _CompletionOfIds(_MayEcho, kw_only=True):
    prompt: list[int]
    truncate_prompt_tokens: int | None = None


class _Completion(_MayEcho):
    prompt: str | list[str | list[int]] = ""
    add_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None


class _GenerateSampling(msgspec.Struct):
    prompt_logprobs: Any = None


class _Generate(_Common):
    token_ids: list[int] = msgspec.field(default_factory=list)
    sampling_params: _GenerateSampling = msgspec.field(default_factory=_GenerateSampling)

    @property
    def reads_cache(self) -> bool:
        """Whether a worker looks for the prompt in its cache."""
        return self.sampling_params.prompt_logprobs is None


_decode_completion_of_ids = msgspec.json.Decoder(_CompletionOfIds).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_generate = msgspec.json.Decoder(_Generate).decode


class PromptReader:
    """Reads prompts as workers with this tokenizer, template and way of hashing do. Keeps nothing."""

    def __init__(self, tokenizer: Tokenizer, hasher: BlockHasher, chat_template: str | None = None) -> None:
        self.block_size = hasher.block_size
        self._tokenizer = tokenizer
        self._hasher = hasher
        self._chat_template = chat_template
        self._token_ids: Mapping[str, Callable[[bytes], tuple[_Common, Sequence[int]]]] = {
            "/v1/completions": self._of_completion,
            "/v1/chat/completions": self._of_chat,
            "/v1/responses": self._of_response,
            "/inference/v1/generate": self._of_generate,
        }

    def has_prompt(self, path: str) -> bool:
        """Return whether requests to a path, undecoded and without its query, carry a prompt."""
        return path in self._token_ids

    def read(self, path: str, body: bytes, adapters: Mapping[str, LoRA]) -> Prompt | None:
        """Return the prompt in the body of a request to `path`, None where no worker could read one.

        `adapters` are those that the workers serve, by the names that requests use.
        """
        try:
            common, token_ids = self._token_ids[path](body)
        except (ApiError, UnderstudyError, msgspec.MsgspecError, RecursionError, UnicodeError):
            return None
        hashes = HashChain()
        if common.reads_cache:
            identity = CacheIdentity(lora=adapters.get(common.model or ""), salt=common.cache_salt)
            self._hasher.extend(hashes, token_ids, identity)
        return Prompt(
            num_tokens=len(token_ids),
            block_hashes=[event_hash(block_hash) for block_hash in hashes],
            model=common.model,
            priority=common.priority,
            session_id=common.user,
            wants_stream=bool(common.stream),
        )

    def _of_completion(self, body: bytes) -> tuple[_Common, Sequence[int]]:
        try:
            given = _decode_completion_of_ids(body)
        except msgspec.ValidationError:
            wanted = _decode_completion(body)
        else:
            return given, _truncated(given.prompt, given.truncate_prompt_tokens)
        prompt = (
            wanted.prompt if isinstance(wanted.prompt, str) else wanted.prompt[0] if wanted.prompt else ()
        )
        if isinstance(prompt, str):
            prompt = self._tokenizer.encode(prompt, add_special_tokens=wanted.add_special_tokens)
        return wanted, _truncated(prompt, wanted.truncate_prompt_tokens)

    def _of_generate(self, body: bytes) -> tuple[_Common, Sequence[int]]:
        wanted = _decode_generate(body)
        return wanted, wanted.token_ids

    def _of_chat(self, body: bytes) -> tuple[_Common, Sequence[int]]:
        wanted = parse_chat(body, _LENIENT)
        common = _Common(
            wanted.model,
            wanted.priority,
            wanted.user,
            wanted.cache_salt,
            wanted.stream,
            wanted.top_logprobs if wanted.echo and wanted.prompt_logprobs is None else wanted.prompt_logprobs,
        )
        if (forwarded := forwarded_token_ids(wanted, _LENIENT)) is not None:
            return common, _truncated(forwarded, wanted.truncate_prompt_tokens)
        kwargs = dict(wanted.chat_template_kwargs or {})
        if wanted.documents is not None:
            kwargs["documents"] = wanted.documents
        if wanted.reasoning_effort is not None:
            kwargs["reasoning_effort"] = wanted.reasoning_effort
        text = self._rendered(
            conversation(wanted.messages, _LENIENT),
            add_generation_prompt=wanted.add_generation_prompt,
            continue_final_message=wanted.continue_final_message,
            tools=None if wanted.tools is None else [tool.template_fields for tool in wanted.tools],
            chat_template=wanted.chat_template,
            kwargs=kwargs,
        )
        token_ids = self._tokenizer.encode(text, add_special_tokens=wanted.add_special_tokens)
        return common, _truncated(token_ids, wanted.truncate_prompt_tokens)

    def _of_response(self, body: bytes) -> tuple[_Common, Sequence[int]]:
        wanted = parse_responses(body, _LENIENT)
        common = _Common(wanted.model, wanted.priority, wanted.user, wanted.cache_salt, wanted.stream)
        text = self._rendered(
            conversation(response_messages(wanted), _LENIENT),
            add_generation_prompt=True,
            continue_final_message=False,
            tools=template_tools(wanted),
            chat_template=None,
            kwargs=wanted.chat_template_kwargs or {},
        )
        return common, self._tokenizer.encode(text, add_special_tokens=False)

    def _rendered(self, messages: Sequence[Message], *, chat_template: str | None, **wishes: Any) -> str:
        return self._tokenizer.chat_prompt(
            messages, chat_template=chat_template or self._chat_template, **wishes
        )


def _truncated(token_ids: Sequence[int], most_tokens: int | None) -> Sequence[int]:
    return token_ids[-most_tokens:] if most_tokens is not None and most_tokens > 0 else token_ids
