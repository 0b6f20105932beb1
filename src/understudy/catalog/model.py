"""Model: what a Hugging Face config.json says about a model's size, and nothing of how fast it runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from understudy.catalog.attention import Attention
from understudy.catalog.feed_forward import FeedForward, MixtureOfExperts
from understudy.catalog.matrix import Matrix
from understudy.catalog.quantisation import Quantisation

BYTES_PER_VALUE = 2
"""Size of a float16 or bfloat16: vLLM serves a float32 model in bfloat16 unless told otherwise."""

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder model: sizes in numbers of values or tokens.

    `max_position_embeddings` is the longest context that vLLM accepts, with the factor of RoPE scaling in it;
    `default_max_model_len` the one that it takes if not told. `feed_forwards` holds one entry a layer.
    `stated_weight_bytes` is the size of the published checkpoint, where the config gives it. `notes` are sentences on
    what the figures leave out.
    """

    name: str
    source: str
    vocab_size: int
    hidden_size: int
    max_position_embeddings: int
    default_max_model_len: int
    tie_word_embeddings: bool
    attention: Attention
    feed_forwards: tuple[FeedForward, ...] = field(repr=False)
    norms_per_layer: int = 2
    quantisation: Quantisation | None = None
    stated_weight_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers."""
        return len(self.feed_forwards)

    @property
    def num_parameters(self) -> int:
        """All weights: embedding, layers with their norms, the last norm, the output unless tied."""
        embeddings = self._embedding_parameters * (1 if self.tie_word_embeddings else 2)
        matrices = sum(matrix.num_parameters for matrix in self._matrices(experts_only=False))
        others = sum(layer.num_other_parameters for layer in self.feed_forwards)
        return embeddings + matrices + others + self._small_parameters

    @property
    def num_active_parameters(self) -> int:
        """Weights that a prompt's token is multiplied with: neither embedding, output nor experts of other tokens."""
        attention = sum(matrix.num_parameters for matrix in self.attention.matrices) * self.num_hidden_layers
        active = sum(layer.num_active_parameters for layer in self.feed_forwards)
        return attention + active + self._small_parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights on all GPUs together."""
        if self.stated_weight_bytes is not None:
            return self.stated_weight_bytes
        corrections = sum(
            layer.num_experts
            for layer in self.feed_forwards
            if isinstance(layer, MixtureOfExperts) and layer.score_correction
        )
        plain = self.num_parameters * BYTES_PER_VALUE + corrections * (_FLOAT32_BYTES - BYTES_PER_VALUE)
        if self.quantisation is None:
            return plain
        return plain - sum(
            matrix.num_parameters * BYTES_PER_VALUE - self.quantisation.matrix_bytes(matrix)
            for matrix in self._matrices(experts_only=self.quantisation.experts_only)
        )

    @property
    def step_bytes(self) -> int:
        """Bytes that a busy step reads: all weights but the embedding, of which it looks up a row for each token.

        A tied embedding is read: it is the output as well.
        """
        if self.tie_word_embeddings:
            return self.weight_bytes
        return max(0, self.weight_bytes - self._embedding_parameters * BYTES_PER_VALUE)

    @property
    def active_width(self) -> int:
        """Width of the widest feed-forward layer, as one token meets it."""
        return max(layer.active_width for layer in self.feed_forwards)

    @property
    def _embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def _small_parameters(self) -> int:
        """Norms, and what attention has besides its matrices."""
        layer = self.attention.num_other_parameters + self.norms_per_layer * self.hidden_size
        return self.num_hidden_layers * layer + self.hidden_size

    def _matrices(self, *, experts_only: bool) -> Iterator[Matrix]:
        for layer in self.feed_forwards:
            if not experts_only or isinstance(layer, MixtureOfExperts):
                yield from layer.matrices
            if not experts_only:
                yield from self.attention.matrices
