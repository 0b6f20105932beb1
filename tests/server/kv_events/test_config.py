"""Where KV events go, by vLLM's rules."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from understudy.errors import UsageError
from understudy.server.kv_events import KVEventsConfig, read_kv_events_config, uses_int_block_hashes
from understudy.server.kv_events.endpoint import ANY_PORT, binds, node_address, rank_endpoint

VLLM: dict[str, Any] = json.loads(Path(__file__).with_name("vllm_endpoints.json").read_text())


@pytest.mark.parametrize(("given", "resolved"), VLLM["configs"])
def test_defaults_are_vllms(given: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Fields, their order and what they come to are those of vLLM's own class."""
    ours = msgspec.structs.asdict(read_kv_events_config(given))
    assert list(ours.items()) == list(resolved.items())


@pytest.mark.parametrize(("endpoint", "rank", "expected", "is_bound"), VLLM["endpoints"])
def test_endpoints_are_vllms(endpoint: str, rank: int, expected: str | None, is_bound: bool) -> None:  # noqa: FBT001 - a column of the table
    """Each rank has its own; where vLLM does not start, we say why."""
    assert binds(endpoint) is is_bound
    if expected is None:
        with pytest.raises(UsageError, match="data parallelism"):
            rank_endpoint(endpoint, rank)
    else:
        assert rank_endpoint(endpoint, rank) == expected


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("[]", "object"),
        ('{"enable": true}', "enable"),
        ('{"publisher": "kafka"}', "kafka"),
        ('{"hwm": "many"}', "hwm"),
        ('{"buffer_steps": -1}', "buffer_steps"),
        ('{"enable_kv_cache_events": 1}', "enable_kv_cache_events"),
        ('{"topic": null}', "topic"),
    ],
)
def test_what_is_wrong_is_named(text: str, culprit: str) -> None:
    """In one line, with all the fields that are accepted."""
    with pytest.raises(UsageError, match=culprit) as caught:
        read_kv_events_config(json.loads(text))
    assert "\n" not in str(caught.value)
    assert all(field in str(caught.value) for field in KVEventsConfig.__struct_fields__)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "5557",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://host:port",
        "tcp://host:65536",
        "udp://host:1",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    """Before a socket is asked."""
    with pytest.raises(UsageError, match="endpoint"):
        rank_endpoint(endpoint, 0)


def test_no_rank_gets_a_port_that_does_not_exist() -> None:
    """The last port is 65535."""
    assert rank_endpoint("tcp://*:65530", 5) == "tcp://*:65535"
    with pytest.raises(UsageError, match="rank 6"):
        rank_endpoint("tcp://*:65530", 6)


@pytest.mark.parametrize(("named", "address"), [("10.1.2.3", "10.1.2.3"), ("fd00::1", "[fd00::1]")])
def test_a_node_is_called_as_it_is_told(named: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_HOST_IP wins over the default route."""
    monkeypatch.setenv("VLLM_HOST_IP", named)
    assert node_address() == address
    assert rank_endpoint(ANY_PORT, 3) == ANY_PORT


def test_hashes_are_integers_unless_turned_off() -> None:
    """As the environment says, in vLLM's words."""
    name = "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"
    assert uses_int_block_hashes({})
    assert uses_int_block_hashes({name: "1"})
    assert not uses_int_block_hashes({name: "0"})
    with pytest.raises(UsageError, match=name):
        uses_int_block_hashes({name: "no"})
