"""One worker of the fleet: an engine on the virtual clock, and what is measured of it."""

from collections import Counter
from collections.abc import Iterator

from understudy.engine import Engine, EngineConfig, Request, Sampler, StepResult
from understudy.errors import InputError
from understudy.fleet.timeline import Timeline
from understudy.latency import LatencyModel

NEVER_NS = 1 << 62
"""Later than anything happens: 146 years."""


class Worker:
    """An engine that is brought forward in time on demand.

    `is_sound` is False once an exception has come out of the middle of a step.

    Between arrivals workers do not know of each other, so each may lag behind the others until somebody looks.
    """

    def __init__(
        self,
        index: int,
        config: EngineConfig,
        latency: LatencyModel,
        *,
        sample: Sampler,
        hash_seed: str,
        record_events: bool,
    ) -> None:
        self.index = index
        self.timeline = Timeline()
        self.inter_token_ns: Counter[int] = Counter()
        self.engine = Engine(
            config,
            latency,
            sample=sample,
            observer=self,
            hash_seed=hash_seed,
            record_events=record_events,
        )
        self.is_sound = True
        self._start_ns: int | None = None

    def gauges(self, at_ns: int, used_blocks: int, running: int, waiting: int) -> None:
        """Take the engine's state over time."""
        self.timeline.gauges(at_ns, used_blocks, running, waiting)

    def inter_token(self, gap_ns: int, count: int) -> None:
        """Count the times between tokens."""
        self.inter_token_ns[gap_ns] += count

    @property
    def next_ns(self) -> int | None:
        """When the worker has something to do, None while it is idle."""
        return self.engine.next_ns if self._start_ns is None else self._start_ns

    @property
    def may_answer(self) -> bool:
        """Whether the next step may give some request its last token."""
        requests = self.engine.scheduler.requests.values()
        return any(request.num_tokens + 1 >= request.end_tokens for request in requests)

    def add(self, request: Request, now_ns: int) -> None:
        """Take a request. An idle engine starts once all that arrives at this very time has arrived."""
        self.engine.add(request)
        if self.engine.next_ns is None:
            self._start_ns = now_ns

    def run_until(self, until_ns: int) -> Iterator[tuple[int, StepResult]]:
        """Take all steps due before `until_ns`; yield the time and the result of each call of the engine.

        Raises InputError where virtual time would pass NEVER_NS.
        """
        while (now_ns := self.next_ns) is not None and now_ns < until_ns:
            self._start_ns = None
            self.is_sound = False
            result = self.engine.step(now_ns, until_ns=until_ns)
            self.is_sound = True
            if result.next_ns is not None and result.next_ns >= NEVER_NS:
                raise InputError(
                    "the run takes more than 146 years of virtual time: are the latency's constants right?"
                )
            yield now_ns, result

    @property
    def kv_usage(self) -> float:
        """The share of the KV cache that requests reference."""
        return self.engine.scheduler.kv_cache.pool.usage
