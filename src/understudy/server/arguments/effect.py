"""Which flags of a command line change nothing here: because they never do, or because of the others."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

Values = Mapping[str, Any]


def _has_no_certificate(values: Values) -> bool:
    return not values["ssl_certfile"]


def _listens_on_a_path(values: Values) -> bool:
    return bool(values["uds"])


def _has_no_adapters(values: Values) -> bool:
    return not values["enable_lora"]


def _reads_no_dataset(values: Values) -> bool:
    return "dataset" not in {values["generator"], values["output_length"]}


def _runs_no_model(values: Values) -> bool:
    return bool(values["generator"] != "transformers")


_IDLE_WHERE: Mapping[str, Callable[[Values], bool]] = {
    "ssl_ca_certs": _has_no_certificate,
    "ssl_cert_reqs": _has_no_certificate,
    "ssl_ciphers": _has_no_certificate,
    "host": _listens_on_a_path,
    "port": _listens_on_a_path,
    "max_loras": _has_no_adapters,
    "generator_dataset": _reads_no_dataset,
    "generator_model": _runs_no_model,
    "performance_mode": lambda values: values["performance_mode"] == "interactivity",
}
"""Flags that act, and where they do not."""


def without_effect(names: Mapping[str, str], values: Values, acting: Collection[str]) -> tuple[str, ...]:
    """Return the names of the flags given that change nothing; `names` has them by dest, in their order."""
    return tuple(
        name
        for dest, name in names.items()
        if dest not in acting or (dest in _IDLE_WHERE and _IDLE_WHERE[dest](values))
    )
