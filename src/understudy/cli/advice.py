"""Sentences about a run that a reader must not miss: refused requests and what would take them, answers cut short."""

from collections.abc import Sequence

from understudy.catalog import models_with_context
from understudy.fleet import EngineSetup, FinishedRun

_MAX_MODELS_NAMED = 3


def notes_on(runs: Sequence[FinishedRun], setup: EngineSetup) -> list[str]:
    """Return a sentence for each thing that happened to many requests because of the settings."""
    notes: list[str] = []
    run = max(runs, key=lambda run: run.summary.requests)
    refused = run.summary.refused
    context = setup.config.max_model_len
    if refused.prompt_longer_than_context:
        notes.append(
            f"{refused.prompt_longer_than_context:,} of {run.summary.requests:,} requests were refused, as vLLM does: "
            f"their prompts leave no room for an answer in a context of {context:,} tokens. "
            f"The longest has {refused.longest_prompt_tokens:,} tokens. {_remedy(setup, refused.longest_prompt_tokens)}"
        )
    if run.num_shortened:
        notes.append(
            f"{run.num_shortened:,} answers ended early, as in vLLM, where they reached the context of {context:,} tokens."
        )
    return notes


def _remedy(setup: EngineSetup, prompt_tokens: int) -> str:
    needed = prompt_tokens + 1
    if setup.model.max_position_embeddings >= needed:
        return f"--max-model-len {needed} or more would take them all."
    models = models_with_context(needed)
    if not models:
        return "No model of the catalogue has a context that takes them all."
    return (
        f"{setup.model.name} reads at most {setup.model.max_position_embeddings:,}; "
        f"a model with a longer context would take them all: --model {' or '.join(models[:_MAX_MODELS_NAMED])}."
    )
