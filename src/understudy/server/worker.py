"""Everything of a server but HTTP: engines, counters, publishers of events, faults, around one context."""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence

from understudy.engine import AllBlocksCleared, Engine, KVCacheEvent
from understudy.engine.hashing import DEFAULT_HASH_SEED
from understudy.server.context import ServedModels, ServerContext
from understudy.server.death import EngineDeath
from understudy.server.engine_clock import NS_PER_SECOND, EngineClock, Timer
from understudy.server.faults import FaultInjector
from understudy.server.frontend import EngineDiedError, Frontend
from understudy.server.kv_events import (
    KVEventPublisher,
    open_publisher,
    read_kv_events_config,
    uses_int_block_hashes,
)
from understudy.server.lateness import Lateness
from understudy.server.metrics import (
    ServerMetrics,
    cache_config_labels,
    check_custom_buckets,
    creates_series_of_creation,
)
from understudy.server.routes.adapters import AdapterTable, check_lora_arguments, load_static_adapters
from understudy.server.sample import sample_answer
from understudy.server.scaled_latency import ScaledLatency
from understudy.server.secret_names import is_secret
from understudy.server.settings import Settings
from understudy.wire.fingerprint import system_fingerprint

FAULT_KINDS = ("error", "refuse", "stall", "cut", "slow", "freeze-metrics", "events", "crash")

SWAP_SECONDS = 0.05
"""How long a batch of events is held so that the next one overtakes it, in engine seconds."""


class Worker:
    """One emulated worker. Make it in the event loop that will serve it.

    A `predecessor` is closed; its publishers go on for this worker, and tell subscribers that all blocks are gone.
    """

    def __init__(
        self, settings: Settings, clock: EngineClock, *, predecessor: "Worker | None" = None
    ) -> None:
        self.settings = settings
        self.clock = clock
        plan = settings.fault_plan
        self.faults = FaultInjector(
            plan.set_at(0.0) if predecessor is None else plan,
            lambda: clock.now_ns() / NS_PER_SECOND,
            self._fault_injected,
            outside_seconds=None if clock.waits else asyncio.get_running_loop().time,
        )
        self.death = EngineDeath()
        self.publishers: Sequence[KVEventPublisher] = ()
        if predecessor is not None:
            predecessor.frontend.close()
            self.publishers, predecessor.publishers = predecessor.publishers, ()
        self._begin()
        if predecessor is not None:
            for publisher in self.publishers:
                publisher.publish(time.time(), [AllBlocksCleared()])

    def crash(self) -> None:
        """Lose everything but the faults, as a process that dies and is started again at the same addresses.

        Applications that serve the worker have to be made anew.
        """
        self.frontend.fail(EngineDiedError())
        for publisher in self.publishers:
            publisher.start_over()
        self._begin(self.metrics)

    def _begin(self, counted: ServerMetrics | None = None) -> None:
        settings, clock = self.settings, self.clock
        values = settings.arguments.values
        num_engines = values["data_parallel_size"] or 1
        self.metrics = _metrics(settings, num_engines, counted)
        adapters = AdapterTable()
        models = ServedModels(
            settings.served_model_names, values["model"], settings.engine_config.max_model_len, adapters
        )
        if not self.publishers:
            self.publishers = self._open_publishers(num_engines)
        for publisher in self.publishers:
            publisher.serve_another(adapters.numbers, self._deliveries(publisher.rank), self._call_later)
        self.frontend = Frontend(
            self._engine,
            num_engines,
            clock,
            self.metrics,
            events=self._publish if self.publishers else None,
            max_num_queued_reqs=values["max_num_queued_reqs"],
            max_num_queued_tokens=values["max_num_queued_tokens"],
            late=Lateness(self.metrics, asyncio.get_running_loop().time),
            died=self.death.happened,
        )
        self.context = self._context(models)

    async def close(self) -> None:
        """Stop the engines and close the publishers."""
        self.frontend.close()
        await asyncio.gather(*(publisher.close() for publisher in self.publishers))

    def sleep_state(self, level: int | None) -> None:
        """Let the metrics of all engines show at which level they sleep, None for awake."""
        for engine in self.metrics.engines:
            engine.sleep_state(level)

    def _fault_injected(self, kind: str) -> None:
        self.metrics.fault_injected(kind)

    def _engine(self) -> Engine:
        setup = self.settings.setup
        return Engine(
            setup.config,
            ScaledLatency(setup.latency, self.faults.slow_factor),
            sample=sample_answer,
            hash_seed=self.settings.environment.get("PYTHONHASHSEED", DEFAULT_HASH_SEED),
            record_events=bool(self.publishers),
        )

    def _open_publishers(self, num_engines: int) -> Sequence[KVEventPublisher]:
        config = read_kv_events_config(self.settings.arguments.values["kv_events_config"] or {})
        opened = [
            open_publisher(config, rank, int_hashes=uses_int_block_hashes(self.settings.environment))
            for rank in range(num_engines)
        ]
        return [publisher for publisher in opened if publisher is not None]

    def _deliveries(self, rank: int) -> Callable[[int], Sequence[float]]:
        """Return what decides when each copy of a batch of events goes out, in engine seconds from now."""

        def deliveries(sequence: int) -> Sequence[float]:
            fault = self.faults.for_events(rank, sequence)
            if fault.lost:
                return ()
            delay_seconds = max(fault.delay_seconds, SWAP_SECONDS) if fault.swapped else fault.delay_seconds
            return (delay_seconds,) * (2 if fault.duplicated else 1)

        return deliveries

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self.clock.call_after(round(seconds * NS_PER_SECOND), callback)

    def _publish(self, rank: int, events: Sequence[KVCacheEvent]) -> None:
        self.publishers[rank].publish(time.time(), events)

    def _context(self, models: ServedModels) -> ServerContext:
        settings = self.settings
        values = settings.arguments.values
        context = ServerContext(
            arguments=values,
            environment=settings.environment,
            engine_config=settings.engine_config,
            frontend=self.frontend,
            tokenizer=settings.tokenizer,
            generator=settings.generator,
            metrics=self.metrics,
            models=models,
            base_limits=settings.limits,
            faults=self.faults,
            system_fingerprint=_fingerprint(settings),
            seed=values["seed"] or 0,
            chat_template=values["chat_template"],
        )
        if values["enable_lora"]:
            check_lora_arguments(values)
        load_static_adapters(context, values["lora_modules"] or ())
        return context


def _metrics(settings: Settings, num_engines: int, previous: ServerMetrics | None) -> ServerMetrics:
    values = settings.arguments.values
    labels = cache_config_labels(
        settings.engine_config,
        gpu_memory_utilization=values["gpu_memory_utilization"],
        cache_dtype=values["kv_cache_dtype"],
        kv_cache_memory_bytes=values["kv_cache_memory_bytes"],
        num_gpu_blocks_override=values["num_gpu_blocks_override"],
        user_specified_block_size="block_size" in settings.arguments.given,
        num_engines=num_engines,
    )
    return ServerMetrics(
        model_name=settings.served_model_names[0],
        num_engines=num_engines,
        max_model_len=settings.engine_config.max_model_len,
        cache_config=[labels] * num_engines,
        created_seconds=time.time(),
        disable_log_stats=bool(values["disable_log_stats"]),
        custom_histogram_buckets=check_custom_buckets(values["custom_histogram_buckets"] or {}),
        max_loras=values["max_loras"] if values["enable_lora"] else None,
        has_tool_parser=values["tool_call_parser"] is not None,
        disable_fastapi_docs=bool(values["disable_fastapi_docs"]),
        enable_scale_out=bool(values["enable_scale_out"]),
        with_created=creates_series_of_creation(settings.environment),
        time_scale=1 / values["time_scale"] if values["time_scale"] else math.inf,
        fault_kinds=FAULT_KINDS,
        previous=previous,
    )


def _fingerprint(settings: Settings) -> str | None:
    values = settings.arguments.values
    told = {name: str(value) for name, value in sorted(values.items()) if not is_secret(name)}
    return system_fingerprint(
        values["fingerprint_mode"],
        hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        custom_value=values["fingerprint_value"],
        tensor_parallel=values["tensor_parallel_size"],
        pipeline_parallel=values["pipeline_parallel_size"],
        data_parallel=values["data_parallel_size"] or 1,
        expert_parallel=bool(values["enable_expert_parallel"]),
    )
