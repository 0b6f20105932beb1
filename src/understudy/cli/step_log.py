"""`understudy step-log`: a workload whose time is steps, to be compared line by line with vLLM's own scheduler."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec

from understudy.engine.config import EngineConfig
from understudy.engine.hashing import DEFAULT_HASH_SEED
from understudy.engine.step_log import StepRequest
from understudy.engine.step_log import step_log as run_step_log
from understudy.errors import InputError, TraceError, UsageError, unknown_name

# What the recorder of vLLM's step logs takes where a configuration does not say.
_DEFAULTS = {"prefix_caching_hash_algo": "sha256_cbor", "async_scheduling": False}


def step_log(config: Path, workload: Path, /) -> None:
    """Print what the scheduler decides in each step, as JSON lines.

    The chain of block hashes starts from PYTHONHASHSEED where it is set, as vLLM's does.

    Parameters
    ----------
    config
        A JSON object with vLLM's names: block_size, num_gpu_blocks, max_num_seqs, max_model_len, ...
    workload
        JSON lines: id, arrive_step, prompt (token ids), max_tokens, outputs, and optionally priority,
        cache_salt, abort_step, stop_token_ids.
    """
    encoder = msgspec.json.Encoder()
    seed = os.environ.get("PYTHONHASHSEED", DEFAULT_HASH_SEED)
    records = run_step_log(_config(config), _workload(workload), hash_seed=seed)
    try:
        for record in records:
            sys.stdout.buffer.write(encoder.encode(record) + b"\n")
    except InputError as error:
        raise InputError(f"{workload}: {error}") from None


def _config(path: Path) -> EngineConfig:
    try:
        given = _named_values("setting", _read(path), EngineConfig.__dataclass_fields__)
        return msgspec.convert({**_DEFAULTS, **given}, EngineConfig)
    except (msgspec.MsgspecError, UsageError) as error:
        raise InputError(f"{path}: {error}") from None


def _workload(path: Path) -> list[StepRequest]:
    requests: list[StepRequest] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            given = _named_values("field", line, StepRequest.__dataclass_fields__)
            requests.append(msgspec.convert(given, StepRequest))
        except (msgspec.MsgspecError, UsageError, InputError) as error:
            raise TraceError(f"{path}: line {number}: {error}") from None
    if not requests:
        raise TraceError(f"{path}: holds no requests")
    return requests


def _named_values(kind: str, text: bytes, known: Collection[str]) -> dict[str, object]:
    """Return the members of a JSON object, all of which must be known."""
    given = msgspec.json.decode(text, type=dict[str, object])
    for name in given:
        if name not in known:
            raise unknown_name(kind, name, known)
    return given


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
