"""Answers read from a file: JSON lines in the forms that public datasets of chats and completions have."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec

from understudy.errors import TraceError
from understudy.workload.source import file_source

_ASKS = frozenset({"user", "human"})
_ANSWERS = frozenset({"assistant", "gpt", "chatgpt", "bing", "bard", "model"})

_ACCEPTED = (
    "prompt with answer, output, completion or response, or instruction with output, "
    "or messages or conversations with a turn of the assistant"
)


class _LineError(ValueError):
    """What is wrong with a line."""


class _Part(msgspec.Struct):
    """A part of a message's content; only text is read."""

    text: str | None = None


class _Turn(msgspec.Struct):
    """A turn of a conversation: OpenAI's role and content, or ShareGPT's from and value."""

    role: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    content: str | list[_Part] | None = None
    value: str | None = None

    @property
    def speaker(self) -> str:
        return self.role or self.from_ or ""

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or self.value or ""


class _Line(msgspec.Struct):
    """All the forms of a line at one time."""

    prompt: str | list[_Turn] | None = None
    instruction: str | None = None
    input: str | None = None
    question: str | None = None
    answer: str | None = None
    output: str | None = None
    completion: str | list[_Turn] | None = None
    response: str | None = None
    messages: list[_Turn] | None = None
    conversations: list[_Turn] | None = None
    conversation: list[_Turn] | None = None


class AnswerDataset:
    """Prompts and their answers, in the order of the file."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        assert pairs, "a dataset has answers"
        self.answers = [answer for _, answer in pairs]
        self._by_prompt: dict[str, list[str]] = {}
        for prompt, answer in pairs:
            self._by_prompt.setdefault(prompt, []).append(answer)

    def choose(self, prompts: Sequence[str], rng: Random) -> str:
        """Return an answer to the first of `prompts` that the dataset knows, else any answer."""
        for prompt in prompts:
            if prompt in self._by_prompt:
                return rng.choice(self._by_prompt[prompt])
        return rng.choice(self.answers)


def read_dataset(path: Path) -> AnswerDataset:
    """Return the answers of a file of JSON lines, which may be compressed by gzip.

    A line holds a `prompt` (or `question`, or `instruction` with `input`) and an `answer`, `output`, `completion` or
    `response`; or OpenAI's `messages`, or ShareGPT's `conversations`, of which every turn of the assistant answers the
    one before it. Raises TraceError, with the number of the line, for a file that cannot be read or holds something else.
    """
    try:
        source = file_source(path)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    pairs: list[tuple[str, str]] = []
    for number, line in source.lines():
        try:
            pairs.extend(_pairs(msgspec.json.decode(line, type=_Line)))
        except (msgspec.DecodeError, _LineError, RecursionError) as error:
            raise TraceError(f"{source.name}: line {number}: {error}") from None
        except UnicodeDecodeError:
            raise TraceError(f"{source.name}: line {number}: not UTF-8") from None
    if not pairs:
        raise TraceError(f"{source.name}: no answers in it")
    return AnswerDataset(pairs)


def _pairs(line: _Line) -> list[tuple[str, str]]:
    turns = line.messages or line.conversations or line.conversation
    if turns is None and isinstance(line.prompt, list):
        turns = [*line.prompt, *(line.completion if isinstance(line.completion, list) else [])]
    if turns is not None:
        pairs = list(_turn_pairs(turns))
        if not pairs:
            raise _LineError("no turn of the assistant follows one of the user")
        return pairs
    prompt = _prompt(line)
    answers = (line.answer, line.output, line.completion, line.response)
    answer = next((text for text in answers if isinstance(text, str)), None)
    if prompt is None or answer is None:
        raise _LineError(f"no {'prompt' if prompt is None else 'answer'}: a line holds {_ACCEPTED}")
    return [(prompt, answer)]


def _prompt(line: _Line) -> str | None:
    if isinstance(line.prompt, str):
        return line.prompt
    if line.instruction is not None:
        return f"{line.instruction}\n{line.input}" if line.input else line.instruction
    return line.question or line.input


def _turn_pairs(turns: Sequence[_Turn]) -> Iterator[tuple[str, str]]:
    asked: str | None = None
    for turn in turns:
        if turn.speaker in _ASKS:
            asked = turn.text
        elif turn.speaker in _ANSWERS and asked is not None:
            yield asked, turn.text
            asked = None
