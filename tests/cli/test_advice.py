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
        (
            "--gpu h100 --model llama-3.1-8b --max-model-len 1024 --num-gpu-blocks-override 300",
            "--max-model-len",
        ),
        (
            "--gpu h100 --model llama-3.1-8b --max-model-len 1024 --kv-cache-memory-bytes 1G",
            "--max-model-len",
        ),
        ("--num-gpu-blocks-override 300", "--model"),
        ("--gpu a10g --max-model-len 1024 --num-gpu-blocks-override 300", "--model"),
    ],
)
def test_who_takes_the_advice_has_no_refusals(folder: Path, flags: str, flag: str) -> None:
    """One prompt is refused, not an error; each alternative of the advice, put behind the same flags, takes it."""
    summary = summary_of(folder, flags)
    refused = summary["runs"][0]["refused"]
    assert refused == {
        "prompt_longer_than_context": 1,
        "longest_prompt_tokens": 9000,
        "longest_request_tokens": 9004,
    }
    (note,) = (note for note in summary["notes"] if "refused" in note)
    assert flag in note
    context = re.search(r"--max-model-len \d+", note)
    assert context is not None
    assert "1 of 5 requests was refused, as vLLM does: its prompt leaves" in note
    models = re.search(r"--model (\S+(?: or \S+)*?)(?:\.| without)", note)
    kept = re.sub(r"--max-model-len \d+", "", flags)
    if "without" in note:
        kept = re.sub(r"(--num-gpu-blocks-override|--kv-cache-memory-bytes) \S+", "", kept)
    if models is not None:
        kept = re.sub(r"--model \S+", "", kept)
    for model in models[1].split(" or ") if models else [None]:
        advised = f"{kept} {context[0]}" + (f" --model {model}" if model else "")
        summary = summary_of(folder, advised)
        assert summary["runs"][0]["refused"]["prompt_longer_than_context"] == 0
        assert not [note for note in summary["notes"] if "ended early" in note]


def test_no_model_is_advised_that_has_no_room(folder: Path) -> None:
    """With a share of the memory that only the smallest model fits into nobody takes 9,000 tokens, and the note says so."""
    summary = summary_of(
        folder, "--gpu l4 --model llama-2-7b --gpu-memory-utilization 0.63 --max-model-len 1k"
    )
    (note,) = (note for note in summary["notes"] if "refused" in note)
    assert "--model" not in note
    assert "No model of the catalogue has room" in note


def test_one_answer_cut_short_is_one(folder: Path) -> None:
    """A thing that happened once is told in the singular."""
    notes = summary_of(folder, "--max-model-len 920 --limit 2")["notes"]
    assert not [note for note in notes if "ended early" in note]
    (note,) = summary_of(folder, "--max-model-len 904 --limit 2")["notes"]
    assert note.startswith("1 answer ended early, as in vLLM, where it reached the context of 904 tokens")
