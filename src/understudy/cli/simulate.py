"""`understudy simulate` and `understudy compare`: a workload through a fleet, under one or more policies."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from understudy.cli.experiment import Experiment, run_experiment
from understudy.cli.options import (
    ArrivalOptions,
    Engine,
    Fleet,
    FleetOptions,
    Latency,
    Output,
    OutputOptions,
    TraceName,
    When,
)
from understudy.errors import UsageError
from understudy.fleet import EngineChoices, LatencyChoices
from understudy.routing import known_policies

_KNOWN = f"Known are {', '.join(known_policies())}."
OnePolicy = Annotated[
    str, Parameter(help=f"The routing policy, or one of your own: FILE.py:FUNCTION. {_KNOWN}")
]
SeveralPolicies = Annotated[
    str, Parameter(help=f"Routing policies, or your own (FILE.py:FUNCTION), separated by commas. {_KNOWN}")
]
OtherResults = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--with",
        help="A folder of results, such as a replay's, to be put beside those of the policies. May be given several times.",
    ),
]


def simulate(
    trace: TraceName,
    /,
    *,
    policy: OnePolicy = "prefix",
    fleet: Fleet = FleetOptions(),
    arrivals: When = ArrivalOptions(),
    engine: Engine = EngineChoices(),
    latency: Latency = LatencyChoices(),
    output: Output = OutputOptions(),
) -> int:
    """Replay a workload over a fleet of engines, in virtual time.

    Parameters
    ----------
    trace
        A workload file (Mooncake, Azure or our own JSONL; also .gz), - for standard input, a built-in sample
        (conversation, conversation-1k), or a generator (chat:requests=500,seed=7).
    """
    if "," in policy and not Path(policy.rpartition(":")[0]).is_file():
        raise UsageError(f"simulate takes one --policy, got {policy!r}: understudy compare takes several")
    return run_experiment(
        Experiment(
            ("simulate", trace, "--policy", policy),
            trace,
            (policy,),
            fleet,
            arrivals,
            engine,
            latency,
            output,
        )
    )


def compare(
    trace: TraceName,
    /,
    *,
    policy: SeveralPolicies = "prefix,round-robin,least-loaded",
    beside: OtherResults = (),
    fleet: Fleet = FleetOptions(),
    arrivals: When = ArrivalOptions(),
    engine: Engine = EngineChoices(),
    latency: Latency = LatencyChoices(),
    output: Output = OutputOptions(),
) -> int:
    """Replay the same workload under each of several routing policies, side by side.

    Parameters
    ----------
    trace
        As for simulate.
    """
    policies = tuple(name.strip() for name in policy.split(","))
    if len(set(policies)) < len(policies) or "" in policies:
        raise UsageError(f"--policy must name different policies, separated by single commas, got {policy!r}")
    others = [word for folder in beside for word in ("--with", str(folder))]
    return run_experiment(
        Experiment(
            ("compare", trace, "--policy", policy, *others),
            trace,
            policies,
            fleet,
            arrivals,
            engine,
            latency,
            output,
            beside,
        )
    )
