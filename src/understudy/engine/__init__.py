"""vLLM's core, pure: requests in, steps out. It knows no clock, no I/O and no model."""

from understudy.engine.config import EngineConfig
from understudy.engine.engine import Engine, EngineObserver, Gauges, StepResult, unknown_tokens
from understudy.engine.events import AllBlocksCleared, BlockRemoved, BlockStored, KVCacheEvent
from understudy.engine.hash_chain import BlockHash, HashChain
from understudy.engine.hashing import BlockHasher, CacheIdentity, LoRA, MultiModalItem, event_hash
from understudy.engine.prompt import Prompt, SegmentPrompt, TokenPrompt
from understudy.engine.request import Request, RequestStatus
from understudy.engine.scheduler import PauseScope, Scheduler
from understudy.engine.step_plan import Admission, Sampler, StepPlan

__all__ = [
    "Admission",
    "AllBlocksCleared",
    "BlockHash",
    "BlockHasher",
    "BlockRemoved",
    "BlockStored",
    "CacheIdentity",
    "Engine",
    "EngineConfig",
    "EngineObserver",
    "Gauges",
    "HashChain",
    "KVCacheEvent",
    "LoRA",
    "MultiModalItem",
    "PauseScope",
    "Prompt",
    "Request",
    "RequestStatus",
    "Sampler",
    "Scheduler",
    "SegmentPrompt",
    "StepPlan",
    "StepResult",
    "TokenPrompt",
    "event_hash",
    "unknown_tokens",
]
