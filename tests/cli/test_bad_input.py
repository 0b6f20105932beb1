"""Bad input: an exit status, one line that says what to mend, no traceback, and nothing written."""

import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.cli.processes import TRACE, everything_in, understudy

WRONG_USAGE = 2
FAILED = 1
FILES = {
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "text.jsonl": "no trace at all\n",
    "cut.jsonl": f"{TRACE}{TRACE[:40]}",
    "word.jsonl": TRACE.replace('"input_length": 900', '"input_length": "long"'),
    "zero.jsonl": TRACE.replace('"input_length": 900', '"input_length": 0'),
    "negative.jsonl": TRACE.replace('"output_length": 9', '"output_length": -9'),
    "huge.jsonl": TRACE.replace('"input_length": 900', '"input_length": 9' + 40 * "0"),
    "late.jsonl": TRACE.replace('"timestamp": 40', '"timestamp": 1e400'),
    "nan.jsonl": TRACE.replace('"timestamp": 40', '"timestamp": NaN'),
    "backwards.jsonl": TRACE.replace('"timestamp": 40', '"timestamp": 95'),
    "missing.jsonl": TRACE.replace('"output_length": 9, ', ""),
    "azure.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,100,x\n",
    "model.json": '{"architectures": ["LlamaForCausalLM"]}',
}


class Case(NamedTuple):
    """A command line behind `understudy`, and what must come of it."""

    line: str
    status: int
    told: tuple[str, ...]


TRACES = [
    Case("simulate none.jsonl", FAILED, ("none.jsonl", "no such file")),
    Case("simulate conversatoin", FAILED, ("no such file", "did you mean conversation")),
    Case("simulate .", FAILED, ("directory",)),
    Case("simulate empty.jsonl", FAILED, ("empty.jsonl", "no requests")),
    Case("simulate blank.jsonl", FAILED, ("blank.jsonl", "no requests")),
    Case("simulate -", FAILED, ("standard input", "no requests")),
    Case("simulate text.jsonl", FAILED, ("text.jsonl: line 1", "mooncake", "azure", "native")),
    Case("simulate cut.jsonl", FAILED, ("cut.jsonl: line 5", "JSON")),
    Case("simulate word.jsonl", FAILED, ("word.jsonl: line 2", "input_length", '"long"')),
    Case("simulate zero.jsonl", FAILED, ("zero.jsonl: line 2", "input_length", "positive", "0")),
    Case("simulate negative.jsonl", FAILED, ("negative.jsonl: line 2", "output_length", "-9")),
    Case("simulate huge.jsonl", FAILED, ("huge.jsonl: line 2", "input_length", "16,777,216")),
    Case("simulate late.jsonl", FAILED, ("late.jsonl: line 2", "timestamp", "1e400")),
    Case("simulate nan.jsonl", FAILED, ("nan.jsonl: line 2", "JSON")),
    Case("simulate backwards.jsonl", FAILED, ("backwards.jsonl: line 3", "timestamp", "90 after 95")),
    Case("simulate missing.jsonl", FAILED, ("missing.jsonl: line 2", "missing field output_length")),
    Case("simulate azure.csv", FAILED, ("azure.csv: line 2", "GeneratedTokens", "'x'")),
    Case("compare backwards.jsonl", FAILED, ("backwards.jsonl: line 3", "timestamp")),
    Case("simulate chat:request=5", WRONG_USAGE, ("parameter of chat", "did you mean requests")),
    Case("simulate chat:requests=-5", WRONG_USAGE, ("requests", "an integer from 1")),
    Case("simulate conversation-1k:requests=5", WRONG_USAGE, ("takes no parameters", "--limit")),
    Case("generate caht", FAILED, ("did you mean chat",)),
    Case("generate chat:rate=nan", WRONG_USAGE, ("rate", "'nan'")),
]
NAMES = [
    Case("simulate trace.jsonl --model lama-3.1-8b", WRONG_USAGE, ("unknown model", "llama-3.1-8b")),
    Case("simulate trace.jsonl --model model.json", FAILED, ("model.json",)),
    Case("simulate trace.jsonl --gpu h10", WRONG_USAGE, ("unknown gpu", "h100")),
    Case("simulate trace.jsonl --policy prefx", WRONG_USAGE, ("unknown policy", "prefix")),
    Case("simulate trace.jsonl --policy ''", WRONG_USAGE, ("unknown policy", "round-robin")),
    Case("simulate trace.jsonl --policy prefix,random", WRONG_USAGE, ("one --policy", "understudy compare")),
    Case("simulate trace.jsonl --gpu a100", WRONG_USAGE, ("did you mean a100-40gb, a100-80gb",)),
    Case("compare trace.jsonl --policy prefix,", WRONG_USAGE, ("--policy", "'prefix,'")),
    Case("compare trace.jsonl --policy prefix,prefix", WRONG_USAGE, ("--policy", "different")),
    Case("simulate trace.jsonl --knowledge much", WRONG_USAGE, ("--knowledge", "heartbeat")),
    Case("simulate trace.jsonl --kv-cache-dtype fp7", WRONG_USAGE, ("kv_cache_dtype", "fp8")),
    Case("capacity lama-2-13b h100", WRONG_USAGE, ("unknown model", "llama-2-13b")),
    Case("capacity llama-2-13b h101", WRONG_USAGE, ("unknown gpu", "h100")),
    Case("simulate trace.jsonl --modle x", WRONG_USAGE, ("--modle", "--model", "understudy simulate --help")),
    Case("simulate --modle x trace.jsonl", WRONG_USAGE, ("unknown option --modle",)),
    Case("simulate trace.jsonl --no-json", WRONG_USAGE, ("--no-json",)),
    Case("simulate trace.jsonl another.jsonl", WRONG_USAGE, ("another.jsonl",)),
    Case("simulate", WRONG_USAGE, ("TRACE",)),
    Case("simul", WRONG_USAGE, ('"simul"', "simulate", "understudy --help")),
]
ARRIVALS = [
    Case("--rate 3", WRONG_USAGE, ("--rate", "--arrivals poisson or bursty or constant")),
    Case("--arrivals poisson", WRONG_USAGE, ("--arrivals poisson needs --rate",)),
    Case("--arrivals closed", WRONG_USAGE, ("--arrivals closed needs --concurrency",)),
    Case("--arrivals closed --concurrency 2 --rate 3", WRONG_USAGE, ("--rate", "not with closed")),
    Case("--arrivals poisson --rate 3 --burstiness 1", WRONG_USAGE, ("--burstiness", "--arrivals bursty")),
    Case("--arrivals poisson --rate 3 --speed 2", WRONG_USAGE, ("--speed", "--arrivals trace")),
    Case("--think-seconds 1", WRONG_USAGE, ("--think-seconds", "--arrivals closed")),
    Case("--arrivals poisson --rate nan", WRONG_USAGE, ("rate", "nan")),
    Case("--arrivals constant --rate 0", WRONG_USAGE, ("rate", "0.0")),
    Case("--arrivals bursty --rate 1 --burstiness inf", WRONG_USAGE, ("burstiness", "inf")),
    Case("--arrivals closed --concurrency 0", WRONG_USAGE, ("concurrency", "at least 1")),
    Case("--speed -1", WRONG_USAGE, ("speed", "-1")),
    Case("--speed 1e400", WRONG_USAGE, ("speed", "inf")),
    Case("--limit 0", WRONG_USAGE, ("--limit", "at least 1")),
]
NUMBERS = [
    Case("--workers 0", WRONG_USAGE, ("workers", "1 to 4096", "0")),
    Case("--workers 100000000000000000000", WRONG_USAGE, ("workers", "1 to 4096")),
    Case("--workers two", WRONG_USAGE, ("--workers", '"two"')),
    Case("--max-model-len 8.5K", WRONG_USAGE, ("--max-model-len", "no fractions of K", "8.5k")),
    Case("--max-num-batched-tokens much", WRONG_USAGE, ("--max-num-batched-tokens", "much", "8K (8,192)")),
    Case("--max-model-len -2", WRONG_USAGE, ("max_model_len", "at least 1", "-2")),
    Case("--max-model-len auto --num-gpu-blocks-override 1", WRONG_USAGE, ("none is usable",)),
    Case(
        "--max-model-len 16384", WRONG_USAGE, ("16384", "KV-cache blocks", "--max-model-len to at most 14768")
    ),
    Case("--max-model-len 1" + 30 * "0", WRONG_USAGE, ("--max-model-len to at most 14768",)),
    Case("--block-size 0", WRONG_USAGE, ("block_size", "at least 1")),
    Case("--num-gpu-blocks-override -1", WRONG_USAGE, ("num_gpu_blocks_override", "at least 1")),
    Case("--gpu-memory-utilization nan", WRONG_USAGE, ("gpu_memory_utilization", "nan")),
    Case("--gpu-memory-utilization 0.3", FAILED, ("does not fit", "--gpu-memory-utilization")),
    Case("--kv-cache-memory-bytes 1", FAILED, ("does not fit", "less than one block")),
    Case("--tensor-parallel-size 3", WRONG_USAGE, ("tensor_parallel_size (3)", "40 attention heads")),
    Case("--max-num-active-seqs 9999", WRONG_USAGE, ("max_num_active_seqs (9999)", "max_num_seqs (256)")),
    Case("--watermark nan", WRONG_USAGE, ("watermark", "nan")),
    Case("--prefill-base-seconds nan", WRONG_USAGE, ("prefill_base_seconds", "nan")),
    Case("--decode-seconds-per-step -1", WRONG_USAGE, ("decode_seconds_per_step", "-1")),
]
KNOWLEDGE = [
    Case("--news-delay-seconds 1", WRONG_USAGE, ("--knowledge events or heartbeat", "not with exact")),
    Case("--heartbeat-seconds 3", WRONG_USAGE, ("--heartbeat-seconds", "not with exact")),
    Case("--knowledge own --heartbeat-seconds 3", WRONG_USAGE, ("--heartbeat-seconds", "not with own")),
    Case(
        "--knowledge events --synchronisation-seconds 3",
        WRONG_USAGE,
        ("--synchronisation-seconds", "--knowledge heartbeat", "not with events"),
    ),
    Case("--knowledge events --news-delay-seconds nan", WRONG_USAGE, ("--news-delay-seconds", "nan")),
    Case("--knowledge events --heartbeat-seconds 1e-9", WRONG_USAGE, ("--heartbeat-seconds", "0.001")),
    Case(
        "--knowledge heartbeat --heartbeat-seconds 3 --synchronisation-seconds 5",
        WRONG_USAGE,
        ("synchronisation_seconds (5)", "multiple of heartbeat_seconds (3)"),
    ),
    Case(
        "--knowledge heartbeat --synchronisation-seconds 0",
        WRONG_USAGE,
        ("--synchronisation-seconds", "0.001"),
    ),
]
OUTPUT = [
    Case("--output trace.jsonl", WRONG_USAGE, ("trace.jsonl exists already",)),
    Case("--output taken", WRONG_USAGE, ("taken exists already", "--output")),
    Case("--output trace.jsonl/below", FAILED, ("cannot write to trace.jsonl/below",)),
    Case("--output trace.jsonl/far/below", FAILED, ("cannot write to trace.jsonl/far/below",)),
]
CASES = [
    *TRACES,
    *NAMES,
    *(
        case._replace(line=f"simulate trace.jsonl {case.line}")
        for case in (*ARRIVALS, *NUMBERS, *KNOWLEDGE, *OUTPUT)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_bad_input_ends_with_one_line(folder: Path, case: Case) -> None:
    """Exit status, one line that names the culprit and what would do, and a folder as it was before."""
    (folder / "taken").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = everything_in(folder)
    result = understudy(*shlex.split(case.line), cwd=folder)
    assert result.status == case.status
    assert all(part in result.error for part in case.told), result.error
    assert everything_in(folder) == before
