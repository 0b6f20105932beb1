"""The generators by name."""

from pathlib import Path

from understudy.errors import UsageError, unknown_name
from understudy.server.generate.causal_lm import CausalLMGenerator
from understudy.server.generate.dataset import AnswerDataset, read_dataset
from understudy.server.generate.output_length import OutputLength, parse_output_length
from understudy.server.generate.question import Generator
from understudy.server.generate.word_generator import (
    WordGenerator,
    dataset_voice,
    dummy_voice,
    echo_voice,
)
from understudy.tokenize import Tokenizer

GENERATORS = ("dummy", "echo", "dataset", "transformers")

AUTO = parse_output_length("auto")


def make_generator(
    kind: str,
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    output_length: OutputLength = AUTO,
    dataset: Path | None = None,
    model_folder: Path | None = None,
) -> Generator:
    """Return the generator of a kind: `dummy`, `echo`, `dataset` (needs a file) or `transformers` (needs a folder).

    Raises UsageError where the arguments do not go together, InputError for files that cannot be used.
    """
    if kind not in GENERATORS:
        raise unknown_name("generator", kind, GENERATORS)
    if kind != "dummy" and output_length.spec != AUTO.spec:
        raise UsageError(f"an output length goes with the dummy generator; {kind} ends its answers by itself")
    if kind == "transformers":
        if model_folder is None:
            raise UsageError("the transformers generator needs the folder of a model")
        return CausalLMGenerator(model_folder, tokenizer, seed=seed)
    if kind == "echo":
        return WordGenerator(tokenizer, echo_voice(tokenizer), seed=seed)
    needs_dataset = kind == "dataset" or output_length.needs_dataset
    answers = _read(dataset) if needs_dataset else None
    if kind == "dataset" and answers is not None:
        return WordGenerator(tokenizer, dataset_voice(tokenizer, answers), seed=seed)
    lengths = [] if answers is None else _lengths(answers, tokenizer)
    return WordGenerator(tokenizer, dummy_voice(output_length, lengths), seed=seed)


def _read(dataset: Path | None) -> AnswerDataset:
    if dataset is None:
        raise UsageError("answers or lengths of a dataset need a dataset file")
    return read_dataset(dataset)


def _lengths(answers: AnswerDataset, tokenizer: Tokenizer) -> list[int]:
    """Return the answers' lengths in tokens, each with its end of sequence."""
    return [len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in answers.answers]
