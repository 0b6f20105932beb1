"""Sentences about a run that a reader must not miss: refused requests and what would take them, answers cut short."""

from collections.abc import Sequence
from dataclasses import replace

from understudy.catalog import models_with_context
from understudy.errors import UnderstudyError
from understudy.fleet import EngineChoices, EngineSetup, FinishedRun, LatencyChoices, engine_setup

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
        notes.append(
            f"{refused.prompt_longer_than_context:,} of {run.summary.requests:,} requests were refused, as vLLM does: "
            f"their prompts leave no room for an answer in a context of {context:,} tokens. "
            f"The longest has {refused.longest_prompt_tokens:,} tokens. "
            f"{_remedy(setup, model_name, choices, refused.longest_prompt_tokens + 1)}"
        )
    if run.num_shortened:
        notes.append(
            f"{run.num_shortened:,} answers ended early, as in vLLM, where they reached the context of {context:,} tokens."
        )
    return notes


def _remedy(setup: EngineSetup, model_name: str, choices: EngineChoices, context: int) -> str:
    """Say which flags would take every prompt; flags that the GPU has no room for are not worth a try."""
    choices = replace(choices, max_model_len=context)
    gpu = setup.gpu.name
    if context <= setup.model.max_position_embeddings and _starts(model_name, gpu, choices):
        return f"--max-model-len {context} would take them all."
    models = [name for name in models_with_context(context) if _starts(name, gpu, choices)]
    if not models:
        return f"No model of the catalogue has room for them on {gpu} with these flags: take a larger --gpu, or several."
    names = " or ".join(models[:_MAX_MODELS_NAMED])
    return f"Another model would take them all: --max-model-len {context} --model {names}."


def _starts(model_name: str, gpu_name: str, choices: EngineChoices) -> bool:
    try:
        engine_setup(model_name, gpu_name, choices, LatencyChoices())
    except UnderstudyError:
        return False
    return True
