"""How long prompts and answers may be: truncation, the context's limit, and how many tokens remain for the answer.

(vllm/renderers/params.py and get_max_tokens of vllm/entrypoints/serve/utils/api_utils.py, 0.33.0)
"""

from dataclasses import dataclass
from typing import Literal

from understudy.wire.errors import ApiError, refusal
from understudy.wire.limits import ModelLimits


@dataclass(frozen=True, slots=True)
class PromptRules:
    """What a request allows to be done with its prompt. `truncate` -1 leaves room for one token of answer."""

    limits: ModelLimits
    max_output_tokens: int | None
    output_tokens_param: str
    truncate: int | None = None
    side: Literal["left", "right"] | None = None

    def check(self) -> None:
        """Raise ApiError for lengths that the context can never hold."""
        most = self.limits.max_model_len
        wanted = self.max_output_tokens
        if wanted is not None and wanted > most:
            raise refusal(
                f"{self.output_tokens_param}={wanted} cannot be greater than max_model_len={most}. Please request fewer"
                " output tokens.",
                self.output_tokens_param,
                wanted,
            )
        if self.truncate is not None and self.truncate > most:
            raise refusal(
                f"truncate_prompt_tokens={self.truncate} cannot be greater than max_model_len = {most}. Please request a"
                " smaller truncation size.",
                "truncate_prompt_tokens",
                self.truncate,
            )

    def checked_text(self, text: str) -> str:
        """Return the part of a text that is worth tokenizing; raises ApiError if it cannot fit whatever its tokens."""
        per_token = self.limits.max_characters_per_token
        if per_token is None:
            return text
        most = self.limits.max_model_len * per_token
        if len(text) <= most:
            return text
        if self.truncate is None:
            raise refusal(
                f"This model's maximum context length is {self.limits.max_model_len} tokens. However, your prompt"
                f" contains {len(text)} characters (more than {most} characters, which is the upper bound for"
                f" {self.limits.max_model_len} input tokens). Please reduce the length of the input prompt.",
                "input_text",
                len(text),
            )
        if self.side is None:
            return text
        return text[-most:] if self.side == "left" else text[:most]

    def fitted(self, token_ids: list[int], *, is_text: bool) -> list[int]:
        """Return a prompt's tokens, truncated as asked; raises ApiError if they do not fit.

        vLLM stops tokenizing a text one token past the limit, so it counts no further.
        """
        most = self.limits.max_model_len
        token_ids = self._truncated(token_ids)
        count = min(len(token_ids), most + 1) if is_text else len(token_ids)
        if count > most:
            qualifier = "at least " if count == most + 1 else ""
            raise refusal(
                f"This model's maximum context length is {most} tokens. However, your prompt contains"
                f" {qualifier}{count} input tokens, which exceeds this limit even without any output tokens. Please"
                " reduce the length of the input prompt.",
                "input_tokens",
                count,
            )
        return token_ids

    def _truncated(self, token_ids: list[int]) -> list[int]:
        keep = self.truncate
        if keep is None:
            return token_ids
        if keep < 0:
            keep = self.limits.max_model_len - (self.max_output_tokens != 0)
        if keep >= len(token_ids):
            return token_ids
        if keep == 0:
            return []
        return token_ids[:keep] if self.side == "right" else token_ids[-keep:]


def effective_max_tokens(
    wanted: int | None, prompt_tokens: int, limits: ModelLimits, truncate: int | None = None
) -> int:
    """Return how many tokens an answer may have: the least of what is wanted, what fits and what the server allows.

    Raises ApiError for a prompt longer than the context.
    """
    most = limits.max_model_len
    if truncate is not None:
        prompt_tokens = min(prompt_tokens, most if truncate == -1 else truncate)
    if most < prompt_tokens:
        raise ApiError(f"Input length ({prompt_tokens}) exceeds model's maximum context length ({most}).")
    default = limits.default_sampling.get("max_tokens")
    bounds = (most - prompt_tokens, default if wanted is None else wanted, limits.max_tokens_cap)
    return min(bound for bound in bounds if isinstance(bound, int))
