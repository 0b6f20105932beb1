"""The recordings of vLLM's pages, and the same updates for our metrics."""

import gzip
import json
from pathlib import Path
from typing import Any

from understudy.engine import EngineConfig
from understudy.server.metrics import FinishedStats, ServerMetrics, cache_config_labels

Json = dict[str, Any]

DIRECTORY = Path(__file__).parent / "recordings"
SCENARIOS = ("plain-0", "plain-60", "full-0", "full-60")


def read_page(name: str) -> str:
    """Return a page that vLLM wrote."""
    return gzip.decompress((DIRECTORY / f"{name}.page.gz").read_bytes()).decode()


def read_scenario(name: str) -> Json:
    """Return the settings and the updates after which vLLM wrote the page of this name."""
    scenarios: dict[str, Json] = json.loads(gzip.decompress((DIRECTORY / "scenarios.json.gz").read_bytes()))
    return scenarios[name]


def read_handlers() -> dict[str, list[Json]]:
    """Return the handler of requests, by flags of the server."""
    handlers: dict[str, list[Json]] = json.loads((DIRECTORY / "handlers.json").read_text(encoding="utf-8"))
    return handlers


def server_metrics(**options: Any) -> ServerMetrics:
    """Return the metrics of a server like the recorded `vllm serve`, but for `options`."""
    defaults: Json = {
        "model_name": "m",
        "num_engines": 1,
        "max_model_len": 4096,
        "created_seconds": 1_700_000_000.5,
        "cache_config": [
            cache_config_labels(EngineConfig(num_gpu_blocks=1638, max_model_len=4096))
            for _ in range(options.get("num_engines", 1))
        ],
    }
    return ServerMetrics(**defaults | options)


def metrics_of(scenario: Json) -> ServerMetrics:
    """Return metrics that have heard what vLLM heard."""
    metrics = _with_settings(scenario["settings"], scenario["now_seconds"])
    for update in scenario["updates"]:
        _replay(metrics, update, scenario["now_seconds"])
    if scenario["sleep_level"] is not None:
        for engine in metrics.engines:
            engine.sleep_state(scenario["sleep_level"])
    return metrics


def _with_settings(settings: Json, now_seconds: float) -> ServerMetrics:
    cache = dict(settings["cache_config"])
    has_block_size = "block_size" in cache
    for_engine = {
        name: cache.pop(name)
        for name in ("block_size", "enable_prefix_caching", "prefix_caching_hash_algo")
        if name in cache
    }
    config = EngineConfig(
        num_gpu_blocks=settings["num_gpu_blocks"], max_model_len=settings["max_model_len"], **for_engine
    )
    num_engines = settings["num_engines"]
    labels = cache_config_labels(
        config, user_specified_block_size=has_block_size, num_engines=num_engines, **cache
    )
    return ServerMetrics(
        model_name=settings["model_name"],
        num_engines=num_engines,
        max_model_len=settings["max_model_len"],
        cache_config=[labels] * num_engines,
        created_seconds=now_seconds,
        custom_histogram_buckets=settings["custom_histogram_buckets"],
        max_loras=settings["max_loras"],
        has_tool_parser=settings["has_tool_parser"],
        unix_seconds=lambda: now_seconds,
    )


def _replay(metrics: ServerMetrics, update: Json, now_seconds: float) -> None:
    engine = metrics.engines[update["engine"]]
    engine.gauges(*update["gauges"], deferred=update["deferred"])
    engine.prefix_cache(*update["prefix_cache"])
    running, waiting = update["lora"]
    engine.lora(running, waiting, now_seconds)
    if update["generated"] or update["finished"]:
        computed = 0
        for prompt_tokens, cached_tokens, ttft_seconds in update["first_outputs"]:
            engine.first_output(prompt_tokens, cached_tokens, ttft_seconds)
            computed += prompt_tokens - cached_tokens
        for gap_seconds in update["gaps"]:
            engine.inter_token(gap_seconds)
        engine.generated(update["generated"])
        engine.iteration(computed + update["generated"])
        engine.preempted(update["preempted"])
        for finished in update["finished"]:
            engine.finished(FinishedStats(**finished))
    for reason in update["rejected"]:
        metrics.rejected(reason)
    for request_type, is_streaming, is_tool_called in update["tool_calls"]:
        metrics.tool_parsed(request_type, is_streaming=is_streaming, is_tool_called=is_tool_called)
    for request in update["http"]:
        metrics.http(**request)
