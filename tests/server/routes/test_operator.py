"""The routes of development mode where requests are in work."""

import pytest
from tests.server.routes.fakes import Client, FakeServer, serve

from understudy.errors import UsageError
from understudy.server.routes import operator
from understudy.server.routes.operator import SLEEP_OPERATIONS


def test_all_requests_end_or_those_that_are_named() -> None:
    """Without ids all that is in work counts; with ids, as many as were named."""

    async def check(server: FakeServer, client: Client) -> None:
        server.frontend.running = ["cmpl-a-0", "cmpl-b-0", "cmpl-c-0"]
        answer = await client.post("/abort_requests", json={"request_ids": ["cmpl-b-0", "nobody"]})
        assert await answer.json() == {"status": "aborted", "aborted": 2}
        assert server.frontend.running == ["cmpl-a-0", "cmpl-c-0"]
        answer = await client.post("/abort_requests", json={})
        assert await answer.json() == {"status": "aborted", "aborted": 2}
        assert not server.frontend.running

    serve(check)


def test_the_prefix_cache_stays_while_requests_hold_blocks() -> None:
    """Unless they are to give them up."""

    async def check(server: FakeServer, client: Client) -> None:
        server.frontend.running = ["a"]
        answer = await client.post("/reset_prefix_cache")
        assert await answer.json() == {"success": False}
        answer = await client.post("/reset_prefix_cache?reset_running_requests=true")
        assert await answer.json() == {"success": True}

    serve(check)


def test_what_needs_workers_says_that_there_are_none() -> None:
    """Status 501, an error of OpenAI's shape, and the name of the method."""

    async def check(_server: FakeServer, client: Client) -> None:
        for path, body in (
            ("/collective_rpc", {"method": "reload"}),
            ("/weight_checker", {"action": "checksum"}),
            ("/weight_checker", {"action": "compare", "baseline": {}}),
        ):
            answer = await client.post(path, json=body)
            assert answer.status == 501
            error = (await answer.json())["error"]
            assert error["type"] == "NotImplementedError"
            assert path.strip("/") in error["message"]

    serve(check)


def test_a_body_that_is_nested_too_deeply_is_an_error_like_others() -> None:
    """Status 500 in OpenAI's shape, as vLLM answers what its own code trips over."""

    async def check(_server: FakeServer, client: Client) -> None:
        for path in ("/abort_requests", "/collective_rpc"):
            answer = await client.post(path, data=b"[" * 100_000)
            assert answer.status == 500
            assert (await answer.json())["error"]["type"] == "InternalServerError"

    serve(check)


def test_sleep_is_measured() -> None:
    """Every operation is told when it begins and when it ends, also one that is refused."""
    heard: list[str] = []

    class Listener:
        def started(self, operation: str) -> None:
            heard.append(operation)

        def ended(self, operation: str, duration_seconds: float) -> None:
            assert duration_seconds >= 0
            heard.append(f"/{operation}")

    class Measured(FakeServer):
        def __init__(self) -> None:
            super().__init__()
            self.app[SLEEP_OPERATIONS] = Listener()

    async def check(server: FakeServer, client: Client) -> None:
        for path in ("/sleep", "/release_kv_cache_memory", "/wake_up"):
            await client.post(path)
        assert server.sleep_levels == [1, None]

    serve(check, make=Measured)
    assert heard == [
        *("sleep", "/sleep", "release_kv_cache_memory", "/release_kv_cache_memory", "wake", "/wake")
    ]


def test_the_world_is_all_ranks_or_one() -> None:
    """Tensor, pipeline and data parallel sizes multiply."""

    async def check(_server: FakeServer, client: Client) -> None:
        answer = await client.get("/get_world_size")
        assert await answer.json() == {"world_size": 24}
        answer = await client.get("/get_world_size?include_dp=0")
        assert await answer.json() == {"world_size": 6}

    serve(
        check,
        arguments={"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "data_parallel_size": 4},
    )


@pytest.mark.parametrize(("value", "is_served"), [(None, False), ("0", False), ("1", True)])
def test_development_mode_is_a_variable(value: str | None, is_served: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """VLLM_SERVER_DEV_MODE, a number."""
    environment = {} if value is None else {"VLLM_SERVER_DEV_MODE": value}
    assert operator.is_served(environment) is is_served


def test_another_value_of_the_variable_stops_the_start() -> None:
    """It names the variable and what is accepted."""
    with pytest.raises(UsageError, match="VLLM_SERVER_DEV_MODE must be 0 or 1, got 'true'"):
        operator.is_served({"VLLM_SERVER_DEV_MODE": "true"})
