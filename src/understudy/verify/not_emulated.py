"""What vLLM does and we do not, and what that means for whoever relies on us."""

from typing import NamedTuple


class NotEmulated(NamedTuple):
    """One thing left out, and what follows for a user, in a sentence or two."""

    what: str
    means: str


NOT_EMULATED = (
    NotEmulated(
        "How long a GPU takes",
        "Seconds come from a formula with constants. None of the comparisons above says that they are those of your GPU: calibrate, or read times as relative.",
    ),
    NotEmulated(
        "Time between steps",
        "vLLM's own work (scheduling, sampling, detokenising, HTTP, other processes) takes no time here, so small models and large batches look faster than they are, and a request is never late because the host is busy.",
    ),
    NotEmulated(
        "How much memory a GPU has left",
        "vLLM measures weights, activations and CUDA graphs; we calculate them with two fitted constants. The number of blocks can be off by several per cent: take it from vLLM's log with --num-gpu-blocks-override.",
    ),
    NotEmulated(
        "The model, its text and its tokens",
        "No answer means anything, and its length is what the workload or a rule says. Without a real tokenizer text becomes tokens by an offline rule, so counts differ from the model's and so do cache hits near block boundaries: give token ids, or to the server a tokenizer.json, where that matters.",
    ),
    NotEmulated(
        "Sampling and its side effects",
        "Penalties, beam search, repetition detection and thinking budgets change nothing; log probabilities are made up. The simulator ends a request by length, end of sequence, stop tokens or abort only.",
    ),
    NotEmulated(
        "Stop strings",
        "The server finds them behind the engine and aborts, as vLLM does, from one step to the next; in vLLM another process may take longer. The simulator has none: give the length that the answer would have had.",
    ),
    NotEmulated(
        "Speculative decoding",
        "No drafts, no accepted tokens, no look-ahead blocks or hashes: one token a request and step. Steps, block use and hits of an engine that speculates are all different.",
    ),
    NotEmulated(
        "Structured output",
        "Texts are written to satisfy a constraint. No grammar is compiled, so no request is set aside while it waits for one, and what a grammar compiler would refuse may be accepted.",
    ),
    NotEmulated(
        "LoRA limits",
        "Adapters change hashes and events, but max_loras and loading time do not exist: vLLM passes over requests whose adapter has no slot, we admit them.",
    ),
    NotEmulated(
        "Multimodal inputs",
        "Items change hashes, but there is no encoder: no encoder budget or cache, no placeholder that must be computed in one step, no encoder time. Batches of an engine with images differ.",
    ),
    NotEmulated(
        "Prompt embeddings",
        "They do not exist here; vLLM hashes their bytes as a fourth kind of extra key.",
    ),
    NotEmulated(
        "Sliding windows, chunked local attention, Mamba and other hybrid caches",
        "Every layer counts as full attention in one group of blocks. vLLM frees blocks behind a window, groups layers and aligns hits to the groups: block bytes, hits and capacity of gpt-oss, Gemma or Mamba models are wrong, mostly pessimistic.",
    ),
    NotEmulated(
        "Block sizes that a kernel forces",
        "vLLM's kernels for latent attention and some others change the block size (32, 64, 128, ...); ours stays as given. Give --block-size what vLLM's log says.",
    ),
    NotEmulated(
        "Cache types with scales of their own",
        "int8, int4 and fp8 per token and head, nvfp4, fp8_ds_mla and the like are refused; auto, float16, bfloat16 and plain fp8 types are exact.",
    ),
    NotEmulated(
        "KV connectors, offloading and disaggregated prefill",
        "No block comes from or goes to the CPU, a disk or another engine; no request waits for a transfer, no external hit is counted.",
    ),
    NotEmulated(
        "Pipeline parallelism in the scheduler",
        "It counts for memory only. vLLM keeps as many batches in flight as there are stages and holds requests back between them; schedule, times and hits differ for more than one stage.",
    ),
    NotEmulated(
        "Data and expert parallelism, context parallelism",
        "The server balances over its ranks by vLLM's rule, but no steps are taken by all ranks together, and there are no dummy batches and no division of a sequence over GPUs. The simulator's engines are independent.",
    ),
    NotEmulated(
        "Kernels, CUDA graphs and quantisation",
        "They cost or save time and memory in vLLM and change no decision here; batches are not padded.",
    ),
    NotEmulated(
        "Pooling, embedding and encoder-decoder models",
        "Decoder models that generate are all there is.",
    ),
    NotEmulated(
        "Sleeping, weight updates and streaming input",
        "What the scheduler does during a pause is compared step by step (see above); what the server answers to sleep, wake-up, pause and resume was compared by answers. Falling asleep and waking up take no time. Weights have a version and nothing else; no prompt comes in pieces.",
    ),
    NotEmulated(
        "Limits of the queue",
        "The server refuses by max_num_queued_reqs and max_num_queued_tokens as vLLM does; the simulator refuses nothing because the queue is long.",
    ),
    NotEmulated(
        "Reports of hits and sessions in KV events",
        "kv_cache_report_mode full and session_id are not produced.",
    ),
    NotEmulated(
        "Physical block ids",
        "No decision needs them, so our blocks have none; whoever reads block tables finds nothing to compare.",
    ),
    NotEmulated(
        "Random hash seeds",
        "With xxhash and no PYTHONHASHSEED vLLM's hashes differ from process to process; ours then start from the fixed seed of the other algorithms.",
    ),
    NotEmulated(
        "Other platforms and ways to start",
        "Default flags are those of `vllm serve` on one CUDA GPU: not those of the LLM class, ROCm, TPU or CPU, or of batched data parallelism.",
    ),
    NotEmulated(
        "Performance modes beyond the limits of a step",
        "`understudy serve --performance-mode throughput` doubles the default max_num_batched_tokens and max_num_seqs as vLLM does, which is compared (see above). Interactivity changes nothing: in vLLM it captures more CUDA graphs for small batches, which take some memory and change no decision. The simulator has no such flag: give it the limits.",
    ),
    NotEmulated(
        "The order of aborts that come in the same instant",
        "vLLM ends requests that are aborted together in the order of a set of their ids, which differs from run to run; ours ends them in the order in which the aborts came. Only the order in which their blocks are evicted depends on it.",
    ),
    NotEmulated(
        "What was never tried",
        "Evidence is as wide as its workloads: up to some dozens of requests of some hundred tokens, with models nowhere in sight. Equality there is a strong hint, not a proof, elsewhere.",
    ),
)
