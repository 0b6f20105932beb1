"""Print our step log of a random case, one record a line: `python -m tests.conformance.print_step_log SEED`."""

import json
import sys

from tests.conformance.random_cases import random_case
from tests.conformance.recordings import engine_config, step_requests

from understudy.engine.step_log import step_log


def main(seed: int) -> None:
    """Print an asynchronous case."""
    case = random_case(seed, async_scheduling=True)
    for record in step_log(engine_config(case), step_requests(case)):
        print(json.dumps(record))


if __name__ == "__main__":
    main(int(sys.argv[1]))
