"""From a request whose answer is prepared to the answer, whole or streamed."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from understudy.server.engine_clock import NS_PER_SECOND
from understudy.server.event_stream import EventStream
from understudy.server.frontend import EngineDiedError, QueueFullError
from understudy.server.power import PAUSED_KIND, POWER, PausedError
from understudy.server.routes.incoming import Incoming, queue_full
from understudy.server.routes.info import SERVER_LOAD
from understudy.server.routes.reply import Reply
from understudy.server.sample import Generation
from understudy.server.streamed_answer import StreamedAnswer
from understudy.wire.errors import ApiError, internal, refusal

_log = logging.getLogger(__name__)

JSON_HEADERS = {"Content-Type": "application/json"}
STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}


async def respond(arrived: Incoming, reply: Reply) -> web.StreamResponse:
    """Generate and answer. Ends the work when the client leaves."""
    with arrived.request.app[SERVER_LOAD].tracked():
        if reply.is_streamed:
            return await _stream(arrived, reply)
        return await _answer(arrived, reply)


async def _answer(arrived: Incoming, reply: Reply) -> web.StreamResponse:
    frontend, arguments = arrived.context.frontend, arrived.context.arguments
    generation: Generation | None = None
    try:
        generation = await _start(arrived, reply)
        await generation.done
    except EngineDiedError as error:
        raise internal(str(error)) from error
    finally:
        if generation is not None:
            frontend.abort(generation)
    await _hold_up(arrived, generation)
    headers = dict(JSON_HEADERS) | load_headers(arrived)
    if arguments["simulated_time_headers"]:
        headers |= simulated_times(generation)
    if reply.whole_takes_long:
        body = await asyncio.get_running_loop().run_in_executor(None, reply.whole, generation)
    else:
        body = reply.whole(generation)
    generation.release()
    return web.Response(body=body, headers=headers)


async def _stream(arrived: Incoming, reply: Reply) -> web.StreamResponse:
    frontend, arguments, faults = arrived.context.frontend, arrived.context.arguments, arrived.faults
    clock = frontend.clock
    stream = EventStream(arrived.request, gathers=not clock.waits)
    await stream.start(STREAM_HEADERS)
    stream.send(reply.opening())
    answer = StreamedAnswer(
        stream,
        reply,
        faults,
        call_after=lambda seconds, release: clock.call_after(round(seconds * NS_PER_SECOND), release),
    )
    generation: Generation | None = None
    failure: ApiError | None = None
    try:
        generation = await _start(arrived, reply, answer)
        is_whole = await answer.wait(generation, arguments["sse_keep_alive_interval"])
        if not is_whole and faults.cut is not None and not faults.cut.done:
            stream.cut()
            return stream.response
        if is_whole:
            if arguments["simulated_time_headers"]:
                times = simulated_times(generation).items()
                stream.send(b"".join(f": {name}: {value}\n".encode() for name, value in times) + b"\n")
            stream.send(reply.end(generation))
    except ApiError as error:
        failure = error
    except EngineDiedError as error:
        failure = internal(str(error))
    except Exception:  # noqa: BLE001 - the status is sent: only an event can tell of it
        _log.exception("Internal error in the answer %r", reply.head.id)
        failure = internal()
    finally:
        if generation is not None:
            frontend.abort(generation)
            generation.release()
    if failure is not None:
        event = reply.error_event(failure)
        if not event:
            stream.break_off()
            return stream.response
        stream.send(event)
    return await stream.end()


async def _start(arrived: Incoming, reply: Reply, answer: StreamedAnswer | None = None) -> Generation:
    frontend, rank = arrived.context.frontend, arrived.rank
    try:
        arrived.request.app[POWER].check_accepts()
    except PausedError as error:
        raise ApiError(str(error), status=503, kind=PAUSED_KIND) from None
    if reply.orders_take_long:
        ordered = await asyncio.get_running_loop().run_in_executor(None, reply.orders)
    else:
        ordered = reply.orders()
    orders = [sample.order for sample in ordered]
    if rank is not None and not 0 <= rank < frontend.num_ranks:
        raise refusal(f"data_parallel_rank {rank} is out of range [0, {frontend.num_ranks}).")
    try:
        return frontend.start(reply.head.id, arrived.arrival_ns, orders, answer, rank=rank)
    except QueueFullError as error:
        raise queue_full(error) from None


async def _hold_up(arrived: Incoming, generation: Generation) -> None:
    """Let a whole answer that is long enough stand still, or break its connection; it has no early [DONE]."""
    stall, cut, transport = arrived.faults.stall, arrived.faults.cut, arrived.request.transport
    num_tokens = sum(sample.num_generated for sample in generation.samples)
    if stall is not None and num_tokens >= stall.after_tokens:
        released = asyncio.Event()
        if stall.stall_seconds is not None:
            clock = arrived.context.frontend.clock
            clock.call_after(round(stall.stall_seconds * NS_PER_SECOND), released.set)
        await released.wait()
    if cut is not None and not cut.done and num_tokens >= cut.after_tokens and transport is not None:
        transport.abort()


def load_headers(arrived: Incoming) -> dict[str, str]:
    """Return the load report that a header asks for, as TEXT or JSON; nothing for other formats."""
    wanted = arrived.request.headers.get("endpoint-load-metrics-format", "").lower()
    if wanted not in {"text", "json"}:
        return {}
    gauges = arrived.context.frontend.gauges()[0]
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
