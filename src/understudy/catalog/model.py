"""Model: what a Hugging Face config.json says about a model's size, and nothing of how fast it runs."""

from dataclasses import dataclass, field
from typing import Literal

from understudy.catalog.attention import Attention
from understudy.catalog.feed_forward import FeedForward

Dtype = Literal["float16", "bfloat16"]

BYTES_PER_VALUE = 2
"""Size of a float16 or bfloat16: vLLM serves a float32 model in bfloat16 unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder model: sizes in numbers of values or tokens, `dtype` the type in which vLLM computes it.

    `feed_forwards` holds one entry a layer. `weight_bytes` is the size of the published checkpoint where its
    weights are quantised (`quant_method`, such as fp8), else the parameters in `dtype`. `notes` are sentences on what the figures leave out.
    """

    name: str
    source: str
    hugging_face_id: str | None
    dtype: Dtype
    vocab_size: int
    hidden_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool
    attention: Attention
    feed_forwards: tuple[FeedForward, ...] = field(repr=False)
    quant_method: str | None = None
    quantised_weight_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers."""
        return len(self.feed_forwards)

    @property
    def num_parameters(self) -> int:
        """All weights: embedding, layers with their two norms, the last norm, the output unless tied."""
        return self._parameters(sum(layer.num_parameters for layer in self.feed_forwards))

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token uses: all but those of the experts that it is not sent to."""
        return self._parameters(sum(layer.num_active_parameters for layer in self.feed_forwards))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights on all GPUs together."""
        return self.quantised_weight_bytes or self.num_parameters * BYTES_PER_VALUE

    @property
    def active_width(self) -> int:
        """Width of the widest feed-forward layer, as one token meets it."""
        return max(layer.active_width for layer in self.feed_forwards)

    def _parameters(self, feed_forward: int) -> int:
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        layers = self.num_hidden_layers * (self.attention.num_parameters + 2 * self.hidden_size)
        return embeddings + layers + feed_forward + self.hidden_size
