"""`understudy demo`: a comparison that shows what the tool is for, on a built-in piece of a real trace."""

from understudy.cli.experiment import Experiment, run_experiment
from understudy.cli.options import ArrivalOptions, FleetOptions, Output, OutputOptions
from understudy.fleet import EngineChoices, LatencyChoices

TRACE = "conversation-1k"
POLICIES = ("prefix", "round-robin", "least-loaded")


def demo(*, output: Output = OutputOptions()) -> int:
    """Compare three routing policies on 1,000 real requests.

    The requests are the first of Mooncake's conversation trace, sent to four Llama-3.1-8B engines on B200 GPUs.
    """
    return run_experiment(
        Experiment(
            ("compare", TRACE, "--policy", ",".join(POLICIES)),
            TRACE,
            POLICIES,
            FleetOptions(model="llama-3.1-8b", gpu="b200"),
            ArrivalOptions(),
            EngineChoices(),
            LatencyChoices(),
            output,
        )
    )
