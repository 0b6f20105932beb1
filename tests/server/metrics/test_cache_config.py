"""The labels of the cache's configuration follow from an engine's configuration."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import EngineConfig
from understudy.server.metrics import cache_config_labels


@given(
    num_gpu_blocks=st.integers(1, 10**6),
    max_model_len=st.integers(1, 10**6),
    block_size=st.sampled_from((1, 8, 16, 32, 64, 128)),
    num_engines=st.integers(1, 16),
)
def test_capacity_is_that_of_the_blocks(
    num_gpu_blocks: int, max_model_len: int, block_size: int, num_engines: int
) -> None:
    """As many full contexts as the blocks hold; blocks are summed over engines, tokens are those of one."""
    config = EngineConfig(num_gpu_blocks=num_gpu_blocks, max_model_len=max_model_len, block_size=block_size)
    labels = cache_config_labels(config, num_engines=num_engines)
    assert int(labels["num_gpu_blocks"]) == num_gpu_blocks * num_engines
    concurrency = float(labels["kv_cache_max_concurrency"])
    blocks_per_request = -(-max_model_len // block_size)
    assert concurrency == num_gpu_blocks / blocks_per_request
    assert int(labels["kv_cache_size_tokens"]) <= num_gpu_blocks * block_size
    assert abs(int(labels["kv_cache_size_tokens"]) - concurrency * max_model_len) <= 1


@given(utilization=st.sampled_from((1, 0.9, 0.92)), cache_dtype=st.sampled_from(("auto", "fp8")))
def test_flags_stand_in_their_labels(utilization: float, cache_dtype: str) -> None:
    """A share is written as a float even where it is whole."""
    config = EngineConfig(num_gpu_blocks=10, max_model_len=16)
    labels = cache_config_labels(config, gpu_memory_utilization=utilization, cache_dtype=cache_dtype)
    assert labels["gpu_memory_utilization"] == repr(float(utilization))
    assert labels["cache_dtype"] == cache_dtype
