"""Between HTTP handlers and engines: samples go in, tokens and text come out, and everything is counted as vLLM counts.

(the part of vllm/v1/engine/async_llm.py and output_processor.py, 0.33.0)
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from understudy.engine import Engine, Gauges, KVCacheEvent, PauseScope, RequestStatus, StepResult, TokenPrompt
from understudy.server.data_parallel import RankChooser
from understudy.server.engine_clock import NS_PER_SECOND, EngineClock
from understudy.server.engine_loop import EngineLoop
from understudy.server.metrics import EngineMetrics, FinishedStats, ServerMetrics
from understudy.server.sample import Generation, Sample, SampleListener, SampleOrder, SampleRequest

EventListener = Callable[[int, Sequence[KVCacheEvent]], None]
"""Takes the rank of an engine and the KV-cache events of a step."""

EngineFactory = Callable[[], Engine]
"""Makes an engine that samples with `sample_answer`."""

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """A limit of the queue would be exceeded; `limit` is the flag's name."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class EngineDiedError(Exception):
    """The engine is gone, and with it all that it had in work; clients are told what vLLM tells them."""

    def __init__(self) -> None:
        super().__init__("The server had an error while processing your request.")


class Frontend:
    """Owns the engines of a server and every sample that they have in work."""

    def __init__(
        self,
        make_engine: EngineFactory,
        num_engines: int,
        clock: EngineClock,
        metrics: ServerMetrics,
        *,
        events: EventListener | None = None,
        max_num_queued_reqs: int | None = None,
        max_num_queued_tokens: int | None = None,
        late: Callable[[float], None] = lambda _seconds: None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.loop = EngineLoop(
            [make_engine() for _ in range(num_engines)],
            clock,
            stepped=self._stepped,
            late=late,
            failed=self._engine_failed,
        )
        self._ranks = RankChooser(
            num_engines,
            lambda: [engine.gauges for engine in self.loop.engines],
            lambda: clock.now_ns() / NS_PER_SECOND,
        )
        self._metrics = metrics
        self._events = events
        self._died = died
        self._max_num_queued_reqs = max_num_queued_reqs
        self._max_num_queued_tokens = max_num_queued_tokens
        self._samples: dict[str, Sample] = {}
        self._by_prompt_id: dict[str, set[Sample]] = {}
        self._busy_adapters: dict[str, int] = {}
        self._prefix_counted = [(0, 0)] * num_engines
        self._num_prefill_tokens = 0
        self._serials = count()
        self._failure: Exception | None = None
        self._has_stepped = asyncio.Event()
        self._is_closed = False

    # -- requests ------------------------------------------------------------------------------------------

    @property
    def num_unfinished(self) -> int:
        """Samples in work."""
        return len(self._samples)

    @property
    def num_unfinished_requests(self) -> int:
        """What vLLM counts as requests in work: samples, and one more for each prompt with several."""
        return len(self._samples) + sum(
            next(iter(samples)).order.num_samples > 1 for samples in self._by_prompt_id.values()
        )

    @property
    def num_ranks(self) -> int:
        """Engines behind this frontend."""
        return len(self.loop.engines)

    @property
    def is_dead(self) -> bool:
        """Whether the engine has failed for good."""
        return self._failure is not None

    def gauges(self) -> Sequence[Gauges]:
        """Return the state of each engine."""
        return [engine.gauges for engine in self.loop.engines]

    def check_admission(self, num_samples: int) -> None:
        """Raise QueueFullError where the request would exceed a limit of the queue, and EngineDiedError after `fail`."""
        if self._failure is not None:
            raise self._failure
        limit = self._max_num_queued_reqs
        if limit is not None and len(self._samples) + num_samples > limit:
            self._metrics.rejected("max_num_queued_reqs")
            raise QueueFullError("max_num_queued_reqs")
        limit = self._max_num_queued_tokens
        if limit is not None and self._num_prefill_tokens >= limit:
            self._metrics.rejected("max_num_queued_tokens")
            raise QueueFullError("max_num_queued_tokens")

    def start(
        self,
        request_id: str,
        arrival_ns: int,
        orders: Sequence[SampleOrder],
        listener: SampleListener | None = None,
        *,
        rank: int | None = None,
    ) -> Generation:
        """Put the samples of one HTTP request into an engine, the one of `rank` if that is given.

        Every prompt goes to an engine of its own choice, all samples of a prompt one by one as vLLM sends them, and has
        to pass the limits of the queue by itself. Raises as `check_admission`; then nothing is left of the request.
        """
        generation = Generation(request_id, arrival_ns, listener)
        generation.num_unfinished = len(orders)
        prompt_id = None
        try:
            for order in orders:
                if order.prompt_id != prompt_id:
                    prompt_id = order.prompt_id
                    self.check_admission(order.num_samples)
                self._start_sample(generation, order, self._ranks.choose() if rank is None else rank)
        except (QueueFullError, EngineDiedError):
            self.abort(generation)
            raise
        return generation

    def _start_sample(self, generation: Generation, order: SampleOrder, rank: int) -> None:
        serial = next(self._serials)
        request = SampleRequest(
            f"{generation.request_id}-{serial:x}",
            TokenPrompt(order.prompt_token_ids),
            order.max_tokens,
            serial=serial,
            arrival_time=generation.arrival_ns / NS_PER_SECOND,
            priority=order.priority,
            identity=order.identity,
            eos_token_id=order.eos_token_id,
            stop_token_ids=order.stop_token_ids,
            skip_reading_prefix_cache=order.skip_reading_prefix_cache,
        )
        sample = Sample(order, request, generation, rank)
        generation.samples.append(sample)
        self._samples[request.request_id] = sample
        self._by_prompt_id.setdefault(order.prompt_id, set()).add(sample)
        self._ranks.in_flight[rank] += 1
        self._num_prefill_tokens += request.num_prompt_tokens
        self.loop.add(rank, request)

    def abort(self, generation: Generation) -> None:
        """End what is left of a request, because nobody waits for it any more; it counts nowhere, as in vLLM."""
        for sample in generation.samples:
            if sample.finish_reason is None:
                sample.finish_reason = "abort"
                self._forget(sample)
                self.loop.abort(sample.rank, sample.request.request_id)
                generation.sample_finished()

    def abort_prompts(self, prompt_ids: Iterable[str] | None) -> None:
        """End prompts for an operator, all for None; clients get what there is, with reason "abort", and nothing is counted."""
        for prompt_id in list(self._by_prompt_id if prompt_ids is None else prompt_ids):
            self._end_early(list(self._by_prompt_id.get(prompt_id, ())), counts=False)

    def abort_all(self) -> None:
        """End everything with reason "abort", and count it as finished."""
        self._end_early(list(self._samples.values()), counts=True)

    def _end_early(self, samples: Sequence[Sample], *, counts: bool) -> None:
        for sample in samples:
            self.loop.abort(sample.rank, sample.request.request_id)
            self._finish(sample, "abort", None, counts=counts)
            try:
                self._tell(sample, sample.output_token_ids[sample.num_sent :])
            except Exception as error:  # noqa: BLE001 - one bad answer must not keep the others from their end
                self._fail_sample(sample, error)

    # -- engines -------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no step is in flight, and none follows unless a request comes or a pause ends."""
        return self.loop.is_idle

    async def idle(self) -> None:
        """Wait until `is_idle`."""
        while not self.is_idle and not self._is_closed:
            self._has_stepped.clear()
            await self._has_stepped.wait()

    def set_pause(self, scope: PauseScope) -> None:
        """Let every scheduler leave alone what is in `scope` from its next step on; requests are still taken."""
        self.loop.set_pause(scope)

    def fail(self, error: Exception) -> None:
        """Let the engines be dead: everything in work ends with `error`, and so does all that comes."""
        self._failure = error
        self.close()
        self._lose_all(error)

    def _engine_failed(self, error: Exception) -> None:
        _log.error("The engine has failed; this server answers no more", exc_info=error)
        self.fail(EngineDiedError())
        self._died()

    def reset_prefix_cache(self, *, reset_running_requests: bool = False) -> bool:
        """Forget the prefix caches of all engines; False if one has requests that hold blocks."""
        results = [
            engine.reset_prefix_cache(reset_running_requests=reset_running_requests)
            for engine in self.loop.engines
        ]
        return all(results)

    def close(self) -> None:
        """Stop for good."""
        self.loop.close()
        self._is_closed = True
        self._has_stepped.set()

    def _lose_all(self, error: Exception) -> None:
        for sample in list(self._samples.values()):
            sample.finish_reason = "error"
            self._forget(sample)
            sample.generation.fail(error)

    # -- what a step brings --------------------------------------------------------------------------------

    def _stepped(self, rank: int, at_ns: int, result: StepResult) -> None:
        self._has_stepped.set()
        metrics = self._metrics.engines[rank]
        if result.completed is not None:
            metrics.gauges(*result.completed)
            self._count_prefix_cache(rank, metrics)
        if result.next_ns is None:
            # What was aborted behind the last step would be shown for as long as nobody comes; vLLM takes a step more.
            metrics.gauges(*self.loop.engines[rank].gauges)
        num_tokens = num_generated = 0
        gaps: dict[int, int] = {}
        for request in result.outputs:
            assert isinstance(request, SampleRequest), "this server's engines have no others"
            sample = request.sample
            if sample.finish_reason is not None:
                continue
            num_generated += 1
            if sample.last_token_ns is None:
                num_tokens += self._first_output(sample, at_ns, metrics)
            else:
                gap_ns = at_ns - sample.last_token_ns
                gaps[gap_ns] = gaps.get(gap_ns, 0) + 1
            sample.last_token_ns = at_ns
            try:
                self._take_token(sample)
            except Exception as error:  # noqa: BLE001 - one bad answer must not stop the step of all others
                self._fail_sample(sample, error)
        for gap_ns, times in gaps.items():
            metrics.inter_token(gap_ns / NS_PER_SECOND, times)
        if num_generated:
            metrics.generated(num_generated)
            metrics.iteration(num_tokens + num_generated)
        # vLLM names an adapter in both lists once one of its requests is either.
        busy = list(self._busy_adapters)
        metrics.lora(busy, busy, time.time())
        if result.events and self._events is not None:
            self._events(rank, [event for _, event in result.events])

    def _count_prefix_cache(self, rank: int, metrics: EngineMetrics) -> None:
        stats = self.loop.engines[rank].scheduler.kv_cache.stats
        queries, hits = self._prefix_counted[rank]
        if stats.queries != queries:
            metrics.prefix_cache(stats.queries - queries, stats.hits - hits)
            self._prefix_counted[rank] = stats.queries, stats.hits

    def _first_output(self, sample: Sample, at_ns: int, metrics: EngineMetrics) -> int:
        """Count the first token of a sample; return how many prompt tokens were computed for it."""
        request = sample.request
        cached = request.num_cached_tokens or 0
        self._num_prefill_tokens -= request.num_prompt_tokens
        if (lora := sample.order.identity.lora) is not None:
            self._busy_adapters[lora.name] = self._busy_adapters.get(lora.name, 0) + 1
        metrics.first_output(request.num_prompt_tokens, cached, (at_ns - sample.arrival_ns) / NS_PER_SECOND)
        return request.num_prompt_tokens - cached

    def _take_token(self, sample: Sample) -> None:
        if sample.failure is not None:
            raise sample.failure
        request, order = sample.request, sample.order
        token_id = request.token_ids[-1]
        sample.num_generated += 1
        if request.num_preemptions != sample.num_preemptions_seen:
            preemptions = request.num_preemptions - sample.num_preemptions_seen
            sample.num_preemptions_seen = request.num_preemptions
            self._metrics.engines[sample.rank].preempted(preemptions)
        status = request.status
        stopped = status is RequestStatus.FINISHED_STOPPED
        stop_string = None if order.text is None else order.text.add(token_id, ends_by_token=stopped)
        if stopped:
            self._finish(sample, "stop", None if token_id == order.eos_token_id else token_id)
        elif stop_string is not None:
            if not status.is_finished:
                self.loop.abort(sample.rank, request.request_id)
            self._finish(sample, "stop", stop_string)
        elif status is RequestStatus.FINISHED_LENGTH_CAPPED:
            self._finish(sample, "length", None)
        num_new = sample.num_generated - sample.num_sent
        if num_new >= order.stream_interval or sample.num_sent == 0 or sample.finish_reason is not None:
            new = (token_id,) if num_new == 1 else sample.output_token_ids[sample.num_sent :]
            self._tell(sample, new)

    def _tell(self, sample: Sample, token_ids: Sequence[int]) -> None:
        sample.num_sent = sample.num_generated
        listener = sample.generation.listener
        if listener is not None and not sample.generation.is_finished:
            text = sample.order.text
            finished = sample.finish_reason is not None
            listener.grown(sample, token_ids, "" if text is None else text.take(finished=finished))
        if sample.finish_reason is not None:
            sample.generation.sample_finished()

    def _fail_sample(self, sample: Sample, error: Exception) -> None:
        """End an answer that cannot go on, and with it the request that it belongs to; who waits for that logs why."""
        if sample.finish_reason is None:
            sample.finish_reason = "error"
            self._forget(sample)
            self.loop.abort(sample.rank, sample.request.request_id)
        sample.generation.fail(error)

    def _finish(
        self, sample: Sample, finish_reason: str, stop_reason: int | str | None, *, counts: bool = True
    ) -> None:
        sample.finish_reason = finish_reason
        sample.stop_reason = stop_reason
        self._forget(sample)
        if counts:
            stats = _finished_stats(sample, self.clock.now_ns())
            self._metrics.engines[sample.rank].finished(stats)

    def _forget(self, sample: Sample) -> None:
        request_id = sample.request.request_id
        del self._samples[request_id]
        self._ranks.in_flight[sample.rank] -= 1
        if sample.last_token_ns is None:
            self._num_prefill_tokens -= sample.request.num_prompt_tokens
        elif (lora := sample.order.identity.lora) is not None:
            self._busy_adapters[lora.name] -= 1
            if not self._busy_adapters[lora.name]:
                del self._busy_adapters[lora.name]
        same_prompt = self._by_prompt_id[sample.order.prompt_id]
        same_prompt.discard(sample)
        if not same_prompt:
            del self._by_prompt_id[sample.order.prompt_id]


def _finished_stats(sample: Sample, now_ns: int) -> FinishedStats:
    """Return what is counted of a sample; a stretch of time that never began is 0.

    Of a prompt with several samples n and the longest answer are counted once, with the last that ends.
    """
    request, order = sample.request, sample.order
    first = order.index - order.index % order.num_samples
    siblings = sample.generation.samples[first : first + order.num_samples]
    queued_ns, scheduled_ns = request.queued_ns, request.scheduled_ns
    first_ns, last_ns = request.first_token_ns, sample.last_token_ns
    return FinishedStats(
        reason=sample.finish_reason or "abort",
        prompt_tokens=request.num_prompt_tokens,
        cached_tokens=request.num_cached_tokens or 0,
        generation_tokens=sample.num_generated,
        max_tokens=order.max_tokens,
        n=order.num_samples if all(other.finish_reason is not None for other in siblings) else None,
        longest_answer_tokens=max(other.num_generated for other in siblings),
        num_preemptions=request.num_preemptions,
        e2e_seconds=_seconds(sample.arrival_ns, now_ns if sample.finish_reason == "abort" else last_ns),
        queue_seconds=_seconds(queued_ns, scheduled_ns),
        prefill_seconds=_seconds(scheduled_ns, first_ns),
        decode_seconds=_seconds(first_ns, last_ns),
        inference_seconds=_seconds(scheduled_ns, last_ns),
    )


def _seconds(start_ns: int | None, end_ns: int | None) -> float:
    return 0.0 if start_ns is None or end_ns is None else (end_ns - start_ns) / NS_PER_SECOND
