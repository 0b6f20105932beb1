"""Chance that depends on what is asked and on nothing else: not on the order of arrival, the process or the machine."""

import random
import struct
from collections.abc import Sequence
from hashlib import blake2b

from understudy.server.generate.question import Question

KEY_BYTES = 16


def question_key(server_seed: int, question: Question) -> bytes:
    """Return 16 bytes that name a question: the server's seed, the model, the prompt, the sample and its seed.

    As in vLLM, sample i of a request with seed s draws as the first sample of one with seed s + i.
    """
    seed = question.seed
    names = (
        server_seed,
        question.model,
        seed is None,
        question.sample_index + (seed or 0),
    )
    digest = blake2b(repr(names).encode(), digest_size=KEY_BYTES)
    digest.update(question.prompt_digest or prompt_digest(question.prompt_token_ids))
    return digest.digest()


def prompt_digest(token_ids: Sequence[int]) -> bytes:
    """Return 16 bytes that name a prompt: the costly part of the keys of all samples of it."""
    packed = struct.pack(f"<{len(token_ids)}q", *token_ids)
    return blake2b(packed, digest_size=KEY_BYTES).digest()


def keyed_random(key: bytes, purpose: str) -> random.Random:
    """Return a source of chance of its own for each purpose under one key."""
    digest = blake2b(purpose.encode(), key=key, digest_size=KEY_BYTES)
    return random.Random(digest.digest())
