"""Matrix: the shape of a linear layer's weights, which is what quantisation goes by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matrix:
    """`count` equal matrices that turn `inputs` values into `outputs`."""

    inputs: int
    outputs: int
    count: int = 1

    @property
    def num_parameters(self) -> int:
        """Weights of all of them."""
        return self.inputs * self.outputs * self.count
