"""A number that stands for a worker's name, the same in every process and in every order of workers."""

from hashlib import blake2b


def worker_key(name: str) -> int:
    """Return a number from 0 to 2^64 - 1: the BLAKE2b-64 of the name in UTF-8, read as little-endian."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
