"""What a worker says that plays vLLM: its pages, and streams of tokens that tell whose they are. Needs nothing but Python."""

import asyncio
import json
from collections.abc import Callable

from tests.gateway.fake_worker import LAST_CHUNK, STREAM_HEAD, Answer, Asked, FakeWorker, chunk, says

MODEL = "m"
PATH = "/v1/completions"
NUM_TOKENS = 5
METRICS = (
    b'vllm:num_requests_running{engine="0"} 0.0\n'
    b'vllm:num_requests_waiting{engine="0"} 0.0\n'
    b'vllm:kv_cache_usage_perc{engine="0"} 0.0\n'
)
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
DONE = b"data: [DONE]\n\n"


def answer_bytes(status: int, body: bytes, *headers: str) -> bytes:
    """Return a whole answer."""
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


NOT_STARTED = answer_bytes(503, b'{"error": {"message": "full"}}', "X-Understudy-Not-Started: 1")
BUSY = answer_bytes(503, b'{"error": {"message": "busy"}}')

PAGES = {
    "/health": answer_bytes(200, b""),
    "/metrics": answer_bytes(200, METRICS),
    "/v1/models": answer_bytes(200, MODELS),
}
NO_PAGE = answer_bytes(404, b"{}")


def event(worker: FakeWorker, number: int) -> bytes:
    """Return a token as an event; its text says whose it is."""
    text = json.dumps({"choices": [{"index": 0, "text": f"{worker.port} {number}", "finish_reason": None}]})
    return f"data: {text}\n\n".encode()


def streams(pause_seconds: float = 0.0, num_tokens: int = NUM_TOKENS) -> Callable[[FakeWorker], Answer]:
    """Return the answer of a worker that is well: tokens, with pauses, and [DONE]."""

    def of(worker: FakeWorker) -> Answer:
        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            del asked
            writer.write(STREAM_HEAD)
            for number in range(num_tokens):
                await asyncio.sleep(pause_seconds)
                writer.write(chunk(event(worker, number)))
                await writer.drain()
            writer.write(chunk(DONE) + LAST_CHUNK)
            await writer.drain()

        return answer

    return of


def with_pages(answer: Answer, pages: dict[str, Answer] | None = None) -> Answer:
    """Return what serves vLLM's pages as well, or those given in their place."""
    others = pages or {}

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.target in others:
            await others[asked.target](asked, writer)
        elif asked.method == "GET" or asked.target == "/tokenize":
            await says(PAGES.get(asked.target, NO_PAGE))(asked, writer)
        else:
            await answer(asked, writer)

    return serve


def completions(worker: FakeWorker) -> list[Asked]:
    """Return the requests with a prompt that a worker got."""
    return [asked for asked in worker.asked if asked.target == PATH]
