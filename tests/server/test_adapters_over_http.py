"""What adapters do to events and metrics while requests use them, and when they are unloaded meanwhile."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from tests.server.serving import Served, serving, until
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.routes.adapters import load_adapter, unload_adapter

FLAGS = ("--max-model-len", "1024", "--enable-lora", "--num-gpu-blocks-override", "65")


def test_an_adapter_that_is_unloaded_keeps_its_number_in_events(tmp_path: Path) -> None:
    """Its request goes on, its blocks are stored and told under the number that it had, and the server serves on."""
    events = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/kv"})

    async def main() -> None:
        async with serving(*FLAGS, "--kv-events-config", events) as server:
            load_adapter(server.worker.context, "poet", "org/adapter")
            running = asyncio.create_task(server.complete(model="poet", prompt=[300] * 20, max_tokens=200))
            await until(lambda: server.worker.frontend.num_unfinished == 1)
            unload_adapter(server.worker.context, "poet")
            assert (await running).json["usage"]["completion_tokens"] == 200
            for number in range(6):  # the blocks of the adapter are thrown out
                assert (await server.complete(prompt=[number + 400] * 300, max_tokens=1)).status == 200
            assert (await server.complete(model="poet", prompt=[1], max_tokens=1)).status == 404

    run_in_virtual_time(main())


async def _busy(server: Served) -> Mapping[str, str]:
    """Return the labels of the latest series of the adapters."""
    return (await server.metrics()).latest("vllm:lora_requests_info")


def test_metrics_name_the_adapters_with_requests() -> None:
    """In both lists, as vLLM does, from the first token of a request to its last; nobody when all is done."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            for name in ("poet", "lawyer"):
                load_adapter(server.worker.context, name, "org/adapter")
            streams = [
                await server.open(
                    "/v1/completions",
                    {"model": name, "prompt": [300] * 20, "max_tokens": size, "stream": True},
                )
                for name, size in (("poet", 200), ("lawyer", 900))
            ]
            for stream in streams:
                await stream.events(1)
            busy = await _busy(server)
            assert busy["running_lora_adapters"] == busy["waiting_lora_adapters"] == "poet,lawyer"
            assert busy["max_lora"] == "1"
            await streams[0].rest()
            assert (await _busy(server))["running_lora_adapters"] == "lawyer"
            await streams[1].rest()
            assert (await _busy(server))["running_lora_adapters"] == ""

    run_in_virtual_time(main())
