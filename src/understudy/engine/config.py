"""EngineConfig: what vLLM's flags decide about scheduling and the KV cache, under vLLM's names."""

from dataclasses import dataclass
from typing import Literal

from understudy.errors import UsageError

SchedulingPolicy = Literal["fcfs", "priority"]
HashAlgorithm = Literal["sha256", "sha256_cbor", "xxhash", "xxhash_cbor"]

POLICIES: tuple[SchedulingPolicy, ...] = ("fcfs", "priority")
HASH_ALGORITHMS: tuple[HashAlgorithm, ...] = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of one engine; defaults are those of vLLM 0.33 where it has one.

    `num_gpu_blocks` counts the null block, so one block less can hold tokens. Raises UsageError, in vLLM's
    own terms, for values that vLLM refuses at start.
    """

    num_gpu_blocks: int
    max_model_len: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_num_scheduled_tokens: int | None = None
    max_num_active_seqs: int | None = None
    enable_prefix_caching: bool = True
    prefix_caching_hash_algo: HashAlgorithm = "sha256"
    enable_chunked_prefill: bool = True
    scheduling_policy: SchedulingPolicy = "fcfs"
    async_scheduling: bool = True
    watermark: float = 0.0
    scheduler_reserve_full_isl: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    prefill_schedule_interval: int = 1

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_choices()
        self._check_relations()

    def _check_ranges(self) -> None:
        minima = {
            "num_gpu_blocks": 1,
            "max_model_len": 1,
            "block_size": 1,
            "max_num_seqs": 1,
            "max_num_batched_tokens": 1,
            "max_num_scheduled_tokens": 1,
            "max_num_active_seqs": 1,
            "long_prefill_token_threshold": 0,
            "prefill_schedule_interval": 1,
        }
        for name, least in minima.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        if not 0.0 <= self.watermark < 1.0:
            raise UsageError(f"watermark must be at least 0 and below 1, got {self.watermark}")

    def _check_choices(self) -> None:
        if self.scheduling_policy not in POLICIES:
            raise UsageError(
                f"scheduling_policy must be one of {', '.join(POLICIES)}, got {self.scheduling_policy}"
            )
        if self.prefix_caching_hash_algo not in HASH_ALGORITHMS:
            known = ", ".join(HASH_ALGORITHMS)
            raise UsageError(
                f"prefix_caching_hash_algo must be one of {known}, got {self.prefix_caching_hash_algo}"
            )

    def _check_relations(self) -> None:
        tokens, length = self.max_num_batched_tokens, self.max_model_len
        if tokens < self.max_num_seqs:
            raise UsageError(
                f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs ({self.max_num_seqs})"
            )
        if tokens < length and not self.enable_chunked_prefill:
            raise UsageError(
                f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({length}) and chunked prefill is off: "
                "increase max_num_batched_tokens or decrease max_model_len"
            )
        if self.token_budget < length and not self.enable_chunked_prefill:
            # vLLM starts, and then a prompt above the budget blocks its queue for ever.
            raise UsageError(
                f"max_num_scheduled_tokens ({self.token_budget}) is smaller than max_model_len ({length}) and chunked "
                "prefill is off: a longer prompt could never be scheduled"
            )
        if self.long_prefill_token_threshold > length:
            raise UsageError(
                f"long_prefill_token_threshold ({self.long_prefill_token_threshold}) cannot be greater than "
                f"max_model_len ({length})"
            )
        if self.max_num_active_seqs is not None and self.max_num_active_seqs > self.max_num_seqs:
            raise UsageError(
                f"max_num_active_seqs ({self.max_num_active_seqs}) cannot be greater than max_num_seqs ({self.max_num_seqs})"
            )
        if self.max_num_scheduled_tokens is not None and self.max_num_scheduled_tokens > tokens:
            raise UsageError(
                f"max_num_scheduled_tokens ({self.max_num_scheduled_tokens}) cannot be greater than "
                f"max_num_batched_tokens ({tokens})"
            )

    @property
    def token_budget(self) -> int:
        """Tokens that one step may compute."""
        return self.max_num_scheduled_tokens or self.max_num_batched_tokens

    @property
    def active_seqs_limit(self) -> int:
        """Requests that may run at once."""
        return self.max_num_active_seqs or self.max_num_seqs

    @property
    def pipeline_depth(self) -> int:
        """Steps that may be in flight: asynchronous scheduling decides one step ahead of the GPU."""
        return 2 if self.async_scheduling else 1
