"""Prompts that are too long are counted, and the advice takes them all."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import TRACE, understudy

LONG = json.dumps(
    {"timestamp": 99, "input_length": 9000, "output_length": 4, "hash_ids": list(range(50, 50 + 18))}
)


def summary_of(folder: Path, flags: str) -> Any:
    """Return the summary of a simulation of the small trace and one long prompt."""
    (folder / "long.jsonl").write_text(f"{TRACE}{LONG}\n", encoding="utf-8")
    result = understudy("simulate", "long.jsonl", "--json", *shlex.split(flags), cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ("", "--model"),
        ("--gpu a10g --model llama-2-7b --max-model-len 1024", "--model"),
        ("--gpu h100 --model llama-3.1-8b --max-model-len 8192", "--max-model-len"),
        ("--gpu h100 --model llama-3.1-8b --max-model-len 1024 --block-size 32", "--max-model-len"),
    ],
)
def test_who_takes_the_advice_has_no_refusals(folder: Path, flags: str, flag: str) -> None:
    """One prompt is refused, not an error; each alternative of the advice, put behind the same flags, takes it."""
    summary = summary_of(folder, flags)
    refused = summary["runs"][0]["refused"]
    assert refused == {"prompt_longer_than_context": 1, "longest_prompt_tokens": 9000}
    (note,) = (note for note in summary["notes"] if "refused" in note)
    assert flag in note
    context = re.search(r"--max-model-len \d+", note)
    assert context is not None
    models = re.search(r"--model (\S+(?: or \S+)*)\.", note)
    kept = re.sub(r"--max-model-len \d+", "", flags)
    if models is not None:
        kept = re.sub(r"--model \S+", "", kept)
    for model in models[1].split(" or ") if models else [None]:
        advised = f"{kept} {context[0]}" + (f" --model {model}" if model else "")
        assert summary_of(folder, advised)["runs"][0]["refused"]["prompt_longer_than_context"] == 0


def test_no_model_is_advised_that_has_no_room(folder: Path) -> None:
    """With a cache of a few hundred blocks nobody takes 9,000 tokens, and the note says so."""
    summary = summary_of(folder, "--num-gpu-blocks-override 300")
    (note,) = (note for note in summary["notes"] if "refused" in note)
    assert "--model" not in note
    assert "No model of the catalogue has room" in note
