"""Where a worker is reached."""

from typing import NamedTuple
from urllib.parse import urlsplit

from understudy.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}


class WorkerAddress(NamedTuple):
    """Where a worker is reached; `prefix` stands before the target of each request, empty for a server at the root."""

    url: str
    is_tls: bool
    host: str
    port: int
    authority: bytes
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "WorkerAddress":
        """Read a URL as in http://10.0.0.7:8000; raises UsageError for what is none, or says more than where."""
        expected = f"worker {url!r}: expected a URL as in http://10.0.0.7:8000"
        try:
            parts = urlsplit(url)
            port = parts.port
            host = parts.hostname
        except ValueError as error:
            raise UsageError(expected) from error
        if parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
            raise UsageError(expected)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UsageError(f"{expected}, without user, query or fragment")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise UsageError(f"{expected}, in ASCII")
        prefix = parts.path.rstrip("/")
        return cls(
            url=f"{parts.scheme}://{parts.netloc}{prefix}",
            is_tls=parts.scheme == "https",
            host=host,
            port=port or _DEFAULT_PORTS[parts.scheme],
            authority=parts.netloc.encode(),
            prefix=prefix,
        )
