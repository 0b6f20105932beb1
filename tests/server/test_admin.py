"""The admin port: what an operator may do, and who is no operator."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.serving import serving
from tests.testing.client import Answer, ask, complete, completion, manual_server

from understudy.errors import UsageError
from understudy.server.admin import admin_listener, is_loopback
from understudy.server.application import application
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import FaultPlan
from understudy.testing import ServerHandle, start_server
from understudy.testing.clock_handle import ClockKind

EMPTY: dict[str, Any] = {"seed": 0, "faults": []}


@pytest.fixture
def server() -> Iterator[ServerHandle]:
    """Yield a server with an admin port, whose clock is moved by hand."""
    with manual_server("--admin-port", "0") as server:
        yield server


def _admin(server: ServerHandle, method: str, path: str, body: object = None, **headers: str) -> Answer:
    assert server.admin_url is not None
    return ask(server.admin_url, path, body, method, **headers)


def test_there_is_no_admin_port_unless_it_is_asked_for() -> None:
    """And its routes are not on the port that everybody may use."""
    with manual_server() as server:
        assert server.admin_url is None
        for path in ("/faults", "/crash", "/clock", "/state"):
            assert ask(server.url, path).status == 404
            assert ask(server.url, path, {}).status == 404


def test_a_port_that_is_taken_is_told(server: ServerHandle) -> None:
    """With the address, as for the port of the server itself."""
    assert server.admin_url is not None
    port = server.admin_url.rpartition(":")[2]
    with (
        pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"),
        manual_server("--admin-port", port),
    ):
        pass


def test_a_plan_is_put_shown_and_deleted(server: ServerHandle) -> None:
    """As JSON and as YAML; it holds at once."""
    assert _admin(server, "GET", "/faults").json == EMPTY
    put = _admin(server, "PUT", "/faults", {"seed": 5, "faults": [{"kind": "error", "status": 503}]})
    assert put.status == 200
    assert put.json == _admin(server, "GET", "/faults").json
    assert put.json["faults"][0] == {
        "kind": "error", "status": 503, "rate": 1.0, "at_seconds": 0.0, "for_seconds": None
    }  # fmt: skip
    assert completion(server).finish().status == 503
    assert _admin(server, "DELETE", "/faults").json == {"seed": 5, "faults": []}
    assert complete(server).status == 200
    put = _admin(server, "PUT", "/faults", b"faults:\n- kind: slow\n  factor: 4\n")
    assert [fault["kind"] for fault in put.json["faults"]] == ["slow"]
    assert [type(fault).__name__ for fault in server.faults.plan.faults] == ["Slow"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Expected `object`, got `null`"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"{", "while parsing a flow node"),
        (b"\xff\xfe", "plan"),
        (b"faults: [{kind: nope}]", "Invalid value 'nope' - at `$.faults[0].kind`"),
        (b'{"faults": [{"kind": "slow", "factor": -2}]}', "$.faults[0].factor"),
        (b"faults: [{kind: slow, factor: .inf}]", "$.faults[0].factor"),
        (b"faults: [{kind: slow, at_seconds: .nan}]", "$.faults[0].at_seconds"),
        (b'{"faults": [], "more": 1}', "more"),
        (b"a: 2001-99-99", "month must be in 1..12"),
        (b"&a [*a]", "Expected `object`, got `array`"),
        (b"!!python/object/apply:os.system [id]", "could not determine a constructor"),
        (b"- " * 5000 + b"1", "nesting"),
        (b"[" * 200 + b"]" * 200, "levels of nesting"),
    ],
)
def test_a_malformed_plan_is_refused_and_changes_nothing(
    server: ServerHandle, body: bytes, says: str
) -> None:
    """With one sentence that says what is wrong."""
    server.faults.set([{"kind": "slow"}])
    before = server.faults.plan
    answer = _admin(server, "PUT", "/faults", body)
    assert answer.status == 400
    assert says in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert list(answer.json) == ["error"]
    assert server.faults.plan == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_no_body_gets_anything_but_an_answer(server: ServerHandle, body: bytes) -> None:
    """Whatever it is: a plan or 400 with one sentence, never another status."""
    for method, path in (("PUT", "/faults"), ("POST", "/clock"), ("POST", "/crash")):
        answer = _admin(server, method, path, body)
        assert answer.status in {200, 400}
        assert answer.json if answer.status == 200 else isinstance(answer.json["error"], str)


def test_a_body_that_is_too_long_is_refused(server: ServerHandle) -> None:
    """Before it is parsed."""
    answer = _admin(server, "PUT", "/faults", b" " * (1024 * 1024 + 1))
    assert answer.status == 413
    assert "longer than 1048576 bytes" in answer.json["error"]


def test_a_crash_is_now_and_lasts_as_long_as_ordered(server: ServerHandle) -> None:
    """Connections break and are refused, the admin port answers on; then it serves again with nothing in work."""
    with completion(server, stream=True, max_tokens=500) as stream:
        server.wait_for_requests(1)
        server.clock.advance(1)
        assert _admin(server, "POST", "/crash", {"down_seconds": 2.5}).json == {
            "at_seconds": 1.0,
            "down_seconds": 2.5,
        }
        assert stream.is_broken()
    with pytest.raises(ConnectionRefusedError):
        ask(server.url, "/health")
    state = _admin(server, "GET", "/state").json
    assert (state["is_accepting"], state["unfinished"]) == (False, 0)
    server.clock.advance(2.5)
    assert ask(server.url, "/health").status == 200
    assert complete(server).status == 200


def test_a_crash_needs_no_body_and_may_be_repeated(server: ServerHandle) -> None:
    """It lasts 10 seconds then; a second one at the same moment is a crash of its own."""
    for _ in range(2):
        assert _admin(server, "POST", "/crash").json["down_seconds"] == 10
    server.clock.advance(10)
    assert ask(server.url, "/health").status == 200
    assert server.metrics().total("understudy:faults_injected_total", kind="crash") == 2


def test_a_crash_where_no_time_passes_has_its_seconds_all_the_same() -> None:
    """They are the wall's; the plan may end it sooner."""
    with start_server("--admin-port", "0", clock="free") as server:
        assert _admin(server, "POST", "/crash", {"down_seconds": 500}).json["down_seconds"] == 500
        with pytest.raises(ConnectionRefusedError):
            ask(server.url, "/health")
        _admin(server, "DELETE", "/faults")
        assert completion(server).finish().status == 200
        assert server.metrics().total("understudy:faults_injected_total", kind="crash") == 1


def test_a_fault_without_a_time_begins_when_it_is_put(server: ServerHandle) -> None:
    """It is shown with the time; what was put before keeps its own."""
    server.clock.advance(7)
    put = _admin(server, "PUT", "/faults", {"faults": [{"kind": "refuse", "for_seconds": 5}]})
    assert put.json["faults"][0]["at_seconds"] == 7
    with pytest.raises(ConnectionRefusedError):
        ask(server.url, "/health")
    server.clock.advance(1)
    _admin(server, "POST", "/crash")
    assert [fault["at_seconds"] for fault in _admin(server, "GET", "/faults").json["faults"]] == [7, 8]


@pytest.mark.parametrize("clock", ["free", "real", "manual"])
def test_a_plan_given_at_the_start_begins_at_0(tmp_path: Path, clock: ClockKind) -> None:
    """Exactly, whatever the clock has come to by then."""
    path = tmp_path / "plan.yaml"
    path.write_text("faults: [{kind: error}, {kind: slow, at_seconds: 3}]", encoding="utf-8")
    with start_server("--faults", str(path), clock=clock) as server:
        assert [fault.at_seconds for fault in server.faults.plan.faults] == [0, 3]


def test_a_crash_by_order_leaves_those_planned_for_later(server: ServerHandle) -> None:
    """Only crashes that are over are forgotten."""
    server.faults.set([{"kind": "crash", "at_seconds": 60}])
    for _ in range(3):
        _admin(server, "POST", "/crash", {"down_seconds": 1})
        server.clock.advance(2)
    assert [fault.at_seconds for fault in server.faults.plan.faults] == [60, 4]


def test_deleting_the_plan_ends_a_crash(server: ServerHandle) -> None:
    """What refuses connections is part of the plan."""
    _admin(server, "POST", "/crash", {"down_seconds": 1e6})
    _admin(server, "DELETE", "/faults")
    assert ask(server.url, "/health").status == 200


def test_the_clock_is_moved_and_what_is_due_is_written(server: ServerHandle) -> None:
    """By the seconds ordered, as by the handle."""
    with completion(server) as request:
        server.wait_for_requests(1)
        assert _admin(server, "POST", "/clock", {"advance_seconds": 1.5}).json == {"now_seconds": 1.5}
        assert request.finish().status == 200
    assert server.clock.now_seconds == 1.5


@pytest.mark.parametrize(
    "order", [b"", b"{}", {"advance_seconds": -1}, {"advance_seconds": "1"}, {"seconds": 1}, b"1e999", b"[]"]
)
def test_a_malformed_order_is_refused(server: ServerHandle, order: object) -> None:
    """The sentence says what is accepted."""
    answer = _admin(server, "POST", "/clock", order)
    assert answer.status == 400
    assert "accepted is a JSON object with advance_seconds" in answer.json["error"]
    assert server.clock.now_seconds == 0


@pytest.mark.parametrize("kind", ["free", "real"])
def test_a_clock_that_moves_by_itself_is_not_moved(kind: str) -> None:
    """It is a conflict, and the sentence says why."""
    with start_server("--admin-port", "0", clock=kind) as server:  # type: ignore[arg-type]  # one of them
        answer = _admin(server, "POST", "/clock", {"advance_seconds": 1})
        assert answer.status == 409
        assert "manual" in answer.json["error"]


def test_the_state_is_that_of_now() -> None:
    """Queue, running requests, KV use and time, of each engine and in all."""
    with manual_server("--admin-port", "0", "--max-num-seqs", "2", data_parallel_size=2) as server:
        idle = _admin(server, "GET", "/state").json
        assert idle | {"connections": 0} == {
            "now_seconds": 0.0,
            "lag_seconds": 0.0,
            "is_accepting": True,
            "connections": 0,
            "running": 0,
            "waiting": 0,
            "unfinished": 0,
            "engines": [{"running": 0, "waiting": 0, "kv_cache_usage": 0.0}] * 2,
        }
        exchanges = [completion(server, prompt=[number] * 100, max_tokens=100) for number in range(8)]
        server.wait_for_requests(8)
        server.clock.advance(0.1)
        busy = _admin(server, "GET", "/state").json
        assert (busy["running"], busy["waiting"], busy["unfinished"]) == (4, 4, 8)
        assert busy["now_seconds"] == 0.1
        assert all(engine["kv_cache_usage"] > 0 for engine in busy["engines"])
        assert busy["connections"] == 8
        server.clock.run_until_idle()
        for exchange in exchanges:
            exchange.close()


@pytest.mark.parametrize("flags", [(), ("--admin-port", "0")])
def test_a_server_opens_the_port_for_as_long_as_it_runs(flags: tuple[str, ...]) -> None:
    """Beside its own; without the flag there is none."""

    async def main() -> tuple[int | None, int | None]:
        async with serving(*flags) as served:
            timetable = FaultTimetable(served.worker, served.running, application)
            async with admin_listener(served.worker, served.running, timetable) as listener:
                if listener is None:
                    return None, None
                url = f"http://127.0.0.1:{listener.port}"
                async with served.session.get(f"{url}/state") as answer:
                    status = answer.status
            with pytest.raises(aiohttp.ClientConnectorError):
                await served.session.get(f"{url}/state")
            return status, listener.port

    status, port = asyncio.run(main())
    assert (status == 200) is (port is not None) is bool(flags)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("127.0.0.1:1", 200),
        ("127.8.9.10", 200),
        ("[::1]:5", 200),
        ("evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("0.0.0.0", 403),  # noqa: S104 - it is turned away
        ("192.168.0.1", 403),
        ("[::2]", 403),
        ("", 403),
    ],
)
def test_who_names_another_host_is_turned_away(server: ServerHandle, host: str, status: int) -> None:
    """A DNS name that was rebound to this machine shows in the Host header."""
    answer = _admin(server, "GET", "/state", Host=host)
    assert answer.status == status
    if status == 403:
        assert "Host" in answer.json["error"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_pages_of_other_sites_are_turned_away(server: ServerHandle, origin: str, method: str) -> None:
    """A browser tells where a request comes from; nothing is done, and no CORS header lets the page read on."""
    answer = _admin(server, method, "/crash", b"", Origin=origin)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert server.faults.plan == FaultPlan()


def test_errors_are_json(server: ServerHandle) -> None:
    """Unknown paths and methods too; the methods that there are are named."""
    answer = _admin(server, "GET", "/nowhere")
    assert (answer.status, list(answer.json)) == (404, ["error"])
    answer = _admin(server, "POST", "/faults", {})
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PUT")
    assert answer.json == {"error": "/faults accepts DELETE, GET, PUT"}


def test_a_reset_keeps_the_admin_port_and_gives_it_the_new_server(server: ServerHandle) -> None:
    """What is ordered afterwards strikes the server of now."""
    before = server.admin_url
    _admin(server, "PUT", "/faults", {"faults": [{"kind": "slow"}]})
    server.reset()
    assert server.admin_url == before
    assert _admin(server, "GET", "/faults").json == EMPTY
    _admin(server, "PUT", "/faults", json.dumps({"faults": [{"kind": "error"}]}).encode())
    assert completion(server).finish().status == 500


@given(name=st.from_regex(r"[a-z0-9.:\[\]-]{0,30}", fullmatch=True))
def test_only_addresses_of_this_machine_are_loopback(name: str) -> None:
    """Anything that is neither localhost nor an address in a loopback network is not."""
    host = name.rpartition("]")[0].removeprefix("[") if name.startswith("[") else name.partition(":")[0]
    if is_loopback(name):
        assert host == "localhost" or host.startswith("127.") or set(host) <= set("01:") or "ffff" in host
