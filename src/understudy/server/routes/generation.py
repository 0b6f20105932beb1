"""What completions and chats share: from a prepared request to its answer, whole or streamed.

(vllm/entrypoints/generate/base/serving.py, 0.33.0)
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from understudy.server.context import ServerContext
from understudy.server.engine_clock import NS_PER_SECOND
from understudy.server.event_stream import EventStream
from understudy.server.faults import RequestFaults
from understudy.server.frontend import EngineDiedError, QueueFullError
from understudy.server.orders import OrderedSample
from understudy.server.power import POWER, PausedError
from understudy.server.routes.info import SERVER_LOAD
from understudy.server.routes.weights import WEIGHTS
from understudy.server.sample import Generation, Sample
from understudy.server.streamed_answer import EventWriter, StreamedAnswer
from understudy.wire.chat import ChatRequest
from understudy.wire.completions import CompletionRequest
from understudy.wire.errors import ApiError, internal, overloaded, refusal
from understudy.wire.usage import RequestMetrics, Usage, request_metrics

_log = logging.getLogger(__name__)

JSON_HEADERS = {"Content-Type": "application/json"}
STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}

_QUEUE_FULL = {
    "max_num_queued_reqs": "The engine is currently busy and cannot accept new requests. Please try again later or on"
    " a different instance.",
    "max_num_queued_tokens": "The engine has reached its prefill token backlog limit. Please try again later or on a"
    " different instance.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationJob:
    """A request that has passed every check that can be made before an engine sees it.

    `orders` makes those that vLLM makes when the engine takes it, and may raise ApiError. `body` builds a whole answer,
    `error_event` what tells of an error in a stream and ends it, `opening` what a stream has before any token.
    `orders` and `body` are made in a thread where they may take long, so that steps are not held up.
    """

    request_id: str
    arrival_ns: int
    orders: Callable[[], Sequence[OrderedSample]]
    body: Callable[[Generation], bytes]
    writer: EventWriter
    error_event: Callable[[ApiError], bytes]
    is_streamed: bool
    orders_take_long: bool
    body_takes_long: bool
    rank: int | None
    opening: Callable[[], bytes] = bytes


def given_id(wanted: BaseModel) -> str | None:
    """Return the id that a body gives, an empty one too; None if it gives none."""
    return wanted.request_id if "request_id" in wanted.model_fields_set else None  # type: ignore[attr-defined] # all have it


def request_id_of(request: web.Request, prefix: str, given: str | None) -> str:
    """Return the id of an answer: from the header, from the body, or at random."""
    own = request.headers.get("X-Request-Id", given)
    return prefix + (secrets.token_hex(8) if own is None else own)


def weight_version_of(request: web.Request, wanted: CompletionRequest | ChatRequest) -> str | None:
    """Return the version of the weights, where the request asks for it."""
    return request.app[WEIGHTS].version if wanted.return_weight_versions else None


def weight_versions(version: str | None, sample: Sample) -> list[dict[str, Any]] | None:
    """Return which tokens of an answer the weights of which version made: ours never change in between."""
    return None if version is None else [{"version": version, "start": 0, "end": sample.num_generated}]


def priority_of(request: web.Request, given: int) -> int:
    """Return the urgency of a request; a header that is no number does not count."""
    try:
        return int(request.headers["X-Vllm-Priority"])
    except (KeyError, ValueError):
        return given


def rank_of(request: web.Request) -> int | None:
    """Return the data-parallel rank that a header asks for; one that is no number does not count."""
    try:
        return int(request.headers["X-data-parallel-rank"])
    except (KeyError, ValueError):
        return None


def check_queue(context: ServerContext, num_samples: int) -> None:
    """Raise ApiError where the engine is dead, or a limit of the queue would be exceeded."""
    try:
        context.frontend.check_admission(num_samples)
    except EngineDiedError as error:
        raise internal(str(error)) from None
    except QueueFullError as error:
        raise overloaded(_QUEUE_FULL[error.limit]) from None


def injected_faults(context: ServerContext, body: bytes) -> RequestFaults:
    """Return what is to go wrong with a request; raises ApiError where it is to be refused."""
    faults = context.faults.for_request(body)
    if faults.error_status is not None:
        raise ApiError("injected fault", status=faults.error_status, kind="InjectedFault")
    return faults


async def respond(
    request: web.Request, context: ServerContext, job: GenerationJob, faults: RequestFaults
) -> web.StreamResponse:
    """Generate and answer. Ends the work when the client leaves."""
    with request.app[SERVER_LOAD].tracked():
        if job.is_streamed:
            return await _stream(request, context, job, faults)
        return await _answer(request, context, job, faults)


async def _answer(
    request: web.Request, context: ServerContext, job: GenerationJob, faults: RequestFaults
) -> web.StreamResponse:
    generation: Generation | None = None
    try:
        generation = await _start(request, context, job)
        await generation.done
    except EngineDiedError as error:
        raise internal(str(error)) from error
    finally:
        if generation is not None:
            context.frontend.abort(generation)
    if faults.stall is not None or faults.cut is not None:
        await _hold_up(request, context, faults, generation)
    headers = dict(JSON_HEADERS) | load_headers(request, context)
    if context.arguments["simulated_time_headers"]:
        headers |= simulated_times(generation)
    if job.body_takes_long:
        body = await asyncio.get_running_loop().run_in_executor(None, job.body, generation)
    else:
        body = job.body(generation)
    generation.release()
    return web.Response(body=body, headers=headers)


async def _stream(
    request: web.Request, context: ServerContext, job: GenerationJob, faults: RequestFaults
) -> web.StreamResponse:
    clock = context.frontend.clock
    stream = EventStream(request, gathers=not clock.waits)
    await stream.start(STREAM_HEADERS)
    stream.send(job.opening())
    answer = StreamedAnswer(
        stream,
        job.writer,
        faults,
        call_after=lambda seconds, release: clock.call_after(round(seconds * NS_PER_SECOND), release),
    )
    generation: Generation | None = None
    try:
        generation = await _start(request, context, job, answer)
        is_whole = await answer.wait(generation, context.arguments["sse_keep_alive_interval"])
        if not is_whole and faults.cut is not None and not faults.cut.done:
            stream.cut()
            return stream.response
        if is_whole:
            if context.arguments["simulated_time_headers"]:
                times = simulated_times(generation).items()
                stream.send(b"".join(f": {name}: {value}\n".encode() for name, value in times) + b"\n")
            stream.send(job.writer.end(generation))
    except ApiError as error:
        stream.send(job.error_event(error))
    except EngineDiedError as error:
        stream.send(job.error_event(internal(str(error))))
    except Exception:  # noqa: BLE001 - the status is sent: only an event can tell of it
        _log.exception("Internal error in the answer %r", job.request_id)
        stream.send(job.error_event(internal()))
    finally:
        if generation is not None:
            context.frontend.abort(generation)
            generation.release()
    return await stream.end()


async def _start(
    request: web.Request, context: ServerContext, job: GenerationJob, answer: StreamedAnswer | None = None
) -> Generation:
    rank, num_ranks = job.rank, context.frontend.num_ranks
    try:
        request.app[POWER].check_accepts()
    except PausedError as error:
        raise ApiError(str(error), status=503, kind="ServiceUnavailableError") from None
    if job.orders_take_long:
        ordered = await asyncio.get_running_loop().run_in_executor(None, job.orders)
    else:
        ordered = job.orders()
    orders = [sample.order for sample in ordered]
    if rank is not None and not 0 <= rank < num_ranks:
        raise refusal(f"data_parallel_rank {rank} is out of range [0, {num_ranks}).")
    try:
        return context.frontend.start(job.request_id, job.arrival_ns, orders, answer, rank=rank)
    except QueueFullError as error:
        raise overloaded(_QUEUE_FULL[error.limit]) from None


async def _hold_up(
    request: web.Request, context: ServerContext, faults: RequestFaults, generation: Generation
) -> None:
    """Let a whole answer that is long enough stand still, or break its connection; it has no early [DONE]."""
    num_tokens = sum(sample.num_generated for sample in generation.samples)
    stall, cut = faults.stall, faults.cut
    if stall is not None and num_tokens >= stall.after_tokens:
        released = asyncio.Event()
        if stall.stall_seconds is not None:
            context.frontend.clock.call_after(round(stall.stall_seconds * NS_PER_SECOND), released.set)
        await released.wait()
    if cut is not None and not cut.done and num_tokens >= cut.after_tokens and request.transport is not None:
        request.transport.abort()


def load_headers(request: web.Request, context: ServerContext) -> dict[str, str]:
    """Return the load report that a header asks for, as TEXT or JSON; nothing for other formats."""
    wanted = request.headers.get("endpoint-load-metrics-format", "").lower()
    if wanted not in {"text", "json"}:
        return {}
    gauges = context.frontend.gauges()[0]
    figures = {"num_requests_waiting": float(gauges.waiting), "kv_cache_usage_perc": gauges.kv_usage}
    if wanted == "text":
        listed = ", ".join(f"named_metrics.{name}={value}" for name, value in figures.items())
        return {"endpoint-load-metrics": f"TEXT {listed}"}
    listed = ", ".join(f'"{name}": {value}' for name, value in figures.items())
    return {"endpoint-load-metrics": f'JSON {{"named_metrics": {{{listed}}}}}'}


def simulated_times(generation: Generation) -> Mapping[str, str]:
    """Return the engine's times of an answer in seconds since the start of the server: the first and the last of all samples."""
    requests = [sample.request for sample in generation.samples]

    def seconds(values: Sequence[int | None], choose: Callable[[Sequence[int]], int]) -> str:
        known = [value for value in values if value is not None]
        return f"{choose(known) / NS_PER_SECOND:.9f}" if known else ""

    return {
        "X-Understudy-Arrival-Seconds": seconds([generation.arrival_ns], min),
        "X-Understudy-Queued-Seconds": seconds([request.queued_ns for request in requests], min),
        "X-Understudy-Scheduled-Seconds": seconds([request.scheduled_ns for request in requests], min),
        "X-Understudy-First-Token-Seconds": seconds([request.first_token_ns for request in requests], min),
        "X-Understudy-Last-Token-Seconds": seconds(
            [sample.last_token_ns for sample in generation.samples], max
        ),
    }


# -- what answers tell besides the text --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsageRules:
    """What a request and the server say about telling token counts."""

    in_last_event: bool
    in_every_event: bool
    with_details: bool

    @classmethod
    def of(cls, context: ServerContext, *, include: bool, continuous: bool) -> "UsageRules":
        """Return the rules for a stream whose options ask for it."""
        forced = bool(context.arguments["enable_force_include_usage"])
        wanted = include or forced
        details = bool(context.arguments["enable_prompt_tokens_details"])
        return cls(wanted, wanted and (continuous or forced), details)


def total_usage(
    generation: Generation,
    samples_per_prompt: int,
    rules: UsageRules,
    *,
    told_by: int,
    block_size: int | None = None,
) -> Usage:
    """Return the token counts of all samples, each prompt once.

    `told_by` is the index of the sample whose cached tokens are told. `block_size` is given where the tokens that the
    request added to the cache are told too.
    """
    samples = generation.samples
    prompt_tokens = sum(sample.request.num_prompt_tokens for sample in samples[::samples_per_prompt])
    completion_tokens = sum(sample.num_generated for sample in samples)
    if not rules.with_details:
        return Usage(prompt_tokens, completion_tokens)
    request = samples[told_by].request
    cached = request.num_cached_tokens or 0
    created = None
    if block_size is not None:
        created = max(0, request.num_prompt_tokens // block_size * block_size - cached)
    return Usage(prompt_tokens, completion_tokens, cached, created)


def times_of(sample: Sample) -> RequestMetrics:
    """Return how long a sample took."""
    request = sample.request
    moments = (request.queued_ns, request.scheduled_ns, request.first_token_ns, sample.last_token_ns)
    # A moment at time 0 would read as one that never came.
    queued, scheduled, first, last = (0.0 if at is None else at / NS_PER_SECOND + 1.0 for at in moments)
    return request_metrics(queued, scheduled, first, last, sample.num_generated)
