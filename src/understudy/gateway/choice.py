"""The decision for one request, with the worker that it means."""

from typing import NamedTuple

from understudy.gateway.member import Member
from understudy.routing import Decision, RoutingRequest


class Choice(NamedTuple):
    """A worker for one attempt of a request, and why."""

    member: Member
    decision: Decision
    request: RoutingRequest
