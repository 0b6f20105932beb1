"""Laws of reading a worker's load from its page of metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.gateway.worker_load import WorkerLoad, read_load

ENGINES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1)), min_size=1, max_size=4
)
LABELS = st.sampled_from(
    ['{engine="%d",model_name="m"}', '{engine="%d",model_name="a} 7 {b"}', '{model_name="x\\"}",engine="%d"}']
)


def page(
    engines: list[tuple[int, int, float]], labels: str, kv_name: str = "vllm:kv_cache_usage_perc"
) -> bytes:
    """Return a page as vLLM writes it."""
    lines = ["# HELP vllm:num_requests_running Number of requests in model execution batches."]
    lines.append("# TYPE vllm:num_requests_running gauge")
    for place, name in enumerate(("vllm:num_requests_running", "vllm:num_requests_waiting", kv_name)):
        lines += [f"{name}{labels % rank} {float(engine[place])}" for rank, engine in enumerate(engines)]
        lines.append(f"{name}_by_reason{labels % 0} 12345.0")
    lines.append(f"vllm:num_requests_total{labels % 0} 777.0")
    return "\n".join(lines).encode() + b"\n"


@given(
    engines=ENGINES,
    labels=LABELS,
    kv_name=st.sampled_from(["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]),
)
def test_engines_add_up(engines: list[tuple[int, int, float]], labels: str, kv_name: str) -> None:
    """Requests are summed, use of the cache is averaged; other series, however alike their names, do not count."""
    load = read_load(page(engines, labels, kv_name))
    assert load is not None
    running, waiting, usages = zip(*engines, strict=True)
    assert load[:2] == (sum(running), sum(waiting))
    assert load.kv_usage == pytest.approx(sum(usages) / len(usages))


def test_the_first_line_and_the_last_count() -> None:
    """Also without labels, with times, and without a line's end."""
    text = b"vllm:num_requests_running 1 1700\nvllm:kv_cache_usage_perc 0.5\nvllm:num_requests_waiting 2.0"
    assert read_load(text) == WorkerLoad(1, 2, 0.5)


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "many", "", "1e400"])
@pytest.mark.parametrize("place", range(3))
def test_nonsense_is_no_load(value: str, place: int) -> None:
    """A number that cannot be makes the whole page worthless."""
    values = ["1", "2", "0.5"]
    values[place] = value
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    text = "".join(f'{name}{{engine="0"}} {each}\n' for name, each in zip(names, values, strict=True))
    assert read_load(text.encode()) is None


def test_more_than_the_whole_cache_cannot_be_in_use() -> None:
    """The share is at most 1."""
    assert read_load(page([(1, 1, 1.0)], '{engine="%d"}').replace(b" 1.0", b" 1.5")) is None


@given(text=st.binary(max_size=100) | st.text().map(str.encode))
def test_any_other_page_tells_nothing(text: bytes) -> None:
    """Whatever a worker sends."""
    assert read_load(text) is None
