"""Answers of a real causal language model from a local folder, step by step on the CPU. Slow, and needs an extra."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, count
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from understudy.errors import InputError, UsageError
from understudy.server.generate.grown_answer import FixedAnswer
from understudy.server.generate.keyed_random import keyed_random, question_key
from understudy.server.generate.masks import Masks, SharedMasks
from understudy.server.generate.question import Answer, Question
from understudy.tokenize import Tokenizer


class CausalLMGenerator:
    """Answers with a model that the transformers package reads; the prompt's token ids must be the model's own.

    It samples as the request asks (temperature, top_p, top_k), by chance keyed by the question, and ends where the model ends.
    Only safetensors and the package's own code are read, and nothing is fetched.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, seed: int = 0) -> None:
        torch, transformers = _packages()
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder}: no config.json in it; a folder with a causal language model is needed"
            )
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"{folder}: no causal language model can be read from it: {reason}") from error
        self._torch = torch
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._seed = seed
        self._num_token_ids = int(self._model.get_input_embeddings().weight.shape[0])
        self._masks = SharedMasks(())

    def answer(self, question: Question) -> Answer:
        """Return the model's answer, or the text that the question demands and then the model's words.

        Raises InputError for a question that the model's context has no room for, and for token ids that it does not know:
        the served model's vocabulary may be larger.
        """
        self._check_known("the prompt", question.prompt_token_ids)
        self._check_known("logit_bias", question.logit_bias)
        context = getattr(self._model.config, "max_position_embeddings", None)
        num_tokens = len(question.prompt_token_ids) + question.max_tokens
        if context is not None and num_tokens > context:
            raise InputError(f"prompt and answer may take {num_tokens:,} tokens; the model reads {context:,}")
        answer = ModelAnswer(
            self._torch,
            self._model,
            question,
            Masks(question, self._masks.of(question)),
            keyed_random(question_key(self._seed, question), "sampling"),
        )
        if question.text is None:
            return answer
        said = self._tokenizer.encode(question.text, add_special_tokens=False)
        return FixedAnswer(question, said, (answer.tokens(index, 1)[0] for index in count()))

    def _check_known(self, where: str, token_ids: Iterable[int]) -> None:
        greatest = self._num_token_ids - 1
        unknown = next((token_id for token_id in token_ids if not 0 <= token_id <= greatest), None)
        if unknown is not None:
            raise InputError(f"{where} has the token id {unknown}; the model knows 0 to {greatest:,}")


class ModelAnswer:
    """The tokens that a model has said so far, and its keys and values, for the next."""

    def __init__(self, torch: ModuleType, model: Any, question: Question, masks: Masks, rng: Random) -> None:
        self._torch = torch
        self._model = model
        self._question = question
        self._masks = masks
        self._is_masked = not self._masks.is_open or question.min_tokens > 0
        self._rng = rng
        self._biased = torch.tensor(list(question.logit_bias), dtype=torch.long)
        self._biases = torch.tensor(list(question.logit_bias.values()), dtype=torch.float32)
        self._said: list[int] = []
        self._unread = list(question.prompt_token_ids)
        self._cache: Any = None

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Return the tokens `start` to `start + count` (exclusive)."""
        while len(self._said) < start + count:
            token_id = self._sampled(self._next_logits())
            self._said.append(token_id)
            self._unread = [token_id]
        return self._said[start : start + count]

    def _next_logits(self) -> Any:
        """Return a float32 tensor of the vocabulary's size, after reading what has not been read yet."""
        with self._torch.inference_mode():
            ids = self._torch.tensor([self._unread])
            read = self._model(input_ids=ids, cache=self._cache, use_cache=True)
        self._cache = read.cache
        return read.logits[0, -1].float().clone()

    def _sampled(self, logits: Any) -> int:
        question = self._question
        logits[self._biased] += self._biases
        if self._is_masked:
            vocabulary = range(len(logits))
            logits[[token for token in vocabulary if not self._masks.allows(token, self._said)]] = -math.inf
        if question.temperature == 0 or not self._torch.isfinite(logits).any():
            return int(logits.argmax())
        ordered = self._torch.sort(logits / question.temperature, descending=True)
        kept = len(logits) if question.top_k <= 0 else question.top_k
        weights: list[float] = self._torch.softmax(ordered.values[:kept], dim=0).tolist()
        cumulative = list(accumulate(weights))
        within = bisect_left(cumulative, question.top_p) + 1
        return int(
            self._rng.choices(
                ordered.indices[: len(cumulative[:within])].tolist(), cum_weights=cumulative[:within]
            )[0]
        )


def _packages() -> tuple[ModuleType, ModuleType]:
    try:
        import torch  # noqa: PLC0415 - an extra, needed by this generator only
        import transformers  # noqa: PLC0415 - an extra, needed by this generator only
    except ImportError as error:
        raise UsageError(
            "answers of a real model need torch and transformers: pip install 'understudy[transformers]'"
        ) from error
    return torch, transformers
