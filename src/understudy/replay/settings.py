"""How a trace is sent."""

from dataclasses import dataclass

from understudy.errors import UsageError

MIN_SPEED = 1e-6
MAX_SPEED = 1e6
MAX_CONNECTIONS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """`speed` trace seconds pass in a second; at most `max_connections` requests are under way at once.

    An answer may take `timeout_seconds` on a clock on the wall, None for ever. Raises UsageError for values out of bounds.
    """

    speed: float = 1.0
    max_connections: int = 1024
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            raise UsageError(
                f"--speed must be a number from {MIN_SPEED:g} to {MAX_SPEED:g}, got {self.speed}"
            )
        if not 1 <= self.max_connections <= MAX_CONNECTIONS:
            raise UsageError(
                f"--max-connections must be from 1 to {MAX_CONNECTIONS:,}, got {self.max_connections}"
            )
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= 1e9:
            raise UsageError(
                f"--timeout-seconds must be a number above 0 and at most 1e9, got {self.timeout_seconds}"
            )
