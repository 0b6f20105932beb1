"""The two kinds of attention that the catalogue knows: their weights, and what a token leaves in the KV cache."""

from dataclasses import dataclass

from understudy.catalog.matrix import Matrix
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
    def matrices(self) -> tuple[Matrix, ...]:
        """The projections of one layer: queries, keys and values, output."""
        queries, keys = self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        return (
            Matrix(self.hidden_size, queries),
            Matrix(self.hidden_size, keys, count=2),
            Matrix(queries, self.hidden_size),
        )

    @property
    def num_other_parameters(self) -> int:
        """Biases, norms of queries and keys, one sink for each head."""
        qkv_bias = (self.num_heads + 2 * self.num_key_value_heads) * self.head_dim * self.qkv_bias
        norms = 2 * self.head_dim * self.qk_norm
        return qkv_bias + self.hidden_size * self.output_bias + norms + self.num_heads * self.sinks

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
    def matrices(self) -> tuple[Matrix, ...]:
        """The projections of one layer: down to each rank, up from it, and the output."""
        queries = self.num_heads * (self.nope_head_dim + self.rope_head_dim)
        values = self.num_heads * self.value_head_dim
        of_queries: tuple[Matrix, ...] = (Matrix(self.hidden_size, queries),)
        if self.query_rank is not None:
            of_queries = (Matrix(self.hidden_size, self.query_rank), Matrix(self.query_rank, queries))
        return (
            *of_queries,
            Matrix(self.hidden_size, self.kv_rank + self.rope_head_dim),
            Matrix(self.kv_rank, self.num_heads * self.nope_head_dim + values),
            Matrix(values, self.hidden_size),
        )

    @property
    def num_other_parameters(self) -> int:
        """A norm for each rank; biases of the projections down and of the output."""
        query_rank = self.query_rank or 0
        biased = query_rank + self.kv_rank + self.rope_head_dim + self.hidden_size
        return query_rank + self.kv_rank + biased * self.bias

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
