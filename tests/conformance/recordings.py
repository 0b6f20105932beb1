"""Cases and recordings in our engine's terms."""

import gzip
import json
from pathlib import Path

import msgspec
from tests.conformance.random_cases import Case, Json

from understudy.engine import EngineConfig
from understudy.engine.step_log import StepRequest


def engine_config(case: Case) -> EngineConfig:
    """Return the configuration; a case writes out every option."""
    return EngineConfig(**case.config)


def step_requests(case: Case) -> list[StepRequest]:
    """Return the workload."""
    return [msgspec.convert(request, StepRequest) for request in case.workload]


def read_recording(path: Path) -> tuple[Case, str, list[Json]]:
    """Return the case, the hash seed and vLLM's step log."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        recording = json.load(file)
    return Case(recording["config"], recording["workload"]), recording["hash_seed"], recording["log"]
