"""Where a worker publishes its KV events: the answer of GET /kv_event_sources, as seen from here."""

from typing import NamedTuple

import msgspec

from understudy.errors import InputError

_ANY_HOST = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - what a worker says, nothing is bound here
_MOST_RANKS = 4096
_SCHEMES = ("tcp://", "ipc://")


class Source(NamedTuple):
    """The sockets of one data-parallel rank. `replay_endpoint` None: what was missed cannot be asked for again."""

    rank: int
    endpoint: str
    replay_endpoint: str | None
    topic: bytes


class _Config(msgspec.Struct):
    """What matters of a publisher's configuration."""

    publisher: str | None = None
    endpoint: str = ""
    replay_endpoint: str | None = None
    buffer_steps: int = 1
    topic: str = ""


_decode = msgspec.json.Decoder(dict[str, _Config]).decode


def read_sources(body: bytes, worker_host: str) -> list[Source]:
    """Return the sources in an answer, by rank; none where the worker publishes none.

    `*`, 0.0.0.0 and :: in an endpoint mean the worker's host, which may be an IPv6 address without brackets. Raises
    InputError for what is no such answer, and where events cannot be heard from here; its message goes on from "the worker".
    """
    try:
        configs = _decode(body)
        ranks = {int(rank): config for rank, config in configs.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(
            f"gives a malformed answer to /kv_event_sources: {' '.join(str(error).split())}"
        ) from None
    if len(ranks) > _MOST_RANKS:
        raise InputError(f"names {len(ranks)} ranks in /kv_event_sources, more than {_MOST_RANKS}")
    return [
        _source(rank, config, worker_host)
        for rank, config in sorted(ranks.items())
        if config.publisher in {"zmq", None}
    ]


def _source(rank: int, config: _Config, worker_host: str) -> Source:
    can_replay = config.replay_endpoint and config.buffer_steps > 0
    return Source(
        rank=rank,
        endpoint=_seen_from_here(config.endpoint, worker_host),
        replay_endpoint=_seen_from_here(config.replay_endpoint or "", worker_host) if can_replay else None,
        topic=config.topic.encode(),
    )


def _seen_from_here(endpoint: str, worker_host: str) -> str:
    scheme = next((scheme for scheme in _SCHEMES if endpoint.startswith(scheme)), None)
    if scheme is None or not endpoint.isprintable():
        raise InputError(
            f"publishes KV events at {endpoint!r}, which cannot be heard from here: tcp://HOST:PORT and ipc://PATH can"
        )
    host, _, port = endpoint.removeprefix(scheme).rpartition(":")
    if scheme == "ipc://" or host.strip("[]") not in _ANY_HOST:
        return endpoint
    return f"tcp://[{worker_host}]:{port}" if ":" in worker_host else f"tcp://{worker_host}:{port}"
