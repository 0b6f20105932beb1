"""Whether the KV cache holds one request of the longest length, which vLLM demands at start-up."""

from understudy.errors import UsageError

_MORE_ROOM = (
    "raise --gpu-memory-utilization, --kv-cache-memory-bytes or --num-gpu-blocks-override, whichever is set"
)


def longest_that_fits(num_gpu_blocks: int, block_size: int) -> int:
    """Return the most tokens of one request that all blocks but the null block hold."""
    return (num_gpu_blocks - 1) * block_size


def check_context_fits(num_gpu_blocks: int, block_size: int, max_model_len: int) -> None:
    """Raise UsageError unless all blocks but the null block hold one request of max_model_len tokens.

    The error names the longest context that would fit, as vLLM does.
    """
    usable = num_gpu_blocks - 1
    needed = -(-max_model_len // block_size)
    if needed <= usable:
        return
    if usable < 1:
        raise UsageError(
            f"max_model_len ({max_model_len}) needs {needed} KV-cache blocks, but none is usable, whatever the "
            f"length: {_MORE_ROOM}"
        )
    raise UsageError(
        f"max_model_len ({max_model_len}) needs {needed} KV-cache blocks, but {usable} are usable: lower "
        f"--max-model-len to at most {longest_that_fits(num_gpu_blocks, block_size)}, the estimated maximum model "
        f"length, or {_MORE_ROOM}"
    )
