"""RetryBudget: never more retries at a time than it says."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.routing import RetryBudget


class RetryBudgetMachine(RuleBasedStateMachine):
    """Requests come, are tried again, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.retries = 0

    @initialize(requests=st.integers(0, 60))
    def begin(self, requests: int) -> None:
        """Start with some requests."""
        self.budget = RetryBudget()
        for _ in range(requests):
            self.budget.request_began()
        self.requests = requests

    @rule()
    def request_began(self) -> None:
        """Take a request."""
        self.budget.request_began()
        self.requests += 1

    @precondition(lambda self: self.requests > self.retries)
    @rule()
    def request_ended(self) -> None:
        """End a request that is not being tried again."""
        self.budget.request_ended()
        self.requests -= 1

    @rule(times=st.integers(1, 20))
    def try_retries(self, times: int) -> None:
        """Try again as often as the budget allows: it allows a retry exactly if its law still holds with it."""
        for _ in range(times):
            allowed = self.retries + 1 <= max(3, self.requests * 0.2)
            assert self.budget.try_retry() == allowed
            self.retries += allowed

    @precondition(lambda self: self.retries)
    @rule()
    def retry_ended(self) -> None:
        """End a retry."""
        self.budget.retry_ended()
        self.retries -= 1

    @invariant()
    def counts_agree(self) -> None:
        """Count what there is."""
        assert (self.budget.active_requests, self.budget.active_retries) == (self.requests, self.retries)


RetryBudgetMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_the_budget_is_never_exceeded = RetryBudgetMachine.TestCase
