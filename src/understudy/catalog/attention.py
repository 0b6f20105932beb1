"""The two kinds of attention that the catalogue knows: their weights, and what a token leaves in the KV cache."""

from dataclasses import dataclass

from understudy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention:
    """Queries share key and value heads; with as many of these as query heads it is multi-head attention."""

    hidden_size: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights of one layer: projections, biases, norms of queries and keys, one sink for each head."""
        queries = self.num_heads * self.head_dim
        keys_and_values = 2 * self.num_key_value_heads * self.head_dim
        weights = self.hidden_size * (queries + keys_and_values) + queries * self.hidden_size
        weights += (queries + keys_and_values) * self.qkv_bias
        weights += self.hidden_size * self.output_bias
        weights += 2 * self.head_dim * self.qk_norm
        return weights + self.num_heads * self.sinks

    def cached_values_per_token(self, tensor_parallel_size: int) -> int:
        """Return the numbers that one token leaves in one layer's cache on one GPU: its heads' keys and values.

        With more GPUs than key-value heads, heads are replicated, so a GPU never has less than one.
        """
        return max(1, self.num_key_value_heads // tensor_parallel_size) * 2 * self.head_dim

    def check_split(self, tensor_parallel_size: int) -> None:
        """Raise UsageError if the heads cannot be split evenly, as vLLM does."""
        _check_query_heads(self.num_heads, tensor_parallel_size)
        fewer, more = sorted((self.num_key_value_heads, tensor_parallel_size))
        if more % fewer:
            raise UsageError(
                f"tensor_parallel_size ({tensor_parallel_size}) must divide the {self.num_key_value_heads} "
                "key-value heads or be a multiple of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """DeepSeek's multi-head latent attention: one compressed vector a token stands for all keys and values.

    `query_rank` None means that queries are not compressed.
    """

    hidden_size: int
    num_heads: int
    query_rank: int | None
    kv_rank: int
    nope_head_dim: int
    rope_head_dim: int
    value_head_dim: int
    bias: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights of one layer: the projections down to each rank, their norms, the projections up, the output."""
        latent = self.kv_rank + self.rope_head_dim
        weights = self._query_parameters + self.hidden_size * latent + self.kv_rank
        weights += self.kv_rank * self.num_heads * (self.nope_head_dim + self.value_head_dim)
        weights += self.num_heads * self.value_head_dim * self.hidden_size
        return weights + (latent + self.hidden_size) * self.bias

    @property
    def _query_parameters(self) -> int:
        queries = self.num_heads * (self.nope_head_dim + self.rope_head_dim)
        if self.query_rank is None:
            return self.hidden_size * queries
        return self.query_rank * (self.hidden_size + self.bias + 1 + queries)

    def cached_values_per_token(self, tensor_parallel_size: int) -> int:
        """Return the numbers that one token leaves in one layer's cache: every GPU holds the whole vector."""
        del tensor_parallel_size
        return self.kv_rank + self.rope_head_dim

    def check_split(self, tensor_parallel_size: int) -> None:
        """Raise UsageError if the heads cannot be split evenly, as vLLM does."""
        _check_query_heads(self.num_heads, tensor_parallel_size)


Attention = GroupedQueryAttention | LatentAttention


def _check_query_heads(num_heads: int, tensor_parallel_size: int) -> None:
    if tensor_parallel_size < 1 or num_heads % tensor_parallel_size:
        raise UsageError(
            f"tensor_parallel_size ({tensor_parallel_size}) must divide the {num_heads} attention heads"
        )
