"""A fleet in virtual time: engines, a routing policy and a workload give results."""

from understudy.fleet.choices import EngineChoices, LatencyChoices, MemoryChoices
from understudy.fleet.compare import FinishedRun, FinishedRuns, ProgressCallback, run_policies
from understudy.fleet.news import NewsTiming
from understudy.fleet.output import ResultsFolder, to_json, write_results
from understudy.fleet.record import RequestRecord
from understudy.fleet.setup import EngineSetup, MemoryPlan, engine_setup, memory_of
from understudy.fleet.simulation import FleetConfig, Simulation
from understudy.fleet.summarise import summarise
from understudy.fleet.summary import Comparison, Refusals, RunSummary

__all__ = [
    "Comparison",
    "EngineChoices",
    "EngineSetup",
    "FinishedRun",
    "FinishedRuns",
    "FleetConfig",
    "LatencyChoices",
    "MemoryChoices",
    "MemoryPlan",
    "NewsTiming",
    "ProgressCallback",
    "Refusals",
    "RequestRecord",
    "ResultsFolder",
    "RunSummary",
    "Simulation",
    "engine_setup",
    "memory_of",
    "run_policies",
    "summarise",
    "to_json",
    "write_results",
]
