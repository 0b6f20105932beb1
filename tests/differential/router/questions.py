"""Requests that share beginnings, in all the forms that a router reads."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tests.differential.router.session import Question
from tests.differential.router.vllm_caches import BLOCK_TOKENS

SALTS = (None, None, "tenant-a", "tenant-b")
LONGEST_BLOCKS = 12
WORDS = (
    *("harbour", "ledger", "Größe", "東京", "naïve", "12.5 %", "river", "the", "of", "walks", "\n\n", "🙂"),
    *("matrix", "def f(x):", "quiet", "lantern", "Привет", "seven", "and", "stone", "it's", "below"),
)


def documents(random: Random, count: int) -> list[list[int]]:
    """Return prompts of token ids that others go on from."""
    return [
        [random.randrange(300, 30_000) for _ in range(LONGEST_BLOCKS * BLOCK_TOKENS)] for _ in range(count)
    ]


def one_by_one(random: Random, count: int) -> Iterator[Question]:
    """Yield requests of ids, texts, chats and responses over a few shared beginnings, some of them whole blocks long."""
    beginnings = documents(random, 4)
    texts = [_words(random, 60) for _ in range(4)]
    for _ in range(count):
        salt, streamed, answered = random.choice(SALTS), random.random() < 0.5, random.randint(1, 20)
        options: dict[str, Any] = {"salt": salt, "is_streamed": streamed, "num_answered": answered}
        kind = random.choice(("ids", "ids", "text", "chat", "response"))
        options["wants_prompt_logprobs"] = kind != "response" and not streamed and random.random() < 0.1
        if kind == "ids":
            end = random.randint(1, LONGEST_BLOCKS) * BLOCK_TOKENS
            more = [random.randrange(300, 30_000) for _ in range(random.choice((0, 0, 1, 15, 16, 40)))]
            yield Question(kind=kind, content=random.choice(beginnings)[:end] + more, **options)
            continue
        text = random.choice(texts)[: random.randint(40, 400)] + _words(random, random.randint(0, 12))
        messages = [{"role": "system", "content": random.choice(texts)}, {"role": "user", "content": text}]
        yield Question(kind=kind, content=messages if kind == "chat" else text, **options)


def conversation(random: Random, turns: Sequence[str]) -> list[dict[str, str]]:
    """Return the messages of a conversation so far, and one more of its user; `turns` are the answers so far."""
    messages = [{"role": "system", "content": _words(random, 40)}]
    for turn in turns:
        messages += [{"role": "user", "content": _words(random, 8)}, {"role": "assistant", "content": turn}]
    return [*messages, {"role": "user", "content": _words(random, 8)}]


def together(random: Random, beginnings: Sequence[Sequence[int]], count: int) -> list[Question]:
    """Return requests that go on from what is cached, each in its own way from the next block on."""
    questions = []
    for number in range(count):
        end = random.randint(1, LONGEST_BLOCKS) * BLOCK_TOKENS
        own = [random.randrange(300, 30_000) for _ in range(30)]
        content = [*random.choice(beginnings)[:end], 100 + number, *own]
        questions.append(Question(kind="ids", content=content, is_streamed=number % 2 == 0))
    return questions


def _words(random: Random, count: int) -> str:
    return "".join(f" {random.choice(WORDS)}" for _ in range(count))
