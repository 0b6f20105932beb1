"""A paused scheduler; random pauses are compared with vLLM's in the trials of `understudy verify`, recorded and live."""

from understudy.engine import EngineConfig, Request, Scheduler, StepPlan, TokenPrompt

CONFIG = EngineConfig(num_gpu_blocks=64, max_model_len=256, block_size=4)


def _request(name: str, serial: int) -> Request:
    return Request(name, TokenPrompt([serial] * 10), 20, serial=serial, arrival_time=float(serial))


def _step(scheduler: Scheduler) -> StepPlan:
    plan = scheduler.schedule()
    if not plan.is_empty:
        scheduler.complete(plan, lambda _request, _count: [1])
    scheduler.check_integrity()
    return plan


def test_a_pause_leaves_alone_what_is_in_its_scope() -> None:
    """Of "new" those that wait, of "all" those that run too; both go on where they were."""
    scheduler = Scheduler(CONFIG)
    first, second = _request("a", 1), _request("b", 2)
    scheduler.add(first)
    _step(scheduler)
    scheduler.add(second)
    scheduler.pause = "new"
    assert _step(scheduler).scheduled == {first: 1}
    scheduler.pause = "all"
    assert _step(scheduler).is_empty
    scheduler.pause = "none"
    assert _step(scheduler).scheduled == {first: 1, second: 10}


def test_a_paused_step_tells_whom_a_reset_has_preempted() -> None:
    """At once, as vLLM does, and once."""
    scheduler = Scheduler(CONFIG)
    request = _request("a", 1)
    scheduler.add(request)
    _step(scheduler)
    scheduler.pause = "all"
    assert scheduler.reset_prefix_cache(reset_running_requests=True)
    assert [_step(scheduler).preempted for _ in range(2)] == [[request], []]
    scheduler.pause = "none"
    assert request in _step(scheduler).scheduled
