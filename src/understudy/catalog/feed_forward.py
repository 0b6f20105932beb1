"""The two kinds of feed-forward layer that the catalogue knows: how many weights they have and use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMlp:
    """Gate, up and down projections, all of them used by every token."""

    hidden_size: int
    width: int
    bias: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights of one layer."""
        return 3 * self.hidden_size * self.width + (2 * self.width + self.hidden_size) * self.bias

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token is multiplied with."""
        return self.num_parameters

    @property
    def active_width(self) -> int:
        """Width of what one token is projected to."""
        return self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """A router that sends each token to a few of many experts, beside shared experts that see every token.

    `router_bias` is one number an expert: a bias of the router's output or DeepSeek's correction of its scores.
    """

    expert: GatedMlp
    num_experts: int
    num_experts_per_token: int
    num_shared_experts: int = 0
    router_bias: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights of one layer."""
        return self._parameters(self.num_experts)

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token is multiplied with."""
        return self._parameters(self.num_experts_per_token)

    @property
    def active_width(self) -> int:
        """Width of what one token is projected to, over all the experts that it meets."""
        return (self.num_experts_per_token + self.num_shared_experts) * self.expert.width

    def _parameters(self, experts: int) -> int:
        router = self.num_experts * (self.expert.hidden_size + self.router_bias)
        return router + (experts + self.num_shared_experts) * self.expert.num_parameters


FeedForward = GatedMlp | MixtureOfExperts
