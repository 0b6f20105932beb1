"""The command line of `vllm serve` 0.33: all its flags with vLLM's rules and defaults, and a few of our own."""

from understudy.server.arguments.choices import engine_choices, latency_choices
from understudy.server.arguments.parser import parse_serve_arguments
from understudy.server.arguments.parser_names import check_parser_names
from understudy.server.arguments.result import LoRAModule, ServeArguments

__all__ = [
    "LoRAModule",
    "ServeArguments",
    "check_parser_names",
    "engine_choices",
    "latency_choices",
    "parse_serve_arguments",
]
