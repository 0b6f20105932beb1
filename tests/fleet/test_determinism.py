"""The same seed gives the same bytes in whatever process; another seed gives another chance."""

import os
import subprocess
import sys
from pathlib import Path

from tests.fleet.scenes import fleet, simulate, turn

from understudy.fleet import Comparison, FleetConfig, ResultsFolder, run_policies, write_results
from understudy.routing import Knowledge, known_policies
from understudy.workload import OpenLoop, WorkloadRequest

PROGRAM = """
import sys
from pathlib import Path
from tests.fleet.test_determinism import write_everything
write_everything(Path(sys.argv[1]))
"""
ROOT = Path(__file__).parents[2]


def _workload() -> list[WorkloadRequest]:
    return [turn(i, 4_000 * i, i % 5, 5 + 7 * i % 50, 12) for i in range(60)]


def _config(policy: str, knowledge: Knowledge = Knowledge.EXACT, seed: int = 0) -> FleetConfig:
    return fleet(policy=policy, knowledge=knowledge, seed=seed, workers=4)


def write_everything(path: Path) -> None:
    """Write the results of all policies under all kinds of knowledge."""
    for knowledge in Knowledge:
        configs = [_config(policy, knowledge) for policy in known_policies()]
        runs = run_policies(configs, lambda: OpenLoop(_workload())).runs
        comparison = Comparison(
            understudy_version="",
            vllm_version="",
            command="",
            trace="",
            trace_sha256=None,
            settings={},
            notes=[],
            interrupted=False,
            runs=[run.summary for run in runs],
        )
        with ResultsFolder(path / knowledge) as folder:
            write_results(folder, comparison, {run.summary.policy: run.records for run in runs}, "")


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Whatever seed Python hashes its strings with."""
    written: list[dict[str, bytes]] = []
    for hash_seed in ("1", "2"):
        path = tmp_path / hash_seed
        subprocess.run(
            [sys.executable, "-c", PROGRAM, path],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        files = (file for file in path.rglob("*") if file.is_file())
        written.append({str(file.relative_to(path)): file.read_bytes() for file in files})
    assert len(written[0]) == len(Knowledge) * (2 + len(known_policies()))
    assert written[0] == written[1]


def test_the_seed_moves_what_is_left_to_chance_and_nothing_else() -> None:
    """`random` and `power-of-two` draw other workers; a policy that draws nothing does the same."""
    for policy in known_policies():
        first, again, other = (
            [record.worker for record in simulate(_config(policy, seed=seed), _workload()).records]
            for seed in (0, 0, 1)
        )
        assert first == again
        if policy in {"random", "power-of-two"}:
            assert first != other
        elif policy in {"prefix", "round-robin", "least-loaded", "session"}:
            assert first == other
