"""Drives one engine through a list of arrivals, as the fleet does; shared by the engine's tests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from understudy.engine import Engine, EngineConfig, KVCacheEvent, Prompt, Request, Sampler, unknown_tokens
from understudy.latency import LatencyModel, StepShape

NEVER_NS = 1 << 62


@dataclass(frozen=True)
class Arrival:
    """A request to send at a time; the rest as for `Request`."""

    at_ns: int
    prompt: Prompt
    max_tokens: int
    priority: int = 0
    stop_token_ids: tuple[int, ...] = ()


class ContextLatency:
    """A model whose decode steps differ from each other: 1,000 ns a step, 10 a sequence, 1 a token of context."""

    def step_ns(self, shape: StepShape) -> int:
        """Price every part of the shape."""
        prefill = sum(chunk.new_tokens * 7 + chunk.context_tokens for chunk in shape.prefills)
        return 1_000 + prefill + 10 * shape.num_decodes + shape.decode_context_tokens

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> list[int]:
        """Price each step by itself."""
        return [
            self.step_ns(StepShape((), num_decodes, context_tokens + i * num_decodes)) for i in range(count)
        ]


@dataclass
class Gauges:
    """Integrates what the engine reports over time."""

    last: tuple[int, int, int, int] = (0, 0, 0, 0)
    block_ns: int = 0
    running_ns: int = 0
    waiting_ns: int = 0
    peak_blocks: int = 0
    gaps: Counter[int] = field(default_factory=Counter)

    def gauges(self, at_ns: int, used_blocks: int, running: int, waiting: int) -> None:
        """Add the area since the last report."""
        then, blocks, was_running, was_waiting = self.last
        assert at_ns >= then, "the clock never runs back"
        self.block_ns += blocks * (at_ns - then)
        self.running_ns += was_running * (at_ns - then)
        self.waiting_ns += was_waiting * (at_ns - then)
        self.peak_blocks = max(self.peak_blocks, used_blocks)
        self.last = (at_ns, used_blocks, running, waiting)

    def inter_token(self, gap_ns: int, count: int) -> None:
        """Count gaps."""
        self.gaps[gap_ns] += count


@dataclass
class Run:
    """What a drive ended with."""

    engine: Engine
    requests: list[Request]
    finished_ns: dict[str, int]
    events: list[tuple[int, KVCacheEvent]]
    gauges: Gauges
    calls: int


def drive(
    config: EngineConfig,
    latency: LatencyModel,
    arrivals: Sequence[Arrival],
    *,
    many_at_once: bool,
    sample: Sampler = unknown_tokens,
    record_events: bool = True,
    check: bool = False,
) -> Run:
    """Run all arrivals to their end, in single steps or with decode steps taken many at once."""
    gauges = Gauges()
    engine = Engine(config, latency, sample=sample, observer=gauges, record_events=record_events)
    run = Run(engine, [], {}, [], gauges, 0)

    def step(now_ns: int, until_ns: int) -> None:
        result = engine.step(now_ns, until_ns=until_ns if many_at_once else None)
        run.calls += 1
        run.events.extend(result.events)
        run.finished_ns.update((r.request_id, now_ns) for r in result.outputs if r.status.is_finished)
        if check:
            engine.scheduler.check_integrity()

    def run_until(until_ns: int) -> None:
        while (next_ns := engine.next_ns) is not None and next_ns < until_ns:
            step(next_ns, until_ns)

    ordered = sorted(enumerate(arrivals), key=lambda item: (item[1].at_ns, item[0]))
    for position, (serial, arrival) in enumerate(ordered):
        run_until(arrival.at_ns)
        request = Request(
            f"r{serial}",
            arrival.prompt,
            arrival.max_tokens,
            serial=serial,
            arrival_time=float(arrival.at_ns),
            priority=arrival.priority,
            stop_token_ids=arrival.stop_token_ids,
        )
        run.requests.append(request)
        engine.add(request)
        following = ordered[position + 1][1].at_ns if position + 1 < len(ordered) else NEVER_NS
        if engine.next_ns is None and following > arrival.at_ns:
            step(arrival.at_ns, following)
    run_until(NEVER_NS)
    return run
