"""What the emulated model says: generators, structured outputs, tool calls and log probabilities. Pure and seeded."""

from understudy.server.generate.choose import GENERATORS, make_generator
from understudy.server.generate.constraint import Constraint, text_for
from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.hermes import CallPart, CallStream, Parsed, tool_call_text, whole_calls
from understudy.server.generate.keyed_random import keyed_random, prompt_digest, question_key
from understudy.server.generate.log_probabilities import (
    DrawnLogprobs,
    logprob_of,
    logprobs_for,
    prompt_logprobs_for,
)
from understudy.server.generate.output_length import OutputLength, parse_output_length
from understudy.server.generate.question import Answer, Generator, Question
from understudy.server.generate.tool_calls import (
    NamedTool,
    Tool,
    ToolCall,
    ToolChoice,
    tool_calls,
)
from understudy.server.generate.work import MAX_WORK_UNITS, Work

__all__ = [
    "GENERATORS",
    "MAX_WORK_UNITS",
    "Answer",
    "CallPart",
    "CallStream",
    "Constraint",
    "ConstraintError",
    "DrawnLogprobs",
    "Generator",
    "NamedTool",
    "OutputLength",
    "Parsed",
    "Question",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "Work",
    "keyed_random",
    "logprob_of",
    "logprobs_for",
    "make_generator",
    "parse_output_length",
    "prompt_digest",
    "prompt_logprobs_for",
    "question_key",
    "text_for",
    "tool_call_text",
    "tool_calls",
    "whole_calls",
]
