"""`--root-path`: the server answers with and without the prefix, and what it says of itself has it."""

from collections.abc import Iterator

import pytest
from tests.testing.client import ask

from understudy.testing import ServerHandle, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerHandle]:
    """Yield a server behind a prefix, with a key."""
    with start_server("--root-path", "/x", "--api-key", "k") as server:
        yield server


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/x/health", 200),
        ("/x/x/health", 401),
        ("/xhealth", 401),
        ("/x", 401),
        ("/v1/models", 401),
        ("/x/v1/models", 401),
        ("/x/v1/models?a=/x/health", 401),
    ],
)
def test_a_path_is_found_with_and_without_the_prefix(server: ServerHandle, path: str, status: int) -> None:
    """It is taken off once, and only as a whole segment; keys are asked for all the same."""
    assert ask(server.url, path).status == status


def test_a_request_below_the_prefix_is_served(server: ServerHandle) -> None:
    """With its body; metrics count it as one."""
    body = {"model": server.model, "prompt": "Hello", "max_tokens": 2}
    answer = ask(server.url, "/x/v1/completions", body, Authorization="Bearer k")
    assert (answer.status, answer.json["usage"]["completion_tokens"]) == (200, 2)
    assert server.metrics().total("http_requests_total", method="POST", status="2xx") == 1


def test_the_description_names_the_prefix(server: ServerHandle) -> None:
    """As the server's address."""
    document = ask(server.url, "/x/openapi.json", Authorization="Bearer k").json
    assert document["servers"] == [{"url": "/x"}]


def test_a_redirection_keeps_the_prefix(server: ServerHandle) -> None:
    """So that it leads through the proxy."""
    answer = ask(server.url, "/x/v1/models/", Authorization="Bearer k")
    assert answer.status == 307
    assert answer.headers["location"] == f"{server.url}/x/v1/models"


def test_answers_carry_the_id_of_their_request() -> None:
    """Its own, else one made up; also answers that no route gave. Only with `--enable-request-id-headers`."""
    with start_server("--enable-request-id-headers") as server:
        for path in ("/health", "/nowhere"):
            assert ask(server.url, path, **{"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
            assert len(ask(server.url, path).headers["x-request-id"]) == 32
