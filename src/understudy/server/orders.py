"""From a checked request to what the engine is asked for: one order a sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from understudy.engine import CacheIdentity, LoRA
from understudy.errors import InputError
from understudy.server.answer_text import AnswerText
from understudy.server.context import ServerContext
from understudy.server.generate import Answer, Question, prompt_digest, question_key
from understudy.server.sample import SampleOrder
from understudy.wire.errors import ApiError
from understudy.wire.sampling import Sampling, check_bad_words

_MOST_TOKENS_AT_ONCE = 50_000
"""Prompt tokens, by sample, that are looked at in well below a hundredth of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptInput:
    """One prompt of a request. `text` is None where only token ids were given."""

    token_ids: Sequence[int]
    text: str | None = None
    last_user_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """What all samples of a request have in common, beside its sampling.

    `says` are texts that must be said whole, by sample, None where the model is free; `model` is the name that the
    answer carries; `limits_itself` is False where only the context bounds the answer.
    """

    model: str
    priority: int = 0
    cache_salt: str | None = None
    limits_itself: bool = True
    says: Sequence[str | None] = (None,)


@dataclass(frozen=True, slots=True)
class OrderedSample:
    """An order with what later tells of its tokens: the question, and its key for all that is random."""

    order: SampleOrder
    key: bytes


def take_long(sampling: Sampling, num_prompt_tokens: int) -> bool:
    """Return whether the orders of a prompt may take longer to make than a step should wait."""
    return (
        sampling.structured_outputs is not None
        or sampling.prompt_logprobs is not None
        or sampling.n * num_prompt_tokens > _MOST_TOKENS_AT_ONCE
    )


def orders_of(
    context: ServerContext,
    prompt: PromptInput,
    sampling: Sampling,
    plan: AnswerPlan,
    *,
    prompt_id: str,
    first_index: int = 0,
) -> list[OrderedSample]:
    """Return the orders for one prompt, numbered from `first_index`. Raises ApiError for bad words that have no tokens."""
    tokenizer = context.tokenizer
    bad_words = check_bad_words(
        sampling.bad_words, lambda text: tokenizer.encode(text, add_special_tokens=False), context.limits
    )
    adapter = context.models.adapters.get(plan.model)
    identity = CacheIdentity(
        lora=None if adapter is None else LoRA(adapter.name, adapter.path), salt=plan.cache_salt
    )
    eos_token_id = None if sampling.ignore_eos else tokenizer.eos_token_id
    assert sampling.max_tokens is not None, "the context bounds every answer"
    allowed = sampling.allowed_token_ids
    asked = Question(
        prompt_token_ids=prompt.token_ids,
        prompt_digest=prompt_digest(prompt.token_ids),
        max_tokens=sampling.max_tokens,
        model=plan.model,
        prompt_text=prompt.text,
        last_user_text=prompt.last_user_text,
        seed=sampling.seed,
        limits_itself=plan.limits_itself,
        min_tokens=sampling.min_tokens,
        ignore_eos=sampling.ignore_eos,
        eos_token_id=tokenizer.eos_token_id,
        stop_token_ids=frozenset(sampling.stop_token_ids),
        allowed_token_ids=None if allowed is None else frozenset(allowed),
        logit_bias=sampling.logit_bias or {},
        bad_words_token_ids=bad_words,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
    )
    orders: list[OrderedSample] = []
    for number in range(sampling.n):
        question = replace(asked, sample_index=number, text=plan.says[number % len(plan.says)])
        text = AnswerText(
            tokenizer.stream(
                skip_special_tokens=sampling.skip_special_tokens,
                spaces_between_special_tokens=sampling.spaces_between_special_tokens,
                prompt_token_ids=prompt.token_ids,
            ),
            stop=sampling.stop,
            include_stop_str_in_output=sampling.include_stop_str_in_output,
            min_tokens=sampling.min_tokens,
        )
        order = SampleOrder(
            prompt_id=prompt_id,
            index=first_index + number,
            prompt_token_ids=prompt.token_ids,
            answer=_answer(context, question),
            text=text,
            max_tokens=sampling.max_tokens,
            num_samples=sampling.n,
            eos_token_id=eos_token_id,
            stop_token_ids=question.stop_token_ids,
            skip_reading_prefix_cache=sampling.skip_reading_prefix_cache,
            identity=identity,
            priority=plan.priority,
            stream_interval=max(sampling.stream_interval or 1, context.arguments["stream_interval"]),
        )
        orders.append(OrderedSample(order, question_key(context.seed, question)))
    return orders


def _answer(context: ServerContext, question: Question) -> Answer:
    try:
        return context.generator.answer(question)
    except InputError as error:
        raise ApiError(str(error)) from None
