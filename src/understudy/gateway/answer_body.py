"""Reads the whole body of a worker's answer to a question of the router's own, within a bound."""

import aiohttp


async def bounded_body(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """Return the body, None if it is longer than `most_bytes`; the connection is given up then."""
    pieces: list[bytes] = []
    left_bytes = most_bytes
    async for piece in answer.content.iter_any():
        left_bytes -= len(piece)
        if left_bytes < 0:
            answer.close()
            return None
        pieces.append(piece)
    return b"".join(pieces)
