"""What requests want of the engine is what vLLM makes of them: see `record_builders.py`."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.judge import LIMITS, builders, encode

from understudy.wire.chat import chat_sampling, parse_chat
from understudy.wire.completions import completion_sampling, parse_completion
from understudy.wire.errors import ApiError
from understudy.wire.limits import MAX_N_SEQUENCES, MAX_SAMPLES, MAX_STOP_CHARACTERS
from understudy.wire.prompt_length import PromptRules, effective_max_tokens
from understudy.wire.sampling import Sampling, check_bad_words

CHAT_BASE = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 16}


def _sampling(case: dict[str, Any]) -> Sampling:
    limits = replace(LIMITS, default_sampling=case["defaults"])
    if case["path"] == "chat":
        body = json.dumps({**CHAT_BASE, **case["body"]}).encode()
        return chat_sampling(parse_chat(body, limits), 5, limits)
    body = json.dumps({"prompt": "a", **case["body"]}).encode()
    return completion_sampling(parse_completion(body, limits), 5, limits)


def _as_json(sampling: Sampling) -> dict[str, Any]:
    fields = dict(asdict(sampling).items())
    for name in ("use_beam_search", "repetition_detection"):
        del fields[name]
    constraint = sampling.structured_outputs
    names = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
    fields["structured_outputs"] = constraint and {name: getattr(constraint, name) for name in names}
    fields["skip_reading_prefix_cache"] = sampling.skip_reading_prefix_cache
    parsed: dict[str, Any] = json.loads(json.dumps(fields))
    return parsed


def test_samplings_are_vllms() -> None:
    """Field by field, for completions and chats, with and without a generation config."""
    assert len(builders()["sampling"]) == 80
    for case in builders()["sampling"]:
        wanted = dict(case["sampling"])
        del wanted["held_back_characters"]  # told by the text that holds them back
        assert _as_json(_sampling(case)) == wanted, case


def test_effective_max_tokens_are_vllms() -> None:
    """The least of what is wanted, what fits and what the server allows, or the same refusal."""
    for wanted, prompt_tokens, default, cap, truncate, expected in builders()["max_tokens"]:
        defaults = {} if default is None else {"max_tokens": default}
        limits = replace(LIMITS, max_model_len=100, default_sampling=defaults, max_tokens_cap=cap)
        if isinstance(expected, int):
            assert effective_max_tokens(wanted, prompt_tokens, limits, truncate) == expected
        else:
            with pytest.raises(ApiError) as refused:
                effective_max_tokens(wanted, prompt_tokens, limits, truncate)
            assert refused.value.message == expected


@given(
    tokens=st.lists(st.integers(0, 9), max_size=30),
    truncate=st.none() | st.integers(-1, 20),
    side=st.sampled_from([None, "left", "right"]),
    is_text=st.booleans(),
)
def test_a_fitted_prompt_is_an_end_of_the_prompt(
    tokens: list[int], truncate: int | None, side: Any, *, is_text: bool
) -> None:
    """Truncation keeps the last tokens unless told otherwise, as many as it may; nothing passes the context's length."""
    rules = PromptRules(replace(LIMITS, max_model_len=20), 5, "max_tokens", truncate, side)
    keep = len(tokens) if truncate is None else 19 if truncate == -1 else truncate
    if min(keep, len(tokens)) > 20:
        with pytest.raises(ApiError):
            rules.fitted(tokens, is_text=is_text)
        return
    fitted = rules.fitted(tokens, is_text=is_text)
    assert len(fitted) == min(keep, len(tokens))
    assert fitted == (tokens[: len(fitted)] if side == "right" else tokens[len(tokens) - len(fitted) :])


@given(text=st.text(max_size=20), truncate=st.none() | st.just(5), side=st.sampled_from(["left", "right"]))
def test_an_endless_text_is_cut_or_refused_before_it_is_tokenized(
    text: str, truncate: int | None, side: Any
) -> None:
    """A text with more characters than its tokens could ever have is refused, or cut where truncation is asked for."""
    limits = replace(LIMITS, max_model_len=3, max_characters_per_token=2)
    rules = PromptRules(limits, 5, "max_tokens", truncate, side)
    if len(text) > 6 and truncate is None:
        with pytest.raises(ApiError, match="upper bound"):
            rules.checked_text(text)
    else:
        checked = rules.checked_text(text)
        assert len(checked) == min(len(text), 6)
        assert text.endswith(checked) if side == "left" else text.startswith(checked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": MAX_N_SEQUENCES + 1}, "n must be at most 128"),
        ({"prompt": ["a"] * 1000, "n": 5}, f"must be at most {MAX_SAMPLES}"),
        ({"stop": "x" * (MAX_STOP_CHARACTERS + 1)}, "at most 4096 characters"),
    ],
)
def test_caps_that_vllm_has_not_are_refusals(change: dict[str, object], message: str) -> None:
    """One request cannot take the memory of the process."""
    body = json.dumps({"prompt": "a", **change}).encode()
    with pytest.raises(ApiError, match=message) as refused:
        completion_sampling(parse_completion(body, LIMITS), 1, LIMITS)
    assert refused.value.status == 400


def test_bad_words_stand_for_both_of_their_beginnings() -> None:
    """A word counts with a space before it where that is other tokens, of the same number."""

    def tokens(text: str) -> list[int]:
        return [1] if text == " a" else encode(text)

    assert check_bad_words(["a", "bc"], tokens, LIMITS) == [[5], [1], [5, 5]]
    with pytest.raises(ApiError, match="at least one token"):
        check_bad_words([" "], lambda _: [], LIMITS)
    with pytest.raises(ApiError, match="vocabulary size is 32000"):
        check_bad_words(["a"], lambda _: [40000], LIMITS)
