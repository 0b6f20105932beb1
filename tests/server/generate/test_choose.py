"""Generators by name."""

from pathlib import Path

import pytest
from tests.server.generate.questions import TOKENIZER, question, read, text

from understudy.errors import UnderstudyError
from understudy.server.generate import make_generator, parse_output_length


def test_a_dataset_gives_answers_or_their_lengths(tmp_path: Path) -> None:
    """The dataset generator says the answers, the dummy generator as many tokens as they have."""
    path = tmp_path / "answers.jsonl"
    path.write_text('{"prompt": "hi", "answer": "hello there"}', encoding="utf-8")
    asked = question(prompt_text="hi")
    answers = make_generator("dataset", TOKENIZER, dataset=path)
    lengths = make_generator("dummy", TOKENIZER, dataset=path, output_length=parse_output_length("dataset"))
    said = read(answers.answer(asked), asked)
    assert text(said) == "hello there"
    assert len(read(lengths.answer(asked), asked)) == len(said)


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        ("dumy", "auto", "did you mean dummy"),
        ("dataset", "auto", "need a dataset file"),
        ("dummy", "dataset", "need a dataset file"),
        ("echo", "fixed:5", "goes with the dummy generator"),
        ("transformers", "auto", "needs the folder of a model"),
    ],
)
def test_what_does_not_go_together_is_refused(kind: str, spec: str, problem: str) -> None:
    """The error says what is missing."""
    with pytest.raises(UnderstudyError, match=problem):
        make_generator(kind, TOKENIZER, output_length=parse_output_length(spec))
