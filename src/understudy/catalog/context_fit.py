"""Whether the KV cache holds one request of the longest length, which vLLM demands at start-up."""

from understudy.errors import UsageError


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
            "length: give the KV cache more memory or blocks"
        )
    raise UsageError(
        f"max_model_len ({max_model_len}) needs {needed} KV-cache blocks, but {usable} are usable: lower "
        f"--max-model-len to at most {usable * block_size}, the estimated maximum model length, "
        "or give the KV cache more memory or blocks"
    )
