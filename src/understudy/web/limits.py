"""What one client may take of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a server; beyond one the client gets the status that is named here, or is disconnected.

    `header_bytes` and `header_count` per request (431), `body_bytes` per request (413), `header_seconds` from the first
    byte of a request to the end of its headers (disconnected), `body_seconds` for a body, or longer where
    `min_body_bytes_per_second` allows for its length (408), `keep_alive_seconds` without a request (disconnected),
    `linger_seconds` for a client that was refused to stop
    sending and read why (disconnected), `connections` at once (503), `json_depth` of nested arrays and objects and `json_containers` of them in all (400).
    """

    header_bytes: int = 64 * 1024
    header_count: int = 100
    body_bytes: int = 32 * 1024 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    min_body_bytes_per_second: int = 1_000_000
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 2.0
    connections: int = 8192
    json_depth: int = 100
    json_containers: int = 1_000_000


DEFAULT_LIMITS = HttpLimits()
