"""`--root-path`: the server answers with and without the prefix, and what it says of itself has it."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.testing.client import ask

from understudy.testing import ServerHandle, start_server
from understudy.web.root_path import without_root_path


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
        ("/%78/health", 200),
        ("/x/%68ealth", 401),
        ("/x%2Fhealth", 200),
        ("/%7/health", 401),
        ("/x//health", 401),
        ("//x/health", 401),
        ("/%78/v1/models", 401),
    ],
)
def test_a_path_is_found_with_and_without_the_prefix(server: ServerHandle, path: str, status: int) -> None:
    """It is taken off once, only as whole segments, however it is encoded; keys are asked for all the same."""
    assert ask(server.url, path).status == status


@pytest.mark.parametrize("path", ["/x/v1/completions?a=%78", "/%78/v1/completions"])
def test_a_request_below_the_prefix_is_served(server: ServerHandle, path: str) -> None:
    """With its body; metrics count it as one, and a test sees the path as it came."""
    server.reset()
    body = {"model": server.model, "prompt": "Hello", "max_tokens": 2}
    answer = ask(server.url, path, body, Authorization="Bearer k")
    assert (answer.status, answer.json["usage"]["completion_tokens"]) == (200, 2)
    assert server.metrics().total("http_requests_total", method="POST", status="2xx") == 1
    assert [request.path for request in server.requests] == [path]


@pytest.mark.parametrize(
    ("root_path", "path", "found"),
    [
        ("/x", "/x/v1/models?a=/x", "/v1/models?a=/x"),
        ("/x", "/%78%2Fv1", "/v1"),
        ("/x", "/x?a", "/?a"),
        ("/x", "/x", "/"),
        ("/x", "/", None),
        ("/x", "/xy", None),
        ("/x", "/v1?/x/", None),
        ("/x/", "/x/v1", None),
        ("/x/", "/x//v1", "/v1"),
        ("x", "/x/v1", None),
        ("/a b/\u00e9", "/a%20b/%c3%A9/v1", "/v1"),
        ("/a b/\u00e9", "/a b/\u00e9/v1", "/v1"),
        ("/a b/\u00e9", "/a b/%c3/v1", None),
    ],
)
def test_the_prefix_is_found_as_starlette_finds_it(root_path: str, path: str, found: str | None) -> None:
    """In the decoded path, with a slash behind it or nothing; what is left is as it was, the query too."""
    assert without_root_path(path, root_path) == found


@given(root_path=st.text(min_size=1, max_size=5).map("/".__add__), rest=st.text(max_size=5), data=st.data())
def test_any_encoding_of_the_prefix_is_the_prefix(root_path: str, rest: str, data: st.DataObject) -> None:
    """Byte by byte, as is or in percent."""
    encoded = "".join(
        letter
        if letter not in "%?" and data.draw(st.booleans())
        else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in f"{root_path}/"
    )
    tail = quote(rest)
    assert without_root_path(encoded + tail, root_path) == f"/{tail}"


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
