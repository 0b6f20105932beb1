"""What a simulation or a replay found, as plain data: the shape of `summary.json` and the whole input of a report.

Times are seconds: of virtual time, or of the trace's clock as a replay's clients saw it. Nothing here knows an engine.
None stands for what clients of a replay cannot see or were not told.
"""

from dataclasses import dataclass, field

CURVE_POINTS = 101
"""A curve holds the quantiles at 0 %, 1 %, ... 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Of `count` values in seconds: the mean, some quantiles, and the curve of all of them.

    Quantile q is the smallest value such that at least q of all values are no greater (nearest rank).
    Everything is None, and the curve empty, where there was no value.
    """

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    curve: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Averages over time, one value for each `interval_seconds` from the first arrival on."""

    interval_seconds: float
    kv_usage: list[float]
    running: list[float]
    waiting: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSummary:
    """One worker's share of the run. KV usage is vLLM's: referenced blocks over all but the null block, 0 to 1."""

    worker: int
    requests: int
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    busy_fraction: float | None
    kv_usage_mean: float | None
    kv_usage_peak: float | None
    preemptions: int | None
    evicted_blocks: int | None
    series: Series | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Requests that vLLM would answer with an error, by reason; a request's tokens are its prompt and what it asked."""

    prompt_longer_than_context: int
    longest_prompt_tokens: int
    longest_request_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """`count` values from `low` (inclusive) to `high` (exclusive)."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One workload under one policy, or sent to real servers.

    `hit_rate_tokens` is cached over all prompt tokens of the requests that were scheduled; `hit_rate_requests`
    the share of requests with any cached token. `matched_blocks` counts requests by how many blocks of their
    prompt were cached at their first admission. `believed_cached_tokens` is what the router expected, `cached_tokens`
    what was true. `duration_seconds` is from the first arrival to the end of the last request; rates are over it. `ttft`, `e2e`
    and `queue` are measured from arrival, of finished requests, `tpot` is of those with more than one output token;
    `itl` is over all output tokens but each request's first, unfinished requests included.

    Of a replay, requests with a first token are those that were scheduled, and hit rates are of the finished ones.
    `failed` counts requests that got no whole answer, by what their clients saw; in a simulation there are none.
    `kind` is `simulation` or `replay`; of a replay `policy` is the name that it was given.
    """

    policy: str
    requests: int
    finished: int
    refused: Refusals
    unfinished: int
    duration_seconds: float
    prompt_tokens: int
    cached_tokens: int | None
    believed_cached_tokens: int | None
    output_tokens: int
    hit_rate_tokens: float | None
    hit_rate_requests: float | None
    ttft: Distribution
    ttft_hits: Distribution
    ttft_misses: Distribution
    tpot: Distribution
    itl: Distribution
    e2e: Distribution
    queue: Distribution
    requests_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    preemptions: int | None
    evicted_blocks: int | None
    kv_usage_mean: float | None
    kv_usage_peak: float | None
    matched_blocks: list[Bin]
    workers: list[WorkerSummary]
    failed: dict[str, int] = field(default_factory=dict)
    kind: str = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One or more runs of the same workload, and everything needed to repeat them.

    `vllm_version` is whose decisions were made; None where a server did not tell.

    `settings` maps what was chosen (model, GPU, engine flags, latency, knowledge, seed, ...) to text, number or
    boolean; `notes` are sentences that a reader must not miss. `interrupted` says that the run was stopped early.
    """

    understudy_version: str
    vllm_version: str | None
    command: str
    trace: str
    trace_sha256: str | None
    settings: dict[str, str | int | float | bool | None]
    notes: list[str]
    interrupted: bool
    runs: list[RunSummary]
