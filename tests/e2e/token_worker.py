"""A light worker as a process: plays vLLM with streams of tokens, and prints its port, then the id of each request that it begins."""

import asyncio
import sys

from tests.gateway.fake_worker import Asked, FakeWorker, says
from tests.gateway.playing_vllm import NO_PAGE, streams, with_pages


async def main(pause_seconds: float) -> None:
    """Serve until killed."""
    worker = FakeWorker(says(NO_PAGE))
    server = await asyncio.get_running_loop().create_server(worker.protocol, "127.0.0.1", 0, backlog=1024)
    worker.port = server.sockets[0].getsockname()[1]
    well = streams(pause_seconds)(worker)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        print(asked.values("X-Request-Id")[0], flush=True)
        await well(asked, writer)

    worker.answer = with_pages(answer)
    print(worker.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
