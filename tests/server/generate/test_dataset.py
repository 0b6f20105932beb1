"""What datasets of answers may look like, and what is said of those that do not."""

import gzip
import json
from pathlib import Path
from random import Random

import pytest

from understudy.errors import TraceError
from understudy.server.generate.dataset import read_dataset

FORMS: list[dict[str, object]] = [
    {"prompt": "ask", "answer": "tell"},
    {"prompt": "ask", "output": "tell", "id": 5},
    {"prompt": "ask", "completion": "tell"},
    {"question": "ask", "response": "tell"},
    {"instruction": "ask", "input": "", "output": "tell"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "ask"}, {"role": "assistant", "content": "tell"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "ask"}]}, {"role": "assistant", "content": "tell"}]},
    {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "tell"}]},
    {"prompt": [{"role": "user", "content": "ask"}], "completion": [{"role": "assistant", "content": "tell"}]},
]  # fmt: skip


def _written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", FORMS, ids="+".join)
def test_common_forms_are_understood(tmp_path: Path, form: dict[str, object]) -> None:
    """The prompt finds its answer in each of them."""
    dataset = read_dataset(
        _written(tmp_path, json.dumps({"prompt": "x", "answer": "y"}), "", json.dumps(form))
    )
    assert dataset.choose(["ask"], Random(0)) == "tell"


def test_every_turn_of_a_conversation_is_an_answer(tmp_path: Path) -> None:
    """A conversation of two turns answers both of its questions; gzip is unpacked."""
    turns = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    line = json.dumps({"conversations": [{"from": who, "value": said} for who, said in turns]})
    path = tmp_path / "answers.jsonl.gz"
    path.write_bytes(gzip.compress(line.encode()))
    dataset = read_dataset(path)
    assert [dataset.choose([prompt], Random(0)) for prompt in ("a", "c")] == ["b", "d"]


def test_the_first_prompt_that_is_known_counts(tmp_path: Path) -> None:
    """A chat's last message goes before its whole prompt; several answers of one prompt all come."""
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in ("ab", "ac", "de")]
    dataset = read_dataset(_written(tmp_path, *lines))
    assert {dataset.choose(["x", "a", "d"], Random(seed)) for seed in range(20)} == {"b", "c"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "Input data was truncated"),
        ("[1]", "Expected `object`, got `array`"),
        ('{"prompt": "a"}', "no answer"),
        ('{"answer": "a"}', "no prompt"),
        ('{"prompt": "a", "answer": 5}', "Expected `str | null`, got `int` - at `$.answer`"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no turn of the assistant"),
        ('{"messages": "a"}', "Expected `array | null`, got `str` - at `$.messages`"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """The error tells the file, the number of the line and what is wrong with it, in one line."""
    path = _written(tmp_path, '{"prompt": "a", "answer": "b"}', "", line)
    with pytest.raises(TraceError) as refusal:
        read_dataset(path)
    assert str(refusal.value).startswith(f"{path}: line 3: {problem}")
    assert "\n" not in str(refusal.value)


def test_files_without_answers_are_refused(tmp_path: Path) -> None:
    """So are files that do not exist, and bytes that are no text."""
    path = _written(tmp_path)
    with pytest.raises(TraceError, match="no answers"):
        read_dataset(path)
    with pytest.raises(TraceError, match="no such file"):
        read_dataset(tmp_path / "none")
    path.write_bytes(b'{"prompt": "\xff", "answer": "b"}')
    with pytest.raises(TraceError, match="line 1"):
        read_dataset(path)
