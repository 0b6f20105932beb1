"""`vllm:` series that vLLM has only with some flags, and those that say something about the configuration."""

from collections.abc import Mapping, Sequence
from itertools import product

from understudy.server.metrics.series import Counter, Family, Gauge

TOOL_CALL_MODES = ("streaming", "non_streaming")
TOOL_CALL_OUTCOMES = ("tool_call", "no_tool_call")
TOOL_CALL_REQUEST_TYPES = ("chat_completions", "responses", "other")


class LoRARequests:
    """`vllm:lora_requests_info`: a series for every combination of busy adapters, whose value is when it last was so.

    Its labels name no model and no engine, as in vLLM; with several engines the last one that speaks is heard.
    """

    def __init__(self, max_loras: int) -> None:
        self.family = Family[Gauge]("gauge", "vllm:lora_requests_info", "Running stats on lora requests.")
        self._max_loras = str(max_loras)
        self._seen: dict[tuple[str, str], Gauge] = {}

    def record(self, running: Sequence[str], waiting: Sequence[str], now_seconds: float) -> None:
        """Take the names of adapters with running and with waiting requests, at a Unix time."""
        key = ",".join(running), ",".join(waiting)
        if key not in self._seen:
            labels = {
                "max_lora": self._max_loras,
                "waiting_lora_adapters": key[1],
                "running_lora_adapters": key[0],
            }
            self._seen[key] = self.family.add(Gauge(labels))
        self._seen[key].value = now_seconds


class ToolCalls:
    """`vllm:tool_call_parser_invocations_total`: how often a tool parser looked at an answer, or at a piece of one."""

    def __init__(self, model_name: str, created_seconds: float | None) -> None:
        self.family = Family[Counter](
            "counter",
            "vllm:tool_call_parser_invocations",
            "Total number of ToolParser invocations. Non-streaming increments once per choice; "
            "streaming increments once per delta.",
        )
        self._series = {
            (mode, outcome, request_type): self.family.add(
                Counter(
                    {
                        "model_name": model_name,
                        "mode": mode,
                        "outcome": outcome,
                        "request_type": request_type,
                    },
                    created_seconds,
                )
            )
            for mode, outcome, request_type in product(
                TOOL_CALL_MODES, TOOL_CALL_OUTCOMES, TOOL_CALL_REQUEST_TYPES
            )
        }

    def record(self, request_type: str, *, is_streaming: bool, is_tool_called: bool, count: int = 1) -> None:
        """Add `count` looks; `request_type` is one of TOOL_CALL_REQUEST_TYPES."""
        mode = "streaming" if is_streaming else "non_streaming"
        outcome = "tool_call" if is_tool_called else "no_tool_call"
        self._series[mode, outcome, request_type].value += count


def cache_config_info(cache_config: Sequence[Mapping[str, str]]) -> Family[Gauge]:
    """Return `vllm:cache_config_info`, with the labels of each engine."""
    family = Family[Gauge]("gauge", "vllm:cache_config_info", "Information of the LLMEngine CacheConfig")
    for rank, labels in enumerate(cache_config):
        family.add(Gauge({**labels, "engine": str(rank)}, 1))
    return family
