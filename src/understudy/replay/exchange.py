"""One request under way: what its client has seen so far, and the record of it."""

from dataclasses import dataclass

from understudy.fleet import RequestRecord
from understudy.replay.answer import AnswerReader
from understudy.replay.order import Order
from understudy.replay.record import UNFINISHED, WHOLE, ReplayRecord


@dataclass(slots=True, kw_only=True)
class Exchange:
    """`due_ns` is when the request arrives, by the trace's clock; `status` is unfinished until the answer has ended."""

    order: Order
    due_ns: int
    answer: AnswerReader
    sent_ns: int | None = None
    status: str = UNFINISHED
    worker_name: str | None = None
    reason: str | None = None
    message: str | None = None

    def record(self) -> ReplayRecord:
        """Return the record of the request as it stands; its worker has a name only."""
        answer, request = self.answer, self.order.request
        seen = RequestRecord(
            serial=self.order.serial,
            request_id=request.request_id,
            status=self.status,
            arrival_ns=self.due_ns,
            prompt_tokens=request.prompt.num_tokens,
            output_tokens=answer.output_tokens,
            first_token_ns=answer.first_token_ns,
            finish_ns=answer.last_token_ns if self.status in WHOLE else None,
            cached_tokens=answer.cached_tokens,
            preemptions=None,
            reason=self.reason,
        )
        return ReplayRecord(
            seen=seen,
            sent_ns=self.sent_ns,
            longest_gap_ns=max(answer.inter_token_ns, default=None),
            worker_name=self.worker_name,
            message=self.message,
            simulated=answer.simulated,
        )
