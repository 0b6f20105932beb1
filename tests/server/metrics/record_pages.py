"""Record pages that vLLM's own code writes: `python -m tests.server.metrics.record_pages DIRECTORY`.

It needs an environment with vLLM 0.33. Invented updates are given to vLLM's PrometheusStatLogger, its parser metrics and
the instrumentation of its HTTP requests; `scenarios.json.gz` holds them, NAME.page.gz the page after them, without the
python_* and process_* series. All times are multiples of 1/1024 seconds, so sums are exact in any order, and the wall
clock stands still. `handlers.json` says under which handler requests count.
"""

import gzip
import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY, generate_latest
from vllm.config.cache import CacheConfig
from vllm.config.observability import ObservabilityConfig
from vllm.entrypoints.common.cli_args import make_arg_parser
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.parser.metrics import init_parser_metrics, record_tool_parser_invocation
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import (
    IterationStats,
    PrefillStats,
    PrefixCacheStats,
    RequestStateStats,
    SchedulerStats,
)

Json = dict[str, Any]

NOW_SECONDS = 1_700_000_000.5
TICK_SECONDS = 1 / 1024
EXCLUDED_FROM_PAGE = (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR)

SETTINGS: Mapping[str, Json] = {
    "plain": {
        "model_name": "m",
        "num_engines": 1,
        "max_model_len": 4096,
        "custom_histogram_buckets": None,
        "max_loras": None,
        "has_tool_parser": False,
        "num_gpu_blocks": 1638,
        "cache_config": {},
    },
    "full": {
        "model_name": 'org/"quoted" model\\with a slash',
        "num_engines": 3,
        "max_model_len": 1_048_576,
        "custom_histogram_buckets": {"request_latency": [0.25, 1, 4], "iteration_tokens": [1, 7, 2000000]},
        "max_loras": 4,
        "has_tool_parser": True,
        "num_gpu_blocks": 2049,
        "cache_config": {
            "block_size": 32,
            "gpu_memory_utilization": 0.5,
            "cache_dtype": "fp8",
            "num_gpu_blocks_override": 2049,
            "enable_prefix_caching": False,
            "prefix_caching_hash_algo": "xxhash_cbor",
            "kv_cache_memory_bytes": 8_589_934_592,
        },
    },
}

HTTP_FLAGS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "no docs": ("--disable-fastapi-docs",),
    "scale-out": ("--enable-scale-out",),
}
HTTP_PATHS = (
    *("/", "/nope", "/metrics", "/metrics/", "/health", "/load", "/ping", "/version", "/server_info"),
    *("/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/tokenize"),
    *(
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/is_sleeping",
        "/pingpong",
        "/v1/chat/completions/",
    ),
    *("/openapi.json", "/docs", "/docs/", "/docs/oauth2-redirect", "/redoc", "/redoc/", "/openapi.json/"),
    *("/v1/chat/completions/render", "/v1/messages/render", "/v1/completions/render", "/v1/responses/render"),
    *("/v1/chat/completions/derender", "/v1/completions/derender", "/inference/v1/generate"),
    *("/inference/v1/abort_requests", "/inference/v1/generate/"),
)
HTTP_METHODS = ("GET", "HEAD", "POST", "OPTIONS")


def _seconds(chance: random.Random, up_to: float) -> float:
    return chance.randrange(int(up_to / TICK_SECONDS)) * TICK_SECONDS


def _finished(chance: random.Random) -> Json:
    prompt_tokens, generation_tokens = chance.randint(1, 5000), chance.choice((1, 2, 17, 900))
    phases = {
        name: _seconds(chance, chance.choice((0.5, 90, 9000))) for name in ("queue", "prefill", "decode")
    }
    n = chance.choice((1, 1, 1, None, 4))
    return {
        "reason": chance.choice(("stop", "length", "abort", "error", "repetition")),
        "prompt_tokens": prompt_tokens,
        "cached_tokens": chance.choice((0, prompt_tokens // 2, prompt_tokens)),
        "generation_tokens": generation_tokens,
        "max_tokens": chance.choice((None, 0, 1, 16, 2048)),
        "n": n,
        "longest_answer_tokens": None if n is None else generation_tokens + (n - 1) * 3,
        "num_preemptions": chance.choice((0, 0, 1, 2, 30)),
        "e2e_seconds": _seconds(chance, 9000),
        "queue_seconds": phases["queue"],
        "prefill_seconds": phases["prefill"],
        "decode_seconds": phases["decode"] * (generation_tokens > 1),
        "inference_seconds": phases["prefill"] + phases["decode"] * (generation_tokens > 1),
    }


def _update(chance: random.Random, settings: Json) -> Json:
    prompts = [chance.randint(1, 3000) for _ in range(chance.choice((0, 0, 1, 3)))]
    first_outputs = [[size, chance.choice((0, size // 3, size)), _seconds(chance, 40)] for size in prompts]
    gaps = [_seconds(chance, chance.choice((0.03, 2, 100))) for _ in range(chance.choice((0, 1, 8)))]
    adapters = ["poet", "lawyer"][: chance.randint(0, 2)]
    waiting = chance.randint(0, 50)
    queries = chance.randint(0, 4000)
    finished = [_finished(chance) for _ in range(chance.choice((0, 1, 2)))]
    return {
        "engine": chance.randrange(settings["num_engines"]),
        "gauges": [chance.randint(0, 256), waiting, chance.randint(0, 1638) / 1638],
        "deferred": chance.choice((0, waiting // 3)),
        "prefix_cache": [queries, queries // 3],
        "lora": [adapters, adapters[:1]],
        "first_outputs": first_outputs,
        "gaps": gaps,
        "generated": len(prompts) + len(gaps),
        "preempted": chance.choice((0, 0, 2)),
        "finished": finished,
        "rejected": chance.sample(("max_num_queued_reqs", "max_num_queued_tokens"), chance.randint(0, 2)),
        "tool_calls": [
            [kind, chance.random() < 0.5, chance.random() < 0.5]
            for kind in ("chat_completions", "responses", "other")
        ],
        "http": [_http(chance) for _ in range(chance.randint(0, 2))],
    }


def _http(chance: random.Random) -> Json:
    return {
        "path": chance.choice(("/v1/completions", "/openapi.json")),
        "method": "GET",
        "status": chance.choice((200, 204, 307, 404, 500)),
        "duration_seconds": _seconds(chance, chance.choice((0.2, 100))),
        "request_bytes": chance.choice((0, 120)),
        "response_bytes": chance.choice((0, 4321)),
    }


def _vllm_config(settings: Json) -> Any:
    """Return what PrometheusStatLogger reads of a VllmConfig, the cache's part as it is once engines run."""
    cache = CacheConfig(**settings["cache_config"])
    blocks_per_request = -(-settings["max_model_len"] // cache.block_size)
    cache.num_gpu_blocks = settings["num_gpu_blocks"] * settings["num_engines"]
    cache.effective_attention_block_size = cache.block_size
    cache.kv_cache_max_concurrency = settings["num_gpu_blocks"] / blocks_per_request
    cache.kv_cache_size_tokens = int(cache.kv_cache_max_concurrency * settings["max_model_len"])
    return SimpleNamespace(
        cache_config=cache,
        observability_config=ObservabilityConfig(
            custom_histogram_buckets=settings["custom_histogram_buckets"]
        ),
        model_config=SimpleNamespace(
            served_model_name=settings["model_name"],
            max_model_len=settings["max_model_len"],
            is_diffusion=False,
        ),
        lora_config=None
        if settings["max_loras"] is None
        else SimpleNamespace(max_loras=settings["max_loras"]),
        speculative_config=None,
        kv_transfer_config=None,
        ec_transfer_config=None,
        watermark_config=None,
    )


def _iteration_stats(update: Json) -> IterationStats | None:
    if not (update["generated"] or update["finished"]):
        return None
    stats = IterationStats()
    stats.num_generation_tokens = update["generated"]
    stats.num_preempted_reqs = update["preempted"]
    stats.inter_token_latencies_iter = update["gaps"]
    for prompt_tokens, cached_tokens, ttft_seconds in update["first_outputs"]:
        prefill = PrefillStats()
        prefill.set(prompt_tokens, cached_tokens, 0)
        stats.prompt_token_stats.update_from_output(prefill)
        stats.time_to_first_tokens_iter.append(ttft_seconds)
    for finished in update["finished"]:
        scheduled = 1 + finished["queue_seconds"]
        first = scheduled + finished["prefill_seconds"]
        state = RequestStateStats(
            num_generation_tokens=finished["generation_tokens"],
            num_preemptions=finished["num_preemptions"],
            arrival_time=stats.iteration_timestamp - finished["e2e_seconds"],
            queued_ts=1.0,
            scheduled_ts=scheduled,
            first_token_ts=first,
            last_token_ts=first + finished["decode_seconds"],
        )
        stats.update_from_finished_request(
            FinishReason[finished["reason"].upper()],
            "request",
            finished["prompt_tokens"],
            finished["max_tokens"],
            state,
            finished["cached_tokens"],
        )
        if finished["n"] is not None:
            stats.n_params_iter.append(finished["n"])
            stats.max_num_generation_tokens_iter.append(finished["longest_answer_tokens"])
    return stats


def _scheduler_stats(update: Json) -> SchedulerStats:
    running, waiting, usage = update["gauges"]
    queries, hits = update["prefix_cache"]
    return SchedulerStats(
        num_running_reqs=running,
        num_waiting_reqs=waiting - update["deferred"],
        num_skipped_waiting_reqs=update["deferred"],
        kv_cache_usage=usage,
        prefix_cache_stats=PrefixCacheStats(requests=1, queries=queries, hits=hits),
        running_lora_adapters=dict.fromkeys(update["lora"][0], 1),
        waiting_lora_adapters=dict.fromkeys(update["lora"][1], 1),
    )


def _record_http(instrumentation: Callable[[Any], None], request: Json) -> None:
    metrics = importlib.import_module("prometheus_fastapi_instrumentator.metrics")
    handler = request["path"] if request["path"] == "/openapi.json" else "none"
    instrumentation(
        metrics.Info(
            request=SimpleNamespace(headers={"Content-Length": str(request["request_bytes"])}),
            response=SimpleNamespace(headers={"Content-Length": str(request["response_bytes"])}),
            method=request["method"],
            modified_handler=handler,
            modified_status=f"{request['status']}"[0] + "xx",
            modified_duration=request["duration_seconds"],
        )
    )


def _record(logger: PrometheusStatLogger, instrumentation: Callable[[Any], None], update: Json) -> None:
    logger.record(_scheduler_stats(update), _iteration_stats(update), engine_idx=update["engine"])
    for reason in update["rejected"]:
        logger.record_admission_rejection(reason)
    kinds = {"chat_completions": ChatCompletionRequest, "responses": ResponsesRequest}
    for kind, is_streaming, is_tool_called in update["tool_calls"]:
        request = kinds[kind].model_construct() if kind in kinds else object()
        record_tool_parser_invocation(
            is_tool_called=is_tool_called, is_streaming=is_streaming, request=request
        )
    for request in update["http"]:
        _record_http(instrumentation, request)


def _page(settings: Json, updates: list[Json], sleep_level: int | None) -> bytes:
    """Return vLLM's page after the updates, from a registry that holds nothing else."""
    for collector in list(REGISTRY._collector_to_names):
        REGISTRY.unregister(collector)
    logger = PrometheusStatLogger(_vllm_config(settings), list(range(settings["num_engines"])))
    logger.log_engine_initialized()
    if settings["has_tool_parser"]:
        init_parser_metrics(model_name=settings["model_name"])
    metrics = importlib.import_module("prometheus_fastapi_instrumentator.metrics")
    instrumentation = metrics.default(registry=REGISTRY)
    for update in updates:
        _record(logger, instrumentation, update)
    if sleep_level is not None:
        logger.record_sleep_state(1, sleep_level)
    return generate_latest(REGISTRY)


def _handlers(flags: tuple[str, ...]) -> list[Json]:
    """Return the handler of each method and path, None for those that are not counted."""
    requests = importlib.import_module("starlette.requests")
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(list(flags))
    app = build_app(arguments, ("generate",))
    layer: Any = app.build_middleware_stack()
    while type(layer).__name__ != "PrometheusInstrumentatorMiddleware":
        layer = layer.app
    result = []
    for method in HTTP_METHODS:
        for path in HTTP_PATHS:
            scope = {"type": "http", "method": method, "path": path, "headers": [], "app": app}
            scope |= {"query_string": b"", "root_path": "", "server": ("localhost", 80), "scheme": "http"}
            handler, is_templated = layer._get_handler(requests.Request(scope))
            if layer._is_handler_excluded(handler, is_templated):
                handler = None
            elif not is_templated:
                handler = "none"
            result.append({"method": method, "path": path, "handler": handler})
    return result


def main(directory: Path) -> None:
    """Write all recordings."""
    handlers = {name: _handlers(flags) for name, flags in HTTP_FLAGS.items()}
    (directory / "handlers.json").write_text(json.dumps(handlers, indent=0) + "\n", encoding="utf-8")
    time.time = lambda: NOW_SECONDS
    scenarios: dict[str, Json] = {}
    for name, settings in SETTINGS.items():
        for num_updates in (0, 60):
            chance = random.Random(f"{name} {num_updates}")
            updates = [_update(chance, settings) for _ in range(num_updates)]
            sleep_level = chance.choice((0, 1, 2)) if updates else None
            title = f"{name}-{num_updates}"
            scenarios[title] = {
                "settings": settings,
                "now_seconds": NOW_SECONDS,
                "updates": updates,
                "sleep_level": sleep_level,
            }
            page = _page(settings, updates, sleep_level)
            (directory / f"{title}.page.gz").write_bytes(gzip.compress(page, mtime=0))
    text = json.dumps(scenarios)
    (directory / "scenarios.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
