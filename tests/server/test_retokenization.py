"""What a client counts by tokenizing an answer is what usage says."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.engine_clock import FreeClock
from understudy.tokenize import load_tokenizer

TOKENIZERS = Path(__file__).parents[1] / "data" / "tokenizer"
SOURCES = ("words", *(str(TOKENIZERS / name) for name in ("byte_level", "sentencepiece")))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: Path(source).name)
@settings(max_examples=8)
@given(
    prompts=st.lists(st.lists(st.integers(10, 60), min_size=1, max_size=5), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    stops=st.booleans(),
)
def test_an_answer_tokenizes_to_its_usage(
    source: str, prompts: list[list[int]], *, seed: int, stops: bool
) -> None:
    """Exactly, but for the end of sequence, which counts as a token and has no text."""
    tokenizer = load_tokenizer(source)

    async def main() -> None:
        flags = ("--max-model-len", "4096", "--tokenizer", source, "--output-length", "uniform:1-200")
        async with serving(*flags, clock=FreeClock()) as server:
            for prompt in prompts:
                reply = await server.complete(
                    prompt=prompt, max_tokens=150, seed=seed, ignore_eos=not stops, return_token_ids=True
                )
                (choice,) = reply.json["choices"]
                num_tokens = reply.json["usage"]["completion_tokens"]
                has_end = choice["finish_reason"] == "stop"
                encoded = tokenizer.encode(choice["text"], add_special_tokens=False)
                assert encoded == choice["token_ids"][: num_tokens - has_end]
                assert num_tokens == len(choice["token_ids"])
                assert has_end == (choice["token_ids"][-1] == tokenizer.eos_token_id)
                told = await server.post("/tokenize", {"prompt": choice["text"], "add_special_tokens": False})
                assert told.json["count"] == num_tokens - has_end

    run_in_virtual_time(main())
