"""Sentences about a run that a reader must not miss: refused requests and what would take them, answers cut short."""

from collections.abc import Sequence
from dataclasses import replace

from understudy.catalog import models_with_context
from understudy.errors import UnderstudyError
from understudy.fleet import (
    EngineChoices,
    EngineSetup,
    FinishedRun,
    LatencyChoices,
    Refusals,
    engine_setup,
)

_MAX_MODELS_NAMED = 3


def notes_on(
    runs: Sequence[FinishedRun], setup: EngineSetup, model_name: str, choices: EngineChoices
) -> list[str]:
    """Return a sentence for each thing that happened to many requests because of the settings.

    `model_name` and `choices` are what the setup was made from.
    """
    notes: list[str] = []
    run = max(runs, key=lambda run: run.summary.requests)
    refused = run.summary.refused
    context = setup.config.max_model_len
    if refused.prompt_longer_than_context:
        one = refused.prompt_longer_than_context == 1
        notes.append(
            f"{refused.prompt_longer_than_context:,} of {run.summary.requests:,} requests "
            f"{'was' if one else 'were'} refused, as vLLM does: {'its prompt leaves' if one else 'their prompts leave'} "
            f"no room for an answer in a context of {context:,} tokens. "
            f"{'It' if one else 'The longest'} has {refused.longest_prompt_tokens:,} tokens. "
            f"{_remedy(setup, model_name, choices, refused)}"
        )
    if run.num_shortened:
        one = run.num_shortened == 1
        notes.append(
            f"{run.num_shortened:,} {'answer' if one else 'answers'} ended early, as in vLLM, where "
            f"{'it' if one else 'they'} reached the context of {context:,} tokens."
        )
    return notes


def _remedy(setup: EngineSetup, model_name: str, choices: EngineChoices, refused: Refusals) -> str:
    """Say which flags would take every request with its whole answer; what would not start is not worth a try."""
    context, gpu = refused.longest_request_tokens, setup.gpu.name
    them = "it" if refused.prompt_longer_than_context == 1 else "them all"
    longer = replace(choices, max_model_len=context)
    model_fits = context <= setup.model.max_position_embeddings
    if model_fits and _starts(model_name, gpu, longer):
        return f"--max-model-len {context} would take {them}."
    # Whoever gives the size of the cache has one model and one context in mind.
    unsized = replace(longer, num_gpu_blocks_override=None, kv_cache_memory_bytes=None)
    sizes = [
        flag
        for flag, size in (
            ("--num-gpu-blocks-override", choices.num_gpu_blocks_override),
            ("--kv-cache-memory-bytes", choices.kv_cache_memory_bytes),
        )
        if size is not None
    ]
    without = f" without {' and '.join(sizes)}" if sizes else ""
    if model_fits and sizes and _starts(model_name, gpu, unsized):
        return f"--max-model-len {context}{without} would take {them}."
    models = [name for name in models_with_context(context) if _starts(name, gpu, unsized)]
    if not models:
        return (
            f"No model of the catalogue has room for {them} on {gpu}{without or ' with these flags'}: take a larger "
            "--gpu or raise --tensor-parallel-size."
        )
    names = " or ".join(models[:_MAX_MODELS_NAMED])
    return f"Another model would take {them}: --max-model-len {context} --model {names}{without}."


def _starts(model_name: str, gpu_name: str, choices: EngineChoices) -> bool:
    try:
        engine_setup(model_name, gpu_name, choices, LatencyChoices())
    except UnderstudyError:
        return False
    return True
