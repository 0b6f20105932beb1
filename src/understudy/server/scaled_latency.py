"""A latency model that can be slowed down while it runs."""

from collections.abc import Callable, Sequence

from understudy.latency import LatencyModel, StepShape


class ScaledLatency:
    """What another model says, times a factor that is asked for at every step."""

    def __init__(self, model: LatencyModel, factor: Callable[[], float]) -> None:
        self._model = model
        self._factor = factor

    def step_ns(self, shape: StepShape) -> int:
        """Return how long a step of this shape takes now."""
        return round(self._model.step_ns(shape) * self._factor())

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> Sequence[int]:
        """Return the durations of steps that only decode, at the factor of now."""
        factor = self._factor()
        return [
            round(duration_ns * factor)
            for duration_ns in self._model.decode_steps_ns(num_decodes, context_tokens, count)
        ]
