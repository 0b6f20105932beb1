"""The router's connections to one worker: made when needed, kept for the next request, and read without a task of their own."""

from understudy.gateway.upstream.address import WorkerAddress
from understudy.gateway.upstream.answer import AnswerHead, Failure, Receiver
from understudy.gateway.upstream.connection import UpstreamConnection
from understudy.gateway.upstream.pool import ConnectFailedError, Upstream

__all__ = [
    "AnswerHead",
    "ConnectFailedError",
    "Failure",
    "Receiver",
    "Upstream",
    "UpstreamConnection",
    "WorkerAddress",
]
