"""The two kinds of feed-forward layer that the catalogue knows: how many weights they have and use."""

from dataclasses import dataclass, replace

from understudy.catalog.matrix import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMlp:
    """Gate, up and down projections, all of them used by every token."""

    hidden_size: int
    width: int
    bias: bool = False

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Gate and up, and down."""
        return Matrix(self.hidden_size, self.width, count=2), Matrix(self.width, self.hidden_size)

    @property
    def num_other_parameters(self) -> int:
        """Biases."""
        return (2 * self.width + self.hidden_size) * self.bias

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token is multiplied with."""
        return sum(matrix.num_parameters for matrix in self.matrices) + self.num_other_parameters

    @property
    def active_width(self) -> int:
        """Width of what one token is projected to."""
        return self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """A router that sends each token to a few of many experts, beside shared experts that see every token.

    `router_bias` says that the router's output has a bias; `score_correction` that its scores have one, as
    DeepSeek's, which is kept in float32.
    """

    expert: GatedMlp
    num_experts: int
    num_experts_per_token: int
    num_shared_experts: int = 0
    router_bias: bool = False
    score_correction: bool = False

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of all experts; the router is none of them, as nobody quantises it."""
        experts = self.num_experts + self.num_shared_experts
        return tuple(replace(matrix, count=matrix.count * experts) for matrix in self.expert.matrices)

    @property
    def num_other_parameters(self) -> int:
        """The router, with its bias and correction, and the experts' biases."""
        experts = self.num_experts + self.num_shared_experts
        return self._router_parameters + experts * self.expert.num_other_parameters

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token is multiplied with."""
        experts = self.num_experts_per_token + self.num_shared_experts
        return self._router_parameters + experts * self.expert.num_active_parameters

    @property
    def active_width(self) -> int:
        """Width of what one token is projected to, over all the experts that it meets."""
        return (self.num_experts_per_token + self.num_shared_experts) * self.expert.width

    @property
    def _router_parameters(self) -> int:
        return self.num_experts * (self.expert.hidden_size + self.router_bias + self.score_correction)


FeedForward = GatedMlp | MixtureOfExperts
