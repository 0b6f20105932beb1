"""Record the trials that are shipped with the package: `make record-trials`.

It needs vLLM's environment. The seeds are fixed, so another version of vLLM is asked the same.
"""

import argparse
from pathlib import Path

from understudy.verify.cases import Case, random_case
from understudy.verify.judge_process import DEFAULT_VLLM_PYTHON
from understudy.verify.recorded import record

FOLDER = Path("src/understudy/verify/evidence/trials")
SEEDS = (*range(45), 53, 69, 73, 89, 212, 222, 227, 245, 277)
"""The last ones stand here because they show what is rare: `mutations.py` has faults that only they catch."""
NUM_REQUESTS = 12


def main() -> None:
    """Replace the recordings by those of a synchronous and an asynchronous case for each seed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--vllm-python", type=Path, default=DEFAULT_VLLM_PYTHON)
    arguments = parser.parse_args()
    cases: dict[str, Case] = {}
    for seed in SEEDS:
        for mode in ("sync", "async"):
            is_async = mode == "async"
            name = f"{mode}_{seed:03}"
            cases[name] = random_case(seed, async_scheduling=is_async, num_requests=NUM_REQUESTS)
    for stale in FOLDER.glob("*.json.gz"):
        stale.unlink()
    record(cases, arguments.vllm_python, FOLDER)


if __name__ == "__main__":
    main()
