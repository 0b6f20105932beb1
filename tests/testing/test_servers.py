"""Servers in process: alone and in fleets, reset and closed."""

import gc
import re
import threading
from pathlib import Path

import pytest
import zmq
from tests.testing.client import ask, complete, completion, manual_fleet, manual_server
from tests.testing.events import read, subscribe

from understudy.errors import UsageError
from understudy.testing import start_fleet
from understudy.testing.loop_thread import THREAD_NAME

UNSTEADY = re.compile(r"^(process_|python_|http_|understudy:)|_created\b")
"""Series that tell of the process, the wall clock and what was asked over HTTP."""


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def _server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def _steady(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not UNSTEADY.search(name)}


def test_two_runs_give_the_same_answers_and_the_same_numbers() -> None:
    """Same flags, requests and moves of the clock: same texts, same metrics, same times."""

    def run() -> tuple[list[str], dict[str, float], float]:
        with manual_server(max_num_seqs=2) as server:
            exchanges = []
            for number in range(4):
                exchanges.append(completion(server, prompt=f"Question {number}", stream=number % 2 == 0))
                server.wait_for_requests(number + 1)
            end_seconds = server.clock.run_until_idle()
            texts = [exchange.finish().text for exchange in exchanges]
            return texts, _steady(server.metrics()), end_seconds

    first, second = run(), run()
    assert first == second
    assert len(set(first[0])) == 4


def test_what_arrives_while_the_clock_stands_arrives_together() -> None:
    """Whatever the order and the gaps outside, equal requests are computed in the same steps."""
    ends = set()
    with manual_server() as server:
        for _ in range(5):
            threads = [threading.Thread(target=lambda: completion(server).finish()) for _ in range(12)]
            for thread in threads:
                thread.start()
            server.wait_for_requests(12)
            ends.add(server.clock.run_until_idle())
            for thread in threads:
                thread.join()
            server.reset()
    assert len(ends) == 1


def test_a_reset_server_is_a_new_server() -> None:
    """Whatever happened before: the same metrics, clock, plan, times and texts as one that has just started."""
    with manual_server() as fresh:
        new_metrics = _steady(fresh.metrics())
        answer = complete(fresh, prompt=[3] * 200)
        after_one = _steady(fresh.metrics()), fresh.clock.now_seconds, answer.text
    with manual_server() as server:
        url = server.url
        for _ in range(2):
            complete(server, prompt=[3] * 200)
            server.faults.set([{"kind": "slow"}, {"kind": "refuse", "at_seconds": 1}])
            with completion(server, prompt=[3] * 200, stream=True) as in_work:
                server.wait_for_requests(2)
                server.clock.advance(10)
                server.reset()
                assert in_work.finish().is_whole
            assert server.url == url
            assert server.requests == ()
            assert server.clock.now_seconds == 0
            assert server.faults.plan.faults == ()
            assert _steady(server.metrics()) == new_metrics
            answer = complete(server, prompt=[3] * 200)
            assert (_steady(server.metrics()), server.clock.now_seconds, answer.text) == after_one
            server.reset()


def test_a_reset_breaks_off_what_is_in_work() -> None:
    """A client that waits is not left waiting, and holds nothing afterwards."""
    with (
        manual_server() as server,
        completion(server, stream=True) as stream,
        completion(server) as whole,
    ):
        server.wait_for_requests(2)
        server.clock.advance(0.001)
        server.reset()
        assert stream.is_broken()
        assert whole.is_broken()
        assert server.clock.run_until_idle() == 0


def test_a_reset_refuses_nobody() -> None:
    """A client that connects all the time, such as a gateway's health check, never finds the port closed."""
    is_over = threading.Event()
    refused: list[ConnectionError] = []

    def probe_all_the_time() -> None:
        while not is_over.is_set():
            try:
                ask(server.url, "/health")
            except ConnectionRefusedError as error:
                refused.append(error)
            except ConnectionError:
                continue

    with manual_server() as server:
        thread = threading.Thread(target=probe_all_the_time)
        thread.start()
        for _ in range(20):
            server.reset()
            assert ask(server.url, "/health").status == 200
        is_over.set()
        thread.join()
    assert refused == []


def test_subscribers_of_events_survive_a_reset(tmp_path: Path) -> None:
    """They hear that all blocks are gone, then of new ones, on the same endpoint and without a gap in the numbers."""
    config = {"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/kv"}
    with (
        manual_server(kv_events_config=config) as server,
        zmq.Context() as context,
        context.socket(zmq.SUB) as subscriber,
    ):
        endpoint = server.kv_events_endpoint
        assert endpoint is not None
        subscribe(subscriber, endpoint, server)
        complete(server, prompt=[5] * 32)
        [(last, _)] = read(subscriber)[-1:]
        server.reset()
        assert server.kv_events_endpoint == endpoint
        complete(server, prompt=[5] * 32)
        batches = read(subscriber)
        assert [sequence for sequence, _ in batches] == list(range(last + 1, last + 1 + len(batches)))
        kinds = [event["type"] for _, events in batches for event in events]
        assert kinds[:2] == ["AllBlocksCleared", "BlockStored"]


def test_a_fleet_shares_one_clock_and_nothing_else() -> None:
    """Requests, caches and faults are each server's own; time passes for all."""
    with manual_fleet(3, "--max-num-seqs", "8") as fleet:
        assert len({server.url for server in fleet}) == 3
        first, second, third = fleet
        first.faults.set([{"kind": "slow", "factor": 2}])
        exchanges = [completion(server, stream=True) for server in fleet]
        for server in fleet:
            server.wait_for_requests(1)
        while exchanges[1].num_events() == 0:
            second.clock.advance(0.001)
        assert exchanges[0].num_events() == 0
        assert exchanges[2].num_events() == 1
        third.clock.run_until_idle()
        assert len({exchange.finish().text for exchange in exchanges}) == 1
        assert len({server.clock.now_seconds for server in fleet}) == 1
        assert [server.metrics().total("vllm:request_success_total") for server in fleet] == [1, 1, 1]


def test_one_of_a_fleet_can_be_reset_or_closed() -> None:
    """The others go on, and so does the clock that they share; one that is alone again has its clock to itself."""
    with manual_fleet(2) as fleet:
        first, second = fleet
        complete(first)
        complete(second)
        now_seconds = first.clock.now_seconds
        first.reset()
        assert first.clock.now_seconds == second.clock.now_seconds == now_seconds
        assert first.requests == ()
        assert len(second.requests) == 1
        first.close()
        first.close()
        assert complete(second).status == 200
        with pytest.raises(ConnectionRefusedError):
            ask(first.url, "/health")
        with pytest.raises(RuntimeError, match="closed"):
            first.reset()
        second.reset()
        assert second.clock.now_seconds == 0


@pytest.mark.parametrize("clock", ["manual", "free", "real"])
def test_a_closed_server_leaves_nothing_behind(clock: str) -> None:
    """No thread, no file, no socket, no task; whatever was in work, and however often it was reset."""
    with manual_server():
        pass
    gc.collect()
    files = _open_files()
    with start_fleet(2, "--admin-port", "0", clock=clock) as fleet:  # type: ignore[arg-type]  # one of them
        assert len(_server_threads()) == 1
        exchanges = [completion(server, stream=True, max_tokens=5000) for server in fleet]
        for server in fleet:
            server.wait_for_requests(1)
        fleet[0].reset()
        exchanges += [completion(server) for server in fleet]
        fleet[0].wait_for_requests(1)
    for exchange in exchanges:
        exchange.close()
    gc.collect()
    assert _server_threads() == []
    assert _open_files() == files
    for server in fleet:
        with pytest.raises(ConnectionRefusedError):
            ask(server.url, "/health")
        with pytest.raises(RuntimeError, match="while it is open"):
            server.metrics()


def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """The error names the address, and no thread is left."""
    with manual_server() as server:
        port = server.url.rpartition(":")[2]
        with (
            pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"),
            manual_server("--port", port),
        ):
            pass
        assert len(_server_threads()) == 1


def test_several_ranks_share_the_clock_and_the_choice_is_the_same_every_time() -> None:
    """Which data-parallel rank gets a request depends on the manual clock, not on the wall's."""

    def run() -> list[float]:
        with manual_server(data_parallel_size=3) as server:
            exchanges = []
            for number in range(6):
                exchanges.append(completion(server, prompt=[number] * (100 * number + 1)))
                server.wait_for_requests(number + 1)
                server.clock.advance(0.04)
            for exchange in exchanges:
                exchange.close()
            return [server.metrics().total("vllm:prompt_tokens_total", engine=str(rank)) for rank in range(3)]

    assert run() == run()


def test_metrics_are_what_the_page_shows() -> None:
    """By the names and labels of the page, and summed up by some of the labels."""
    with manual_server(served_model_name='a "quoted" name') as server:
        complete(server)
        complete(server)
        metrics = server.metrics()
        page = ask(server.url, "/metrics").body.decode()
        name = (
            r'vllm:request_success_total{engine="0",finished_reason="length",model_name="a \"quoted\" name"}'
        )
        assert f"{name} {metrics[name]}" in page
        assert metrics[name] == metrics.total("vllm:request_success_total", finished_reason="length") == 2
        assert metrics.total("vllm:request_success_total") == 2
        with pytest.raises(KeyError, match="no series"):
            metrics.total("vllm:request_success_total", finished_reason="none such")
