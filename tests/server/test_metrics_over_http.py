"""The page of metrics of a server at work."""

import asyncio

from tests.server.serving import Metrics, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.routes.adapters import load_adapter

FLAGS = (
    "--max-model-len=1024",
    "--num-gpu-blocks-override=65",
    "--max-num-queued-reqs=6",
    "--enable-lora",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
)

SILENT = {
    "vllm:estimated_flops_per_gpu",
    "vllm:estimated_read_bytes_per_gpu",
    "vllm:estimated_write_bytes_per_gpu",
    "vllm:external_prefix_cache_hits",
    "vllm:external_prefix_cache_queries",
    "vllm:mm_cache_hits",
    "vllm:mm_cache_queries",
}
"""Of a model without media, without a KV connector and without vLLM's own estimates: 0 in vLLM as well."""

FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}


def test_every_series_of_vllm_is_filled() -> None:
    """Chats with tools, an adapter, repeated prompts, a full queue and a full cache leave no family at 0 that could move."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            load_adapter(server.worker.context, "poet", "org/adapter")
            for _ in range(2):
                await server.chat(
                    messages=[{"role": "user", "content": "Hello there! " * 30}],
                    tools=[{"type": "function", "function": FUNCTION}],
                    max_tokens=40,
                )
                await server.complete(model="poet", prompt=[300] * 100, max_tokens=10)
            seen = await _seen_at_work(server)
            silent = {name for name in seen if name.startswith("vllm:") and not name.endswith("_created")}
            assert {name for name in silent if not seen[name]} == SILENT

    run_in_virtual_time(main())


def test_every_look_of_a_tool_parser_is_counted() -> None:
    """Once a choice for whole answers, at least once a stream; by the kind of request, and only where tools are given."""

    async def main() -> None:
        async with serving(*FLAGS) as server:

            async def counted(request_type: str, mode: str) -> float:
                page = await server.metrics()
                name = "vllm:tool_call_parser_invocations_total"
                return page.total(name, request_type=request_type, mode=mode)

            chat = {
                "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": FUNCTION}],
            }
            response = {"input": "hi", "tools": [{"type": "function"} | FUNCTION]}
            for path, body, request_type in (
                ("/v1/chat/completions", chat, "chat_completions"),
                ("/v1/responses", response, "responses"),
            ):
                without = {name: value for name, value in body.items() if name != "tools"}
                await server.post(path, without)
                assert await counted(request_type, "non_streaming") == 0
                for number in (1, 2):
                    assert (await server.post(path, body)).status == 200
                    assert await counted(request_type, "non_streaming") == number
                assert await counted(request_type, "streaming") == 0
                assert (await server.post(path, body | {"stream": True})).status == 200
                assert await counted(request_type, "streaming") >= 1

    run_in_virtual_time(main())


async def _seen_at_work(server: Served) -> dict[str, float]:
    """Return the greatest value of each family while more is asked for than fits."""
    work = asyncio.gather(
        *(server.complete(prompt=[300 + number] * 300, max_tokens=500) for number in range(12))
    )
    pages = [await server.metrics()]
    while not work.done():
        await asyncio.sleep(0.05)
        pages.append(await server.metrics())
    assert {reply.status for reply in await work} == {200, 503}
    return {
        name: max(page.families[name] for page in pages if name in page.families) for name in _names(pages)
    }


def _names(pages: list[Metrics]) -> set[str]:
    return {name for page in pages for name in page.families}
