"""Deliberate faults of the engine: what to replace by what, and what that breaks. Data, and nothing else."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """A text in a file of the engine that stands there once, the text to put in its place, and the rule it breaks."""

    file: str
    old: str
    new: str
    breaks: str


MUTATIONS = (
    # -- blocks and their eviction
    Mutation(
        "block_pool",
        "for piece, end in reversed(held):",
        "for piece, end in held:",
        "the last block of a request is evicted first",
    ),
    Mutation(
        "block_pool",
        "for part in reversed(self._split_pieces(piece, end)):",
        "for part in self._split_pieces(piece, end):",
        "the last block first, where others share the first",
    ),
    Mutation(
        "block_pool",
        "blank = min(count, self._num_blank)",
        "blank = max(0, count - self._evictable.num_blocks)",
        "blocks without a hash are taken before cached ones",
    ),
    Mutation(
        "block_pool",
        "self._num_blank = num_gpu_blocks - 1",
        "self._num_blank = num_gpu_blocks",
        "the null block is never given out",
    ),
    Mutation(
        "block_pool",
        "return 1.0 - self.num_free_blocks / (self.num_gpu_blocks - 1)",
        "return 1.0 - self.num_free_blocks / self.num_gpu_blocks",
        "usage leaves the null block out",
    ),
    Mutation(
        "block_pool",
        "for piece in self._pieces.get(key, ()):",
        "for piece in reversed(self._pieces.get(key, ())):",
        "of several copies the first inserted is used",
    ),
    Mutation(
        "block_pool", "piece.references += 1", "piece.references = 1", "every request that shares counts"
    ),
    Mutation(
        "block_pool",
        "self._evictable.put_ahead(rest, piece)",
        "self._evictable.put_ahead(rest, self._evictable.first)",
        "a block that a hit leaves behind keeps its place in the queue",
    ),
    Mutation(
        "block_pool",
        "if end < piece.end:\n                self._split(piece, end)",
        "end = piece.end",
        "a request references no more than it found",
    ),
    Mutation(
        "block_pool",
        "elif pieces[-1].references == 1 and held and",
        "elif held and",
        "a block that others share too does not grow with one of them",
    ),
    Mutation(
        "block_pool",
        "for piece, start, end in prefix if not piece.references)",
        "for piece, start, end in prefix if piece.references)",
        "a hit takes a block from the free ones if nobody references it",
    ),
    Mutation(
        "block_pool",
        "if self.num_used_blocks:\n            return False",
        "if self.num_used_blocks > 1:\n            return False",
        "a cache in use is not reset",
    ),
    Mutation(
        "block_pool",
        "self.events.append(AllBlocksCleared())",
        "pass",
        "a reset is published",
    ),
    Mutation(
        "block_pool",
        "self.events.extend(map(BlockRemoved, reversed(hashes)))",
        "self.events.extend(map(BlockRemoved, hashes))",
        "evictions are published in their order",
    ),
    Mutation(
        "block_pool",
        "self._forget(piece)",
        "pass",
        "an evicted block is found no more",
    ),
    Mutation(
        "block_pool",
        "self.num_evicted_blocks += count",
        "self.num_evicted_blocks += 1",
        "evictions are counted",
    ),
    Mutation(
        "eviction_queue",
        "self.put_ahead(piece, self._edge)",
        "self.put_ahead(piece, self._edge.behind)",
        "what was freed last is evicted last",
    ),
    # -- the KV cache of a request
    Mutation(
        "kv_cache",
        "limit = (request.num_tokens - 1) // self._block_size",
        "limit = request.num_tokens // self._block_size",
        "a hit leaves a token to compute",
    ),
    Mutation(
        "kv_cache",
        "return self._hasher is not None and not request.skip_reading_prefix_cache",
        "return self._hasher is not None",
        "a request may skip reading the cache",
    ),
    Mutation(
        "kv_cache",
        "headroom = self._watermark_blocks if others_running else 0",
        "headroom = self._watermark_blocks",
        "the watermark does not hold for a request alone",
    ),
    Mutation(
        "kv_cache",
        "int(config.watermark * config.num_gpu_blocks)",
        "-int(-config.watermark * config.num_gpu_blocks // 1)",
        "the watermark is rounded down",
    ),
    Mutation(
        "kv_cache",
        "length = max(length, request.num_tokens)",
        "length = max(length, request.num_prompt_tokens)",
        "a request that resumes reserves room for its answer so far",
    ),
    Mutation(
        "kv_cache",
        "if self._reserve_full_prompt:",
        "if not self._reserve_full_prompt:",
        "only scheduler_reserve_full_isl reserves room for the whole prompt",
    ),
    Mutation(
        "kv_cache",
        "return taken + needed <= self.pool.num_free_blocks",
        "return taken + needed < self.pool.num_free_blocks",
        "an admission may take the last free block",
    ),
    Mutation(
        "kv_cache",
        "if missing > self.pool.num_free_blocks:",
        "if missing >= self.pool.num_free_blocks:",
        "a running request may take the last free block",
    ),
    Mutation(
        "kv_cache",
        "first, end = request.num_cached_blocks, num_tokens // self._block_size",
        "first, end = request.num_cached_blocks, -(-num_tokens // self._block_size)",
        "a partial block is not cached",
    ),
    Mutation(
        "kv_cache",
        "self._cache_full_blocks(request, min(prefix.num_tokens + num_new_tokens, request.num_tokens))",
        "self._cache_full_blocks(request, prefix.num_tokens)",
        "a prompt's blocks are cached when they are scheduled",
    ),
    Mutation(
        "kv_cache",
        "if request.status is RequestStatus.PREEMPTED:",
        "if request.num_preemptions > 1:",
        "admissions after a preemption are counted apart",
    ),
    Mutation(
        "kv_cache",
        "request.block_hashes[first - 1] if first else None",
        "request.block_hashes[first - 1] if first > 1 else None",
        "an event names the block before",
    ),
    Mutation(
        "kv_cache",
        "token_ids=tuple(request.token_ids[first * size : end * size])",
        "token_ids=tuple(request.token_ids[first * size : first * size + size])",
        "an event has the tokens of all its blocks",
    ),
    # -- who runs
    Mutation(
        "scheduler", "if not plan.preempted:", "if plan is not None:", "a step that preempts admits nobody"
    ),
    Mutation(
        "scheduler", "return self.running[-1]", "return self.running[0]", "the last admitted is preempted"
    ),
    Mutation(
        "scheduler",
        "return max(self.running, key=lambda request: (request.priority, request.arrival_time))",
        "return max(self.running, key=lambda request: (request.priority, -request.arrival_time))",
        "of the least urgent the youngest is preempted",
    ),
    Mutation(
        "scheduler",
        "self.waiting.prepend(request)",
        "self.waiting.add(request)",
        "who was preempted is served first",
    ),
    Mutation(
        "scheduler",
        "budget += scheduled.pop(victim)",
        "scheduled.pop(victim)",
        "the tokens of a victim go back into the budget",
    ),
    Mutation(
        "scheduler",
        "if running.index(victim) < index:\n                    index -= 1",
        "index -= 0",
        "nobody is passed over when one before him is preempted",
    ),
    Mutation(
        "scheduler",
        "plan.preempted += self._preempted_by_reset",
        "pass",
        "preemptions for a reset are told with the next plan",
    ),
    Mutation(
        "scheduler",
        "while budget > 0 and waiting and len(running) < self.config.active_seqs_limit:",
        "while budget > 0 and waiting and len(running) < self.config.max_num_seqs:",
        "max_num_active_seqs limits who runs",
    ),
    Mutation(
        "scheduler",
        "if num_new > budget and not self.config.enable_chunked_prefill:",
        "if num_new > budget + 1 and not self.config.enable_chunked_prefill:",
        "without chunks a prompt waits for the budget that it needs",
    ),
    # -- pauses
    Mutation("scheduler", 'if self.pause == "all":', "if False:", "nobody runs while all is paused"),
    Mutation(
        "scheduler",
        'if self.pause == "all":',
        'if self.pause != "none":',
        "a pause of new requests lets those that run go on",
    ),
    Mutation(
        "scheduler",
        'if self.pause == "none":',
        'if self.pause != "all":',
        "a pause of new requests keeps those that wait from being admitted",
    ),
    Mutation(
        "scheduler",
        'if self.pause == "none":',
        'if self.pause == "none" or (self.waiting and self.waiting.peek().num_preemptions):',
        "who is preempted during a pause of new requests waits for its end too",
    ),
    Mutation(
        "scheduler",
        'if self.pause == "all":',
        'if self.pause == "all":\n            while self.running:\n                self._preempt(self.running.pop())',
        "who runs keeps blocks and tokens during a pause",
    ),
    Mutation(
        "scheduler",
        "self._tell_preempted_by_reset(plan)\n            return plan",
        "return plan",
        "a step in which all is paused tells whom a reset has preempted",
    ),
    Mutation(
        "scheduler",
        "self._tell_preempted_by_reset(plan)\n            return plan",
        "self._tell_preempted_by_reset(plan)\n            self._num_executed_steps += 1\n            return plan",
        "a step in which all is paused does not count",
    ),
    Mutation(
        "scheduler",
        "self._tell_preempted_by_reset(plan)\n            return plan",
        "self._tell_preempted_by_reset(plan)\n            self._prefill_is_capacity_bound = len(self.waiting) > 0\n"
        "            return plan",
        "behind a pause of all prompts are put off as they would have been before",
    ),
    Mutation(
        "scheduler",
        "if not defers_prefill:",
        'if self.pause == "none" and not defers_prefill:',
        "who waits for the end of a pause of new requests keeps prompts from being put off",
    ),
    Mutation(
        "engine",
        'if until_ns is None or self.scheduler.pause != "none":',
        "if until_ns is None:",
        "steps are not taken at once during a pause",
    ),
    Mutation(
        "engine",
        'may_stall = self._in_flight or self.scheduler.pause != "none"',
        "may_stall = self._in_flight",
        "an engine may stand still during a pause",
    ),
    # -- how many tokens
    Mutation(
        "scheduler",
        "if cap == 0 or num_requests <= 1:",
        "if cap == 0:",
        "the threshold does not hold for a request alone",
    ),
    Mutation(
        "scheduler",
        "cap = max(cap, config.max_num_batched_tokens // num_requests)",
        "cap = config.max_num_batched_tokens // num_requests",
        "the adaptive threshold only raises the limit",
    ),
    Mutation(
        "scheduler",
        "self._num_executed_steps + 1 - self._last_prefill_step < interval",
        "self._num_executed_steps - self._last_prefill_step < interval",
        "prompts are computed every so many steps",
    ),
    Mutation(
        "scheduler",
        "and not self._prefill_is_capacity_bound\n",
        "\n",
        "prompts are not put off when somebody waits",
    ),
    Mutation(
        "scheduler",
        "admitted_prefill |= num_missing > 1",
        "admitted_prefill |= num_new > 1",
        "a chunk of one token is a prefill",
    ),
    Mutation(
        "scheduler",
        "self.config.max_model_len - num_computed - 1",
        "self.config.max_model_len - num_computed",
        "nothing is computed beyond the context",
    ),
    Mutation(
        "scheduler",
        "request.num_computed_tokens + 2 - placeholders >=",
        "request.num_computed_tokens + 1 - placeholders >=",
        "no step is wasted behind the last token",
    ),
    # -- what comes of a step
    Mutation(
        "scheduler",
        "request.num_stale_output_tokens = request.num_in_flight_tokens",
        "request.num_stale_output_tokens = 0",
        "a token from before a preemption changes no counters",
    ),
    Mutation(
        "scheduler",
        "request.drop_stale_output = drop_output or (",
        "request.drop_stale_output = False and (",
        "a reset drops the token in flight",
    ),
    Mutation(
        "scheduler",
        "elif request.num_tokens >= request.end_tokens:",
        "elif request.num_tokens > request.end_tokens:",
        "an answer ends at its length",
    ),
    Mutation(
        "scheduler",
        "min(request.num_prompt_tokens + request.max_tokens, self.config.max_model_len)",
        "request.num_prompt_tokens + request.max_tokens",
        "an answer ends with the context",
    ),
    Mutation(
        "scheduler",
        "for request_id in dict.fromkeys(request_ids)",
        "for request_id in request_ids",
        "an abort that comes twice counts once",
    ),
    Mutation(
        "request",
        "return token_id == self.eos_token_id or token_id in self.stop_token_ids",
        "return token_id in self.stop_token_ids",
        "the end of sequence ends a request",
    ),
    # -- order of service
    Mutation(
        "request_queue",
        "self._requests.appendleft(request)",
        "self._requests.insert(1, request)",
        "who was preempted last is served first",
    ),
    Mutation(
        "request",
        "return (self.priority, self.arrival_time, self.request_id) < (",
        "return (self.priority, -self.arrival_time, self.request_id) < (",
        "of the equally urgent the oldest is served first",
    ),
    # -- hashes
    Mutation(
        "hashing", "if self.salt and start == 0:", "if self.salt:", "only the first block carries the salt"
    ),
    Mutation(
        "hashing",
        '("lora", self.lora.name, self.lora.path)',
        '("lora", self.lora.name)',
        "an adapter's path counts",
    ),
    Mutation(
        "hashing",
        "self._hash((parent or self.none_hash,",
        "self._hash((self.none_hash,",
        "a hash covers all blocks before",
    ),
    Mutation(
        "hashing",
        "block_hash[-_EVENT_HASH_BYTES:]",
        "block_hash[:_EVENT_HASH_BYTES]",
        "events carry the last bytes of a hash",
    ),
    # -- the engine in virtual time
    Mutation(
        "engine",
        "if not plan.preempted:\n                break",
        "break",
        "a step that only preempts is followed by another",
    ),
    Mutation(
        "decode_group",
        "takes = (now - request.num_computed_tokens) % self._size",
        "takes = (now - request.num_computed_tokens + 1) % self._size",
        "a block is taken when it is entered",
    ),
    Mutation(
        "decode_group",
        "return request.end_tokens - request.num_tokens - 1",
        "return request.end_tokens - request.num_tokens",
        "the step of the last token stands in a plan",
    ),
    Mutation(
        "engine",
        "bisect_left(schedules, until_ns, 0, count)",
        "bisect_left(schedules, until_ns + 1, 0, count)",
        "nothing is scheduled ahead of an arrival",
    ),
    Mutation(
        "scheduler",
        "if not len(self.waiting) or len(running) >= config.active_seqs_limit:",
        "if len(running) >= 0:",
        "steps are not taken at once while somebody could be admitted",
    ),
)
