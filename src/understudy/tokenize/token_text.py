"""The text of single tokens as vLLM shows it beside log probabilities.

Where a character is spread over several tokens, the last of them shows it and the ones before show nothing.
(vllm/v1/engine/logprobs.py, 0.33.0)
"""

from collections.abc import Sequence
from itertools import takewhile

from understudy.tokenize.tokenizer import Tokenizer

_MOST_CONTEXT_TOKENS = 4  # no UTF-8 character has more bytes
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def text_in_context(tokenizer: Tokenizer, token_id: int, context_ids: Sequence[int]) -> str:
    """Return the text of a token that follows `context_ids`, of which the last four count."""
    text = tokenizer.token_text(token_id)
    return _completed(tokenizer, token_id, context_ids) if text.endswith(_UNFINISHED) else text


def _completed(tokenizer: Tokenizer, token_id: int, context_ids: Sequence[int]) -> str:
    def decode(token_ids: Sequence[int]) -> str:
        return tokenizer.decode(token_ids, skip_special_tokens=False)

    recent = list(context_ids[-_MOST_CONTEXT_TOKENS:])
    for num_context in range(1, len(recent) + 1):
        context = recent[-num_context:]
        text = decode([*context, token_id])
        if text.endswith(_UNFINISHED):
            continue
        unfinished = takewhile(lambda before: decode([before]).endswith(_UNFINISHED), reversed(context))
        num_finished = num_context - sum(1 for _ in unfinished)
        finished = decode(context[:num_finished]) if num_finished else ""
        return text[_num_shared(finished, text) :]
    return ""


def _num_shared(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
