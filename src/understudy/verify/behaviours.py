"""The rows of the scorecard: what vLLM does and how ours is compared with it. It knows no figure.

`not_emulated.py` holds the other half of the truth.
"""

from dataclasses import dataclass
from enum import StrEnum


class Yardstick(StrEnum):
    """What a behaviour is measured against."""

    VLLM = "vLLM"
    SEARCH = "brute-force search"
    FORMULA = "formula"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One row. `vllm` and `compared` are a sentence each."""

    key: str
    title: str
    vllm: str
    compared: str
    yardstick: Yardstick = Yardstick.VLLM


BEHAVIOURS = (
    Behaviour(
        "block_caching",
        "Block-based caching",
        "Full blocks are found again by the hash of all tokens up to their end; equal blocks are not merged, so a hash can be held by several.",
        "Number of cached blocks, copies counted, after every iteration of the trials.",
    ),
    Behaviour(
        "bytes_per_block",
        "Bytes per block",
        "A layer's page is block size x heads of this GPU x (key + value) x bytes of the cache type, one latent vector with MLA; a block is the pages of all layers of the stage.",
        "Page and block of every catalogued model without sliding windows (MHA, GQA, MLA), seven cache types, tensor parallel 1, 2, 4, 8, pipeline parallel 1 to 3, with vLLM's KVCacheSpec classes.",
    ),
    Behaviour(
        "total_blocks",
        "Total blocks",
        "The memory left for the cache is divided by the bytes of a block and rounded down; all workers use the smallest result.",
        "num_gpu_blocks for given bytes, among them exactly n blocks and one byte less, with vLLM's get_kv_cache_configs; how many bytes a GPU has left is not compared (see below).",
    ),
    Behaviour(
        "context_fit",
        "Longest context at start-up",
        "vLLM refuses to start unless all blocks but the null block hold one request of max_model_len, and names the longest that would fit.",
        "Whether it starts, and the length that it names, with vLLM's own check.",
    ),
    Behaviour(
        "block_hashing",
        "Block hashing",
        "hash = H(parent hash, token ids, extra keys), chained from a seed; extra keys are LoRA name and path, multimodal items with offsets, and the salt of the first block.",
        "Hashes and their 64-bit form for four algorithms, four seed rules, text, salt, LoRA, multimodal and all together, with vLLM's own hasher; and the chain of every request of the trials.",
    ),
    Behaviour(
        "full_blocks_only",
        "Full blocks only",
        "A block is cached when all its tokens are computed or scheduled to be, never partly filled.",
        "Number of cached blocks of every request after every iteration of the trials.",
    ),
    Behaviour(
        "reference_counting",
        "Reference counting",
        "A block belongs to as many requests as share it, and is free when none does.",
        "References of every cached block in use after every iteration of the trials.",
    ),
    Behaviour(
        "freed_stay_cached",
        "Freed blocks stay cached",
        "Blocks that nobody references keep their hash until they are needed for something else.",
        "The set of cached free blocks after every iteration in which a request ended.",
    ),
    Behaviour(
        "eviction_order",
        "Eviction order and its tie rule",
        "Blocks without a hash go first; cached ones in the order in which they were freed, and of one request the last block first.",
        "The whole queue of cached free blocks after every iteration, and every eviction in order.",
    ),
    Behaviour(
        "recompute_from_miss",
        "Recompute from the first missing block",
        "An admission reuses its longest cached prefix, at most all tokens but the last, in whole blocks, and computes the rest.",
        "Cached tokens of every admission, resumed requests included.",
    ),
    Behaviour(
        "skip_reading_prefix_cache",
        "Requests that do not read the cache",
        "A request that needs the log probabilities of its prompt ignores cached blocks but caches its own.",
        "Cached tokens of every admission of such a request.",
    ),
    Behaviour(
        "without_prefix_caching",
        "Prefix caching off",
        "Nothing is hashed, found or published.",
        "Whole iterations of the trials with prefix caching off.",
    ),
    Behaviour(
        "paging",
        "Paging",
        "A request holds as many blocks as its tokens need, taken when they are scheduled; one block, the null block, is never given out.",
        "Blocks of every request, free blocks and usage after every scheduling and every iteration.",
    ),
    Behaviour(
        "token_counts",
        "Token counts",
        "Each step computes for each request what the budget, the thresholds and its own length allow.",
        "Tokens scheduled, computed, in flight and held of every request in every iteration.",
    ),
    Behaviour(
        "batching",
        "Batching",
        "Running requests come first in order of admission, then waiting ones until budget, sequences or blocks run out; nobody overtakes the head of the queue.",
        "Batch and its order, admissions, queues and their order, states, and who gets a token, in every iteration.",
    ),
    Behaviour(
        "memory_pressure",
        "Memory pressure and preemption",
        "Without a free block the last admitted request (the least urgent under priorities) gives its blocks back, keeps its tokens, and starts again from what is cached; a step that preempted admits nobody.",
        "Whole iterations with a preemption or a resumption, and preemptions and undelivered tokens of every request.",
    ),
    Behaviour(
        "async_scheduling",
        "Asynchronous scheduling",
        "Step k + 1 is scheduled before the tokens of step k are known; what turns out to be too much is discarded.",
        "Whole iterations of the trials in this mode.",
    ),
    Behaviour(
        "priorities",
        "Priorities",
        "The waiting queue is ordered by (priority, arrival, id), and the victim of a preemption is the least urgent.",
        "Whole iterations of the trials with this policy.",
    ),
    Behaviour(
        "chunked_prefill",
        "Chunked prefill",
        "A prompt that exceeds the budget of a step goes on in the next.",
        "Whole iterations of the trials with it on.",
    ),
    Behaviour(
        "unchunked_prefill",
        "Chunked prefill off",
        "A prompt that exceeds the budget of a step waits, and all behind it.",
        "Whole iterations of the trials with it off.",
    ),
    Behaviour(
        "full_prompt_reservation",
        "Room for the whole prompt",
        "With scheduler_reserve_full_isl a request is admitted only if all its tokens would fit, though only those of the step are taken.",
        "Whole iterations of the trials with it on; the other trials have it off.",
    ),
    Behaviour(
        "watermark",
        "Watermark",
        "A share of the blocks stays free when requests are admitted while others run.",
        "Whole iterations of the trials with a watermark.",
    ),
    Behaviour(
        "long_prefill_threshold",
        "Long-prefill threshold",
        "A request with much to compute gets at most so many tokens a step, unless it is alone; the adaptive form raises the limit when few share the step.",
        "Whole iterations of the trials with a threshold.",
    ),
    Behaviour(
        "prefill_schedule_interval",
        "Prefill interval",
        "Prompts are computed only every so many steps while others decode and nobody is left waiting for lack of room.",
        "Whole iterations of the trials with an interval above 1.",
    ),
    Behaviour(
        "max_num_active_seqs",
        "Limit of active sequences",
        "Fewer requests than max_num_seqs may run at once.",
        "Whole iterations of the trials with max_num_active_seqs.",
    ),
    Behaviour(
        "max_num_scheduled_tokens",
        "Limit of scheduled tokens",
        "The budget of a step can be below max_num_batched_tokens.",
        "Whole iterations of the trials with max_num_scheduled_tokens.",
    ),
    Behaviour(
        "stop_rules",
        "Stop rules",
        "After each token: end of sequence, stop tokens, then the limits of length.",
        "Every token delivered, with its reason to end and, of a first token, the cached tokens reported.",
    ),
    Behaviour(
        "aborts",
        "Aborts",
        "An aborted request gives its blocks back at once, whatever its state; its tokens in flight are dropped.",
        "Who was aborted, and whole iterations with an abort.",
    ),
    Behaviour(
        "cache_reset",
        "Cache reset",
        "The cache is dropped if no block is in use, or after preempting everybody if that is asked for.",
        "What a reset answers, and whole iterations with a reset.",
    ),
    Behaviour(
        "pauses",
        "Pauses",
        "A pause of new requests admits nobody, preempted ones included, and lets those that run go on; a pause of all takes no step. Who runs keeps blocks and tokens, and a step in flight ends.",
        "Whole iterations under a pause of either kind in which any request is left, and the first one behind it; aborts, resets, arrivals and preemptions happen in some.",
    ),
    Behaviour(
        "prefix_statistics",
        "Prefix-cache statistics",
        "Requests, queries and hits are counted at admission, apart for requests that had been preempted.",
        "All six counters after every iteration.",
    ),
    Behaviour(
        "kv_events",
        "KV events",
        "Stored, removed and cleared blocks are published in order, with parent, tokens and extra keys, one event a removed copy.",
        "Every event of the trials, and every field that vLLM's decoder reads in what vLLM's KVCacheManager published for text, salts, LoRA and multimodal items.",
    ),
    Behaviour(
        "kv_event_bytes",
        "KV events, byte for byte",
        "A batch is a msgpack array of time, events and rank; an event a map with defaults left out.",
        "Payloads of vLLM's ZmqEventPublisher against ours for the same time and adapter numbers; frames and sockets are not compared.",
    ),
    Behaviour(
        "steps_at_once",
        "Many steps at once",
        "vLLM takes one step after the other.",
        "Our engine in virtual time, which takes steps of nothing but decoding many at once unless it is paused: times, tokens, events, gauges and counters against what vLLM's single steps come to.",
    ),
    Behaviour(
        "hidden_tokens",
        "Traces that hide their tokens",
        "vLLM knows every token.",
        "Whole iterations in which ours knows only which prompts share how many tokens and vLLM knows them all, in trials whose answers occur in no prompt; hashes, tokens and extra keys, which ours cannot know, are left out.",
    ),
    Behaviour(
        "default_flags",
        "Default flags per GPU",
        "Limits of a step follow from the GPU's memory and name, then from the other flags; impossible combinations are refused.",
        "All engine flags that nobody gave, and the limits on every catalogued GPU and around each threshold, in every performance mode, with vLLM's EngineArgs.create_engine_config for `vllm serve`.",
    ),
    Behaviour(
        "longest_prefix_routing",
        "Longest prefix for routing",
        "vLLM has no prefix-aware router; the definition is how many blocks of a prompt, from the first on, a worker holds.",
        "The index that answers for all workers at once, against looking block by block, in random stories of stored, removed, cleared and synchronised blocks on up to 70 workers.",
        Yardstick.SEARCH,
    ),
    Behaviour(
        "prefill_latency",
        "Prefill latency formula",
        "vLLM has no formula: a step takes what the GPU takes.",
        "The linear model against base (or cached) + price x blocks to compute, counted token by token, for random prices, prompts and chunks; it says nothing of how well the formula fits a GPU.",
        Yardstick.FORMULA,
    ),
    Behaviour(
        "decode_latency",
        "Decode latency formula",
        "vLLM has no formula: a step takes what the GPU takes.",
        "The linear model against one price a step in which anything decodes, single steps and many at once; it says nothing of how well the formula fits a GPU.",
        Yardstick.FORMULA,
    ),
)
