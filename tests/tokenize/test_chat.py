"""Prompts of conversations: the offline form, and the bounds of templates."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.tokenize import Message, encode, load_tokenizer
from understudy.tokenize.chat_template import MOST_CHARACTERS

WORDS = load_tokenizer()
ANSWER_IDS = WORDS.answer_token_ids()

contents = st.text(max_size=30)


@settings(deadline=None)
@given(
    talk=st.lists(contents, min_size=1, max_size=4),
    ids=st.lists(st.sampled_from(ANSWER_IDS), min_size=1),
    reply=contents,
    strips=st.booleans(),
)
def test_the_next_turn_begins_with_all_tokens_of_the_last(
    talk: list[str], ids: list[int], reply: str, *, strips: bool
) -> None:
    """Prompt and answer are the first ids of the next prompt, so that a prefix cache finds them."""
    messages = [{"role": "user", "content": content} for content in talk]
    before = encode(WORDS.chat_prompt(messages, add_generation_prompt=True)) + ids
    text = WORDS.decode(ids)
    messages += [
        {"role": "assistant", "content": text.strip() if strips else text},
        {"role": "user", "content": reply},
    ]
    after = encode(WORDS.chat_prompt(messages, add_generation_prompt=True))
    assert after[: len(before)] == before


def test_a_conversation_becomes_tagged_lines() -> None:
    """Tools come first; every message has its role, and calls and other parts are shown."""
    messages: list[Message] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": " Look: "}, {"type": "image_url"}, "and say"]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "é"}]},
    ]
    prompt = WORDS.chat_prompt(messages, add_generation_prompt=True, tools=[{"type": "function"}])
    assert prompt == (
        '<|tools|> [{"type": "function"}]\n'
        "<|system|> Be kind.\n"
        "<|user|> Look: \n<|image_url|>\nand say\n"
        '<|assistant|> [{"id": "é"}]\n'
        "<|assistant|>"
    )


def test_a_message_can_be_continued() -> None:
    """The prompt ends within the last message, or after it if nobody is to speak."""
    messages = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Once upon"}]
    open_ended = WORDS.chat_prompt(messages, add_generation_prompt=False, continue_final_message=True)
    assert open_ended == "<|user|> Go\n<|assistant|> Once upon"
    assert WORDS.chat_prompt(messages, add_generation_prompt=False) == f"{open_ended}\n"


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
@pytest.mark.parametrize(
    ("messages", "add", "message"),
    [
        ([], False, "empty conversation"),
        ([{"role": "user", "content": "a"}], True, "not compatible"),
        ([{"role": "user", "content": None}], False, 'has no "content" to continue'),
    ],
)
def test_what_no_prompt_can_be_made_of_is_refused(
    template: str | None, messages: list[dict[str, str]], *, add: bool, message: str
) -> None:
    """The offline form refuses what templates refuse."""
    with pytest.raises(InputError, match=message):
        WORDS.chat_prompt(
            messages, add_generation_prompt=add, continue_final_message=True, chat_template=template
        )


def test_a_given_template_is_used_offline_too() -> None:
    """It knows the special tokens, and variables of the request come before them."""
    template = "{{ bos_token }}{{ eos_token }}{{ messages[0].content }}{{ more }}"
    prompt = WORDS.chat_prompt(
        [{"role": "user", "content": "hi"}],
        add_generation_prompt=True,
        chat_template=template,
        kwargs={"more": 1, "eos_token": "END"},
    )
    assert prompt == "<s>ENDhi1"


def test_a_template_tells_the_time() -> None:
    """`strftime_now` formats the current local time."""
    prompt = WORDS.chat_prompt(
        [{"role": "user", "content": "hi"}],
        add_generation_prompt=True,
        chat_template="{{ strftime_now('%Y') }}",
    )
    assert int(prompt) >= 2025


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for i in range(100) %}{{ 'x' * 1000000 }}{% endfor %}",
            f"more than {MOST_CHARACTERS} characters",
        ),
        ("{{ range(1000000) }}", "Range too big"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.clear() }}", "not safely callable|unsafe"),
    ],
)
def test_a_template_stays_within_its_bounds(template: str, message: str) -> None:
    """It gives no endless prompt, reaches nothing of Python and changes nothing."""
    with pytest.raises(InputError, match=message):
        WORDS.chat_prompt(
            [{"role": "user", "content": "hi"}], add_generation_prompt=True, chat_template=template
        )
