"""`understudy capacity`: its terms add up, and where they do not it does not say so."""

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.in_process import output_of
from tests.cli.processes import understudy

from understudy.catalog import known_gpus, known_models, load_gpu, load_model

TERMS = ("weights", "activation peak", "CUDA graphs", "CUDA context")


def rows_of(flags: str) -> dict[str, tuple[int, str]]:
    """Return the number and the words of each row of the table."""
    status, text = output_of("capacity", *shlex.split(flags))
    assert status == 0
    rows = (re.match(r"(\S.*?) {2,}([\d,]+)(?: +[\d,.]+ [GM]iB)? *(.*)", line) for line in text.splitlines())
    return {row[1]: (int(row[2].replace(",", "")), row[3].strip()) for row in rows if row}


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("gpu", known_gpus())
def test_the_terms_of_the_document_add_up(model: str, gpu: str) -> None:
    """For every model and GPU where anything is left: a sum, and a quotient rounded down."""
    status, text = output_of("capacity", model, gpu, "--tensor-parallel-size", "4", "--json")
    if status == 1:
        assert "does not fit" in text
        return
    memory = json.loads(text)
    spent = sum(
        memory[name] for name in ("weight_bytes", "activation_bytes", "cuda_graph_bytes", "context_bytes")
    )
    assert memory["available_bytes"] == memory["requested_bytes"] - spent
    assert memory["num_gpu_blocks"] == memory["available_bytes"] // memory["block_bytes"]
    assert memory["block_bytes"] == memory["num_layers"] * memory["page_bytes"]
    assert memory["kv_cache_tokens"] == (memory["num_gpu_blocks"] - 1) * memory["block_size"]


@given(
    utilization=st.floats(0.8, 1.0),
    block_size=st.sampled_from([8, 16, 32, 128]),
    blocks=st.none() | st.integers(2, 10**6),
    pipeline=st.sampled_from([1, 2, 3]),
)
def test_the_table_adds_up(utilization: float, block_size: int, blocks: int | None, pipeline: int) -> None:
    """What is printed with a minus, taken from what vLLM may use, leaves what is printed behind the equals sign."""
    flags = f"--gpu-memory-utilization {utilization} --block-size {block_size} --pipeline-parallel-size {pipeline}"
    if blocks is not None:
        flags += f" --num-gpu-blocks-override {blocks}"
    rows = rows_of(f"llama-2-13b a100-40gb {flags}")
    left = rows["for vLLM"][0] - sum(rows[f"- {term}"][0] for term in TERMS)
    assert rows["= KV cache"][0] == left
    layers, page = re.fullmatch(r"(\d+) layers x ([\d,]+) bytes", rows["one block"][1]).groups()  # type: ignore[union-attr]
    assert rows["one block"][0] == int(layers) * int(page.replace(",", ""))
    quotient = left // rows["one block"][0]
    claim = "KV cache / one block, rounded down"
    assert rows["blocks"] == ((quotient, claim) if blocks is None else (blocks, "as given"))
    assert rows["tokens"] == ((rows["blocks"][0] - 1) * block_size, f"(blocks - 1) x {block_size}")


def test_a_cache_of_a_given_size_is_no_remainder() -> None:
    """Where the size of the KV cache is asked for, no row claims to be part of a sum."""
    rows = rows_of("llama-2-13b a100-40gb --kv-cache-memory-bytes 3000000000")
    assert rows["KV cache"] == (3_000_000_000, "as given")
    assert rows["blocks"] == (3_000_000_000 // rows["one block"][0], "KV cache / one block, rounded down")
    assert set(TERMS) < set(rows)
    assert not [label for label in rows if label.startswith(("-", "=", "for vLLM"))]


def test_as_a_process(tmp_path: Path) -> None:
    """A table without colours, or one document, and nothing on disk."""
    table = understudy("capacity", "llama-2-13b", "a100-40gb", cwd=tmp_path)
    assert (table.status, table.stderr) == (0, "")
    assert "\x1b" not in table.stdout
    document = understudy("capacity", "llama-2-13b", "a100-40gb", "--json", cwd=tmp_path)
    assert (document.status, document.stderr) == (0, "")
    assert f"{json.loads(document.stdout)['available_bytes']:,}" in table.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("starts", [True, False])
def test_an_engine_that_would_not_start_is_told(starts: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The sum is printed all the same; a note names the longest context that fits. `auto` always starts."""
    longest = rows_of("llama-2-13b a100-40gb")["tokens"][0]
    length = longest if starts else longest + 1
    status, text = output_of("capacity", "llama-2-13b", "a100-40gb", "--max-model-len", str(length), "--json")
    assert status == 0, text
    notes = [note for note in json.loads(text)["notes"] if "would not start" in note]
    assert bool(notes) is not starts
    assert all(f"--max-model-len to at most {longest}," in note for note in notes)
    automatic = output_of("capacity", "llama-3.1-8b", "rtx-4090", "--max-model-len", "auto")[1]
    assert "would not start" not in automatic


def test_the_table_says_whose_figures_it_adds_up() -> None:
    """The sources of model and GPU, and, of several GPUs, how they share the model."""
    model, gpu = load_model("llama-2-13b"), load_gpu("a100-40gb")
    _, one = output_of("capacity", model.name, gpu.name)
    assert one.splitlines()[0] == "llama-2-13b on a100-40gb"
    assert f"Model: {model.source}\nGPU: {gpu.source}\n" in one
    _, text = output_of("capacity", model.name, gpu.name, "--json")
    document = json.loads(text)
    assert (document["model_source"], document["gpu_source"]) == (model.source, gpu.source)
    _, four = output_of("capacity", model.name, gpu.name, "-tp", "2", "-pp", "2")
    assert four.startswith("llama-2-13b on 4 x a100-40gb (tensor parallel 2, pipeline parallel 2)")
