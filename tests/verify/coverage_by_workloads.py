"""Branch coverage of the scheduler and the KV cache by the random workloads alone: `make coverage-verify`.

Prints the report and fails below 100 %. It needs no vLLM: what is measured is where the cases lead our side.
"""

import argparse
import sys
from pathlib import Path

import coverage

ENGINE = Path("src/understudy/engine")
MEASURED = ("scheduler", "block_pool", "eviction_queue", "kv_cache", "request_queue")


def main() -> None:
    """Run cases under measurement; the modules are imported only then, so that their definitions count."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    arguments = parser.parse_args()
    measurement = coverage.Coverage(
        branch=True, data_file=None, include=[str(ENGINE / f"{name}.py") for name in MEASURED]
    )
    measurement.start()
    _run_cases(arguments.seed, arguments.count)
    measurement.stop()
    percent = measurement.report(show_missing=True)
    sys.exit(percent < 100)


def _run_cases(seed: int, count: int) -> None:
    from understudy.verify.cases import random_case  # noqa: PLC0415 - only now, see main
    from understudy.verify.check import check_case  # noqa: PLC0415
    from understudy.verify.tally import Tallies  # noqa: PLC0415
    from understudy.verify.trial import run_case  # noqa: PLC0415

    for number in range(count):
        case = random_case(f"{seed}-{number}")
        # Our own scheduler's log tells the engine when to read what.
        assert check_case(case, run_case(case), Tallies(), f"case {number}") is None


if __name__ == "__main__":
    main()
