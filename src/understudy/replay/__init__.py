"""A workload sent to real servers, in real time: what their clients see, in the form of a simulation's results."""

from understudy.replay.client import open_session
from understudy.replay.endpoint import Endpoint, Served, ask_served, endpoint
from understudy.replay.notes import notes_on_replay
from understudy.replay.open_files import allow_connections
from understudy.replay.prompt_tokens import PromptTokens
from understudy.replay.record import ReplayRecord
from understudy.replay.replay import Replay
from understudy.replay.settings import ReplaySettings
from understudy.replay.summarise import Findings, findings
from understudy.replay.survey import Survey, survey

__all__ = [
    "Endpoint",
    "Findings",
    "PromptTokens",
    "Replay",
    "ReplayRecord",
    "ReplaySettings",
    "Served",
    "Survey",
    "allow_connections",
    "ask_served",
    "endpoint",
    "findings",
    "notes_on_replay",
    "open_session",
    "survey",
]
