"""From arguments to an engine's choices."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.arguments.parsing import parsed

from understudy.errors import UsageError
from understudy.fleet.choices import EngineChoices, LatencyChoices
from understudy.server.arguments import engine_choices, latency_choices


def test_defaults_are_those_of_the_engine() -> None:
    """A command line without engine flags makes the engine that the simulator makes."""
    assert engine_choices(parsed("m")) == EngineChoices()
    assert latency_choices(parsed("m")) == LatencyChoices()


@given(
    seqs=st.integers(1, 4096),
    tokens=st.integers(1, 2**20),
    block_size=st.sampled_from([8, 16, 32]),
    caching=st.booleans(),
    chunked=st.booleans(),
    overlap=st.booleans(),
    seconds=st.floats(0, 10),
)
def test_what_is_given_reaches_the_engine(
    *, seqs: int, tokens: int, block_size: int, caching: bool, chunked: bool, overlap: bool, seconds: float
) -> None:
    """Numbers, switches under their names of today, and constants of the latency."""
    arguments = parsed(
        "m",
        f"--max-num-seqs={seqs}",
        f"--max-num-batched-tokens={tokens}",
        f"--block-size={block_size}",
        "--enable-prefix-caching" if caching else "--disable-prefix-caching",
        "--enable-chunked-prefill" if chunked else "--disable-chunked-prefill",
        "--async-scheduling" if overlap else "--no-async-scheduling",
        f"--decode-seconds-per-step={seconds!r}",
    )
    assert engine_choices(arguments) == EngineChoices(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        block_size=block_size,
        enable_prefix_caching=caching,
        enable_chunked_prefill=chunked,
        async_scheduling=overlap,
    )
    assert latency_choices(arguments) == LatencyChoices(decode_seconds_per_step=seconds)


def test_every_choice_is_a_flag() -> None:
    """The engine and the latency have no field that the command line does not know."""
    values = parsed("m").values
    assert {field.name for kind in (EngineChoices, LatencyChoices) for field in fields(kind)} <= set(values)


@pytest.mark.parametrize(
    "flag", ["--tensor-parallel-size", "--data-parallel-size", "--block-size", "--stream-interval"]
)
def test_sizes_below_one_are_refused(flag: str) -> None:
    """The message names the size."""
    with pytest.raises(UsageError, match=flag.removeprefix("--").replace("-", "_")):
        engine_choices(parsed("m", f"{flag}=0"))
