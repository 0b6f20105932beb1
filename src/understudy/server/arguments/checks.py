"""What vLLM checks between flags before it loads a model, in vLLM's words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UsageError

REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_JINJA = "{}\n"


def check(values: Mapping[str, Any]) -> None:
    """Raise UsageError for values that do not go together, or that vLLM refuses at once."""
    _check_chat_template(values["chat_template"])
    _check_reasoning_efforts(values["reasoning_effort_map"])
    if values["grpc_port"] is not None:
        raise UsageError("--grpc-port requires VLLM_USE_RUST_FRONTEND=1 vllm serve; only HTTP is served here")
    if values["enable_auto_tool_choice"] and not values["tool_call_parser"]:
        raise UsageError("--enable-auto-tool-choice requires --tool-call-parser")
    if values["enable_log_outputs"] and not values["enable_log_requests"]:
        raise UsageError("--enable-log-outputs requires --enable-log-requests")
    if values["sse_keep_alive_interval"] < 0:
        raise UsageError(
            "--sse-keep-alive-interval must be a non-negative integer (0 disables keep-alive comments)."
        )
    if values["enable_per_request_metrics"] and values["disable_log_stats"]:
        raise UsageError(
            "--enable-per-request-metrics requires engine statistics logging; remove --disable-log-stats to enable "
            "per-request metrics."
        )
    if values["headless"] and (values["api_server_count"] or 0) > 0:
        raise UsageError(
            f"--api-server-count={values['api_server_count']} cannot be used with --headless (no API servers are "
            "started in headless mode)."
        )
    _check_load_balancing(values)


def _check_chat_template(template: str | None) -> None:
    if template is None or any(letter in template for letter in _JINJA):
        return
    try:
        exists = Path(template).exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise UsageError(
            f"The supplied chat template string ({template}) appears path-like, but doesn't exist!"
        )


def _check_reasoning_efforts(efforts: Any) -> None:
    if efforts is None:
        return
    if not isinstance(efforts, dict) or not all(isinstance(value, str) for value in efforts.values()):
        raise UsageError("--reasoning-effort-map must be a JSON object mapping reasoning efforts to strings.")
    unknown = sorted(set(efforts) - set(REASONING_EFFORTS))
    if unknown:
        raise UsageError(
            f"--reasoning-effort-map has unknown efforts {unknown}; keys must be one of {list(REASONING_EFFORTS)}."
        )


def _check_load_balancing(values: Mapping[str, Any]) -> None:
    hybrid, multi_port = values["data_parallel_hybrid_lb"], values["data_parallel_multi_port_external_lb"]
    external = values["data_parallel_external_lb"] or values["data_parallel_rank"] is not None
    if not (hybrid or multi_port):
        hybrid = values["data_parallel_start_rank"] is not None
    if sum(map(bool, (multi_port, external, hybrid))) > 1:
        raise UsageError(
            "Cannot use more than one data parallel load balancing mode. Choose one of: "
            "--data-parallel-multi-port-external-lb, --data-parallel-external-lb (or --data-parallel-rank), "
            "--data-parallel-hybrid-lb (or --data-parallel-start-rank)."
        )
