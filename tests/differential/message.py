"""A request and an answer as they are on the wire."""

from dataclasses import dataclass

Header = tuple[str, str]


@dataclass(frozen=True)
class HttpRequest:
    """What is sent, but for Host, Connection and Content-Length, which the client adds."""

    method: str
    path: str
    headers: tuple[Header, ...] = ()
    body: bytes = b""

    @property
    def route(self) -> str:
        """Method and path without the query: what differences are grouped by."""
        return f"{self.method} {self.path.partition('?')[0]}"


@dataclass(frozen=True)
class HttpAnswer:
    """What came back; header names in lower case, the body without its transfer encoding."""

    status: int
    headers: tuple[Header, ...]
    body: bytes
    whole: bool = True
    """Whether the body came to its end, rather than to that of the connection."""

    def header(self, name: str) -> str:
        """Return the first value of a header, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")
