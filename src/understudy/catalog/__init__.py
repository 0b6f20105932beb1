"""The catalogue: models, GPUs and presets as data, and what follows from them by arithmetic; it knows no engine."""

from understudy.catalog.batch_limits import BatchLimits, PerformanceMode, default_batch_limits
from understudy.catalog.capacity import Capacity, capacity
from understudy.catalog.context_fit import check_context_fits, longest_that_fits
from understudy.catalog.gpu import Gpu, known_gpus, load_gpu
from understudy.catalog.linear_constants import LinearConstants
from understudy.catalog.model import Model
from understudy.catalog.models import known_models, load_model, models_with_context
from understudy.catalog.preset import load_preset
from understudy.catalog.roofline import derived_linear

__all__ = [
    "BatchLimits",
    "Capacity",
    "Gpu",
    "LinearConstants",
    "Model",
    "PerformanceMode",
    "capacity",
    "check_context_fits",
    "default_batch_limits",
    "derived_linear",
    "known_gpus",
    "known_models",
    "load_gpu",
    "load_model",
    "load_preset",
    "longest_that_fits",
    "models_with_context",
]
