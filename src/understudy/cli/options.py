"""The flags that several commands share, as groups; vLLM's own engine flags are `EngineChoices` of the fleet."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from understudy.catalog import known_gpus, known_models
from understudy.errors import UsageError
from understudy.fleet import EngineChoices, LatencyChoices, MemoryChoices, NewsTiming
from understudy.routing import Knowledge
from understudy.workload import (
    Arrivals,
    ClosedLoop,
    OpenLoop,
    WorkloadRequest,
    bursty,
    constant,
    poisson,
    scaled,
)

_NS_PER_SECOND = 1_000_000_000
_MIN_INTERVAL_SECONDS = 0.001
_SYNCHRONISATION_HEARTBEATS = 5

ModelName = Annotated[
    str,
    Parameter(
        help="A model of the catalogue, or the path of a Hugging Face config.json. "
        f"The catalogue has {', '.join(known_models())}."
    ),
]
GpuName = Annotated[str, Parameter(help=f"A GPU of the catalogue: {', '.join(known_gpus())}.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """Which engines, how many, and what the router knows of them."""

    workers: int = 4
    """Number of engines."""
    model: ModelName = "llama-2-13b"
    gpu: GpuName = "a100-40gb"
    knowledge: Literal["exact", "events", "heartbeat", "own"] = "exact"
    """What the router knows: everything at once (exact), KV events that come late (events), the workers'
    heartbeats and full lists of their blocks (heartbeat), or only what it sent where (own)."""
    news_delay_seconds: float | None = None
    """How late events and heartbeats reach the router, with --knowledge events or heartbeat. [default: 0.05]"""
    heartbeat_seconds: float | None = None
    """Time between a worker's heartbeats, with --knowledge events or heartbeat. [default: 1]"""
    synchronisation_seconds: float | None = None
    """Time between full lists of a worker's blocks, with --knowledge heartbeat. [default: 5 heartbeats]"""
    seed: int = 0
    """Seeds whatever is left to chance."""

    def check(self) -> None:
        """Raise UsageError for flags that do not go together."""
        with_heartbeats = ("events", "heartbeat")
        for flag, value, kinds in (
            ("--news-delay-seconds", self.news_delay_seconds, with_heartbeats),
            ("--heartbeat-seconds", self.heartbeat_seconds, with_heartbeats),
            ("--synchronisation-seconds", self.synchronisation_seconds, ("heartbeat",)),
        ):
            _only_with(flag, value, "--knowledge", self.knowledge, kinds)

    def news_seconds(self) -> dict[str, float]:
        """Return how late and how often the router hears of its workers, as far as its knowledge depends on it."""
        delay = 0.05 if self.news_delay_seconds is None else self.news_delay_seconds
        heartbeat = 1.0 if self.heartbeat_seconds is None else self.heartbeat_seconds
        synchronisation = self.synchronisation_seconds
        if synchronisation is None:
            synchronisation = _SYNCHRONISATION_HEARTBEATS * heartbeat
        match self.knowledge:
            case "events":
                return {"news_delay_seconds": delay, "heartbeat_seconds": heartbeat}
            case "heartbeat":
                return {
                    "news_delay_seconds": delay,
                    "heartbeat_seconds": heartbeat,
                    "synchronisation_seconds": synchronisation,
                }
            case _:
                return {}

    def news_timing(self) -> NewsTiming:
        """Return the same for the simulation."""
        seconds = self.news_seconds()
        if not seconds:
            return NewsTiming()
        heartbeat_ns = _ns("--heartbeat-seconds", seconds["heartbeat_seconds"], _MIN_INTERVAL_SECONDS)
        synchronisation_ns = _SYNCHRONISATION_HEARTBEATS * heartbeat_ns
        if self.synchronisation_seconds is not None:
            synchronisation_ns = _ns(
                "--synchronisation-seconds", self.synchronisation_seconds, _MIN_INTERVAL_SECONDS
            )
        return NewsTiming(
            delay_ns=_ns("--news-delay-seconds", seconds["news_delay_seconds"]),
            heartbeat_ns=heartbeat_ns,
            synchronisation_ns=synchronisation_ns,
        )

    def router_knowledge(self) -> Knowledge:
        """Return what the router knows."""
        return Knowledge(self.knowledge)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalPattern:
    """When requests arrive, by the trace's clock."""

    arrivals: Literal["trace", "poisson", "bursty", "constant", "closed"] = "trace"
    """When requests arrive: as in the trace; at random, with or without bursts, or evenly, at --rate; or as
    --concurrency clients send them, each waiting for its answer (closed)."""
    rate: float | None = None
    """Requests per second, for poisson, bursty and constant arrivals."""
    burstiness: float | None = None
    """Shape of the gamma distribution of bursty arrivals: 1 is Poisson, lower comes in heavier bursts.
    [default: 0.25]"""
    concurrency: int | None = None
    """Number of clients, for closed arrivals."""
    think_seconds: float | None = None
    """How long a client waits between an answer and its next request, for closed arrivals. [default: 0]"""
    limit: int | None = None
    """Read only so many requests."""

    def check(self) -> None:
        """Raise UsageError for flags that do not go together."""
        kind = self.arrivals
        _only_with("--rate", self.rate, "--arrivals", kind, ("poisson", "bursty", "constant"), needed=True)
        _only_with("--burstiness", self.burstiness, "--arrivals", kind, ("bursty",))
        _only_with("--concurrency", self.concurrency, "--arrivals", kind, ("closed",), needed=True)
        _only_with("--think-seconds", self.think_seconds, "--arrivals", kind, ("closed",))
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, got {self.limit}")

    def arrange(self, requests: Iterable[WorkloadRequest], seed: int) -> Arrivals:
        """Return the requests as they arrive."""
        rate = self.rate or 0.0
        match self.arrivals:
            case "closed":
                think_ns = _ns("--think-seconds", self.think_seconds or 0.0)
                return ClosedLoop(requests, concurrency=self.concurrency or 0, think_ns=think_ns)
            case "poisson":
                return OpenLoop(poisson(requests, rate, seed))
            case "bursty":
                burstiness = 0.25 if self.burstiness is None else self.burstiness
                return OpenLoop(bursty(requests, rate, seed, burstiness))
            case "constant":
                return OpenLoop(constant(requests, rate))
            case _:
                return OpenLoop(requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalOptions(ArrivalPattern):
    """When requests arrive."""

    speed: float | None = None
    """How much faster than recorded the trace is played. [default: 1]"""

    def check(self) -> None:
        """Raise UsageError for flags that do not go together."""
        ArrivalPattern.check(self)
        _only_with("--speed", self.speed, "--arrivals", self.arrivals, ("trace",))

    def arrange(self, requests: Iterable[WorkloadRequest], seed: int) -> Arrivals:
        """Return the requests as they arrive."""
        return ArrivalPattern.arrange(
            self, requests if self.speed is None else scaled(requests, self.speed), seed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Where results go."""

    output: Path | None = None
    """Folder for the results, made anew. [default: the next free understudy-results-N; none with --json]"""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the summary as one JSON document on standard output."""


def _is_no_flag(_type: object, trace: str) -> None:
    if trace.startswith("-") and trace != "-":
        raise UsageError(f"unknown option {trace}; a file of that name is given as ./{trace}")


TraceName = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_is_no_flag)]
"""What `open_trace` opens; `-` is no flag here."""

Memory = Annotated[MemoryChoices, Parameter(name="*", group=Group("Engine: vLLM's flags", sort_key=4))]
Engine = Annotated[EngineChoices, Parameter(name="*", group=Group("Engine: vLLM's flags", sort_key=4))]
Latency = Annotated[LatencyChoices, Parameter(name="*", group=Group("Latency: linear model", sort_key=5))]
Fleet = Annotated[FleetOptions, Parameter(name="*", group=Group("Fleet", sort_key=2))]
When = Annotated[ArrivalOptions, Parameter(name="*", group=Group("Arrivals", sort_key=3))]
Pattern = Annotated[ArrivalPattern, Parameter(name="*", group=Group("Arrivals", sort_key=3))]
Output = Annotated[OutputOptions, Parameter(name="*", group=Group("Output", sort_key=6))]


def _only_with(
    flag: str, value: object, decider: str, kind: str, kinds: tuple[str, ...], *, needed: bool = False
) -> None:
    """Raise UsageError for a flag that does nothing under the kind that another flag decides, or is missing there."""
    if value is not None and kind not in kinds:
        raise UsageError(f"{flag} goes with {decider} {' or '.join(kinds)}, not with {kind}")
    if needed and value is None and kind in kinds:
        raise UsageError(f"{decider} {kind} needs {flag}")


def _ns(flag: str, seconds: float, least: float = 0.0) -> int:
    if not least <= seconds <= 1e9:
        raise UsageError(f"{flag} must be a number of seconds from {least:g} to 1e9, got {seconds}")
    return round(seconds * _NS_PER_SECOND)
