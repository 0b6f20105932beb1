"""How many requests may be tried again at the same time, so that retries do not bury workers that are overloaded."""

MIN_RETRIES = 3
RETRY_PERCENT = 20
"""Envoy's retry budget: 20 % of the active requests, and 3 in any case."""


class RetryBudget:
    """Counts the requests that clients wait for, and those of them that are being tried again.

    A retry begins only if, with it, they are no more than `percent` of the requests, or `min_retries`.
    """

    def __init__(self, min_retries: int = MIN_RETRIES, percent: int = RETRY_PERCENT) -> None:
        self.active_requests = 0
        self.active_retries = 0
        self._min_retries = min_retries
        self._percent = percent

    def request_began(self) -> None:
        """Note a client's request."""
        self.active_requests += 1

    def request_ended(self) -> None:
        """Note that a client's request is over, however it was answered, its retries before it."""
        assert self.active_requests > 0
        self.active_requests -= 1

    def try_retry(self) -> bool:
        """Begin a retry, to be ended by `retry_ended`, if the budget has room for one; return whether it has."""
        if self.active_retries >= max(self._min_retries, self.active_requests * self._percent // 100):
            return False
        self.active_retries += 1
        return True

    def retry_ended(self) -> None:
        """Note that a retry is over, however it went."""
        assert self.active_retries > 0
        self.active_retries -= 1
