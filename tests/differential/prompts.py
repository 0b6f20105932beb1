"""Prompts and conversations, good and bad."""

from collections.abc import Callable
from random import Random
from typing import Any

VOCABULARY = 32_000
MAX_MODEL_LEN = 4096
_TEXTS = (
    *(
        "hello",
        "hello world",
        "The quick brown fox jumps over the lazy dog. " * 3,
        " ",
        "\n",
        "a",
        "0123456789",
    ),
    *(
        "é\u00df\u4e2d\u6587 \U0001f600\U0001f468\u200d\U0001f469",
        "\x00\x01\x7f",
        "<s>hello</s><unk>",
        "{{ messages }}",
    ),
    *(
        "\u202eright to left",
        "tab\tand\r\nlines\n\n",
        "def f(x):\n    return x\n" * 5,
        "\ufeffmark",
        "\ud83d\ude00",
    ),
)
_BAD_TEXTS: tuple[Any, ...] = ("", None, 1, 1.5, True, {}, {"text": "x"})
_BAD_ROLES: tuple[Any, ...] = ("", "User", "robot", None, 1, [])
_BAD_PROMPTS: tuple[Any, ...] = (
    *("", None, 1, 1.5, True, {}, {"prompt": "x"}, [], [[]], [""], ["a", ""], [[5], []], ["a", 5], [5, "a"]),
    *(
        [[5], "a"],
        [None],
        [["a"]],
        [[[5]]],
        [5, 5.5],
        [5, 5.0],
        ["5"],
        [True, False],
        [-1],
        [[-1]],
        [32_000],
        [5, 10**6],
    ),
    *(
        [2**31],
        [2**63],
        [10**30],
        ["a"] * 1025,
        [5, None],
        "a" * 30_000,
        "hello " * 3000,
        [31_999],
        [0],
        [1, 2],
    ),
)


def text(random: Random) -> str:
    """Return a text that is not empty."""
    return random.choice(_TEXTS)


def token_ids(random: Random, most: int = 40) -> list[int]:
    """Return one to `most` token ids that stand for themselves when they are decoded and encoded again, or not."""
    return [random.randrange(3, 580) for _ in range(random.randint(1, most))]


def prompt(random: Random) -> Any:
    """Return a prompt of /v1/completions that is accepted."""
    kinds: tuple[Callable[[], Any], ...] = (
        *(lambda: text(random),) * 8,
        *(lambda: token_ids(random),) * 4,
        *(lambda: [text(random) for _ in range(random.randint(1, 3))],) * 3,
        *(lambda: [token_ids(random) for _ in range(random.randint(1, 3))],) * 3,
        lambda: [random.randrange(VOCABULARY) for _ in range(random.randint(1, 20))],
        lambda: (
            token_ids(random, most=300)
            if random.random() < 0.6
            else [5] * (MAX_MODEL_LEN - random.randint(1, 9))
        ),
    )
    return random.choice(kinds)()


def bad_prompt(random: Random) -> Any:
    """Return what is refused, or nearly so."""
    if random.random() < 0.15:
        return [5] * (MAX_MODEL_LEN + random.randint(-1, 3))
    return random.choice(_BAD_PROMPTS)


def conversation(random: Random) -> list[dict[str, Any]]:
    """Return messages of a chat that are accepted."""
    messages: list[dict[str, Any]] = []
    if random.random() < 0.4:
        messages.append({"role": random.choice(("system", "developer")), "content": text(random)})
    for _ in range(random.randrange(3)):
        messages += [
            {"role": "user", "content": _content(random)},
            {"role": "assistant", "content": text(random)},
        ]
    last: dict[str, Any] = {"role": "user", "content": _content(random)}
    if random.random() < 0.1:
        last["name"] = "someone"
    return [*messages, last]


def bad_conversation(random: Random) -> Any:
    """Return what is refused, or nearly so."""
    whole: tuple[Any, ...] = (
        *([], None, "hello", {}, 1, [{}], [None], ["x"], [[]], [{"role": "user"}], [{"content": "x"}]),
        *([{"role": "user", "content": value}] for value in _BAD_TEXTS),
        *([{"role": value, "content": "x"}] for value in _BAD_ROLES),
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 1}]}],
        [{"role": "user", "content": [{"type": "nonsense", "text": "x"}]}],
        [{"role": "user", "content": [{}]}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": []}],
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
            }
        ],
        [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
            }
        ],
        [{"role": "tool", "content": "x"}],
        [{"role": "tool", "content": "x", "tool_call_id": "c"}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant"}],
        [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}],
        [
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}],
            }
        ],
        [{"role": "assistant", "content": "x", "tool_calls": []}],
        [{"role": "assistant", "content": "the end"}],
        [{"role": "user", "content": "hello " * 3000}],
    )
    return random.choice(whole)


def _content(random: Random) -> Any:
    if random.random() < 0.25:
        return [{"type": "text", "text": text(random)} for _ in range(random.randint(1, 2))]
    return text(random)
