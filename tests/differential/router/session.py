"""A client of a router that knows what each worker behind it must hold."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from tests.differential.router.processes import Answer, Router, Vllm, asked, until
from tests.differential.router.vllm_caches import VllmCache

PATHS = {
    "ids": "/v1/completions",
    "text": "/v1/completions",
    "chat": "/v1/chat/completions",
    "response": "/v1/responses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request. `content` is a list of token ids, a text, or messages, as `kind` says."""

    kind: str
    content: Any
    salt: str | None = None
    num_answered: int = 2
    is_streamed: bool = False
    wants_prompt_logprobs: bool = False
    """For these a worker computes the whole prompt, whatever it has cached."""

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        body: dict[str, Any] = {"model": "m", "stream": self.is_streamed}
        if self.salt is not None:
            body["cache_salt"] = self.salt
        if self.kind == "response":
            return {**body, "input": self.content, "max_output_tokens": self.num_answered}
        if self.is_streamed:
            body["stream_options"] = {"include_usage": True}
        if self.wants_prompt_logprobs:
            body["prompt_logprobs"] = 1
        body |= {"max_tokens": self.num_answered, "ignore_eos": True}
        return {**body, "messages" if self.kind == "chat" else "prompt": self.content}


class Figures(NamedTuple):
    """What became of one request: tokens that were cached, as vLLM says, as the router expected, and as they must be."""

    worker: int
    best_workers: Sequence[int]
    prompt_tokens: int
    reported: int
    predicted: int
    expected: int


class Session:
    """Asks one router, and keeps the figures of all that was asked."""

    def __init__(self, router: Router, workers: Sequence[Vllm]) -> None:
        self.router = router
        self.workers = workers
        self.caches = [VllmCache() for _ in workers]
        self.figures: list[Figures] = []
        self._numbers = count()

    def heard(self) -> None:
        """Return when the router has heard of all blocks that its workers hold."""
        held = [len(cache) for cache in self.caches]
        until(f"the router knows {held} blocks", lambda: self.router.blocks_known() == held)

    def ask(self, question: Question) -> Figures:
        """Send one request when all before it was heard of."""
        (figures,) = self.ask_at_once([question])
        return figures

    def ask_at_once(self, questions: Sequence[Question]) -> list[Figures]:
        """Send requests together when all before them was heard of; none may profit from another."""
        self.heard()
        ids = [f"question-{next(self._numbers)}" for _ in questions]
        with ThreadPoolExecutor(len(questions)) as at_once:
            answers = list(at_once.map(self.answer, questions, ids))
        figures = [self._judged(*each) for each in zip(questions, ids, answers, strict=True)]
        for question, each in zip(questions, figures, strict=True):
            prompt = self.prompt_of(question)
            self.caches[each.worker].computed(prompt, question.salt, question.num_answered)
        self.figures += figures
        return figures

    def answer(self, question: Question, request_id: str) -> Answer:
        """Send a request and return its answer."""
        answer = asked(
            self.router.port, "POST", PATHS[question.kind], question.body, {"X-Request-Id": request_id}
        )
        assert answer.status == 200, answer.text
        return answer

    def _judged(self, question: Question, request_id: str, answer: Answer) -> Figures:
        prompt = self.prompt_of(question)
        held = [
            0 if question.wants_prompt_logprobs else cache.usable_tokens(prompt, question.salt)
            for cache in self.caches
        ]
        urls = self.router.urls
        worker = urls.index(answer.headers["X-Understudy-Worker"])
        usage = usage_in(answer.text)
        log = self.router.log_of(request_id)
        details = usage.get("prompt_tokens_details") or usage["input_tokens_details"]
        assert usage.get("prompt_tokens", usage.get("input_tokens")) == len(prompt) == log["prompt_tokens"]
        assert log["worker"] == urls[worker]
        assert log["cached_tokens"] == details["cached_tokens"]
        return Figures(
            worker=worker,
            best_workers=[index for index, tokens in enumerate(held) if tokens == max(held)],
            prompt_tokens=len(prompt),
            reported=details["cached_tokens"],
            predicted=log["predicted_cached_tokens"],
            expected=held[worker],
        )

    def prompt_of(self, question: Question) -> list[int]:
        """Return the tokens of a request, as vLLM says."""
        match question.kind:
            case "ids":
                return list(question.content)
            case "text":
                return self.workers[0].prompt_of({"prompt": question.content})
            case "chat":
                return self.workers[0].prompt_of({"messages": question.content})
            case _:
                messages = [{"role": "user", "content": question.content}]
                return self.workers[0].prompt_of({"messages": messages})


def usage_in(text: str) -> dict[str, Any]:
    """Return what an answer, streamed or not, says of its tokens in the end."""
    found = None
    for document in _documents(text):
        found = document.get("usage") or document.get("response", {}).get("usage") or found
    assert found is not None, text
    usage: dict[str, Any] = found
    return usage


def _documents(text: str) -> Iterable[dict[str, Any]]:
    if text.startswith("{"):
        yield json.loads(text)
    for line in text.splitlines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))
