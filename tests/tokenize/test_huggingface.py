"""Real tokenizers give what vLLM 0.33 was recorded to give; how to record again stands in record_vectors.py."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.tokenize import Tokenizer, load_tokenizer, text_in_context

DATA = Path(__file__).parent.parent / "data" / "tokenizer"
VECTORS = json.loads((DATA / "vectors.json").read_text(encoding="utf-8"))
NAMES = sorted(VECTORS["tokenizers"])


def _copied(name: str, folder: Path) -> Path:
    recorded = VECTORS["tokenizers"][name]
    shutil.copyfile(DATA / recorded["folder"] / "tokenizer.json", folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(recorded["config"]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", name="tokenizers")
def fixture_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Return the recorded tokenizers by name."""
    return {name: load_tokenizer(str(_copied(name, tmp_path_factory.mktemp(name)))) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_texts_have_the_recorded_ids(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    """Texts encode as in vLLM, with and without the special tokens around them."""
    for text, with_special, without in VECTORS["tokenizers"][name]["encoded"]:
        assert tokenizers[name].encode(text) == with_special
        assert tokenizers[name].encode(text, add_special_tokens=False) == without


@pytest.mark.parametrize("name", NAMES)
def test_ids_have_the_recorded_texts(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    """Ids decode as in vLLM: together, without special tokens, and one by one beside log probabilities."""
    tokenizer = tokenizers[name]
    for ids, skipped, kept, shown in VECTORS["tokenizers"][name]["decoded"]:
        assert tokenizer.decode(ids) == skipped
        assert tokenizer.decode(ids, skip_special_tokens=False) == kept
        assert [text_in_context(tokenizer, token_id, ids[:at]) for at, token_id in enumerate(ids)] == shown


@pytest.mark.parametrize("name", NAMES)
def test_streams_give_the_recorded_pieces(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    """Each token brings the text that vLLM's incremental detokenizer brought, after the same prompt."""
    for prompt_ids, ids, skip, spaces, pieces in VECTORS["tokenizers"][name]["streams"]:
        stream = tokenizers[name].stream(
            skip_special_tokens=skip, spaces_between_special_tokens=spaces, prompt_token_ids=prompt_ids
        )
        assert [stream.add(token_id) for token_id in ids] == pieces


@pytest.mark.parametrize("name", NAMES)
def test_the_vocabulary_is_the_recorded_one(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    """The entries, their number, and which of them are special."""
    tokenizer, recorded = tokenizers[name], VECTORS["tokenizers"][name]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (recorded["bos"], recorded["eos"])
    assert tokenizer.vocabulary_size == recorded["vocabulary_size"]
    every = range(tokenizer.vocabulary_size)
    assert [tokenizer.token_string(token_id) for token_id in every] == recorded["token_strings"]
    assert {token_id for token_id in every if tokenizer.is_special(token_id)} == set(recorded["special"])
    for unknown in (-1, tokenizer.vocabulary_size, 2**40):
        assert tokenizer.token_string(unknown) == ""


def _prompt(tokenizer: Tokenizer, case: dict[str, Any], template: str | None) -> dict[str, str]:
    try:
        return {"prompt": tokenizer.chat_prompt(**case, chat_template=template)}
    except InputError as error:
        return {"error": str(error)}


@pytest.mark.parametrize("name", NAMES)
def test_conversations_become_the_recorded_prompts(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    """Prompts and refusals are vLLM's, to the letter, for the tokenizer's own and for given templates."""
    for template, case, recorded in VECTORS["tokenizers"][name]["chats"]:
        source = None if template == "own" else VECTORS["templates"][template]
        assert _prompt(tokenizers[name], case, source) == recorded, (template, case)


@pytest.mark.parametrize("template", sorted(VECTORS["templates"]))
def test_templates_take_the_recorded_format_of_content(
    template: str, tokenizers: dict[str, Tokenizer]
) -> None:
    """Whether a template wants texts or parts is told as vLLM tells it, by every tokenizer."""
    source, recorded = VECTORS["templates"][template], VECTORS["content_formats"][template]
    assert {tokenizer.content_format(source) for tokenizer in tokenizers.values()} == {recorded}
    assert load_tokenizer().content_format(source) == recorded


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 60))
def test_any_sequence_of_answer_words_encodes_to_itself(
    name: str, tokenizers: dict[str, Tokenizer], seed: int, length: int
) -> None:
    """An answer that is sent back as text becomes the tokens that it was made of."""
    tokenizer = tokenizers[name]
    ids = random.Random(seed).choices(tokenizer.answer_token_ids(), k=length)
    assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False) == ids


@settings(deadline=None)
@given(text=st.text())
def test_byte_level_decoding_inverts_encoding(text: str, tokenizers: dict[str, Tokenizer]) -> None:
    """A byte-level vocabulary loses nothing, and its stream gives the whole text."""
    tokenizer = tokenizers["byte_level"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    stream = tokenizer.stream(skip_special_tokens=False)
    streamed = "".join(map(stream.add, ids))
    assert streamed == text or (text.startswith(streamed) and "\N{REPLACEMENT CHARACTER}" in text)


def test_an_id_that_does_not_exist_has_no_text(tokenizers: dict[str, Tokenizer]) -> None:
    """Unknown ids are left out; ids and texts that no tokenizer can take are refused as vLLM refuses them."""
    tokenizer = tokenizers["byte_level"]
    assert tokenizer.decode([99_999]) == tokenizer.stream().add(99_999) == tokenizer.stream().add(2**40) == ""
    with pytest.raises(InputError, match="number too large to fit in target type"):
        tokenizer.decode([2**32])
    with pytest.raises(InputError, match="TextEncodeInput must be Union"):
        tokenizer.encode("\ud800")


def test_a_template_file_comes_before_the_configuration(tmp_path: Path) -> None:
    """`chat_template.jinja` and the named ones beside it replace what `tokenizer_config.json` says."""
    _copied("byte_level", tmp_path)
    (tmp_path / "chat_template.jinja").write_text("file {{ messages[0].content }}", encoding="utf-8")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools", encoding="utf-8")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    messages = [{"role": "user", "content": "hi"}]
    assert tokenizer.content_format() == tokenizer.content_format(has_tools=True) == "string"
    assert tokenizer.chat_prompt(messages, add_generation_prompt=True) == "file hi"
    assert tokenizer.chat_prompt(messages, add_generation_prompt=True, tools=[{}]) == "tools"
    assert tokenizer.chat_prompt(messages, add_generation_prompt=True, chat_template="tool_use") == "tools"


def test_special_tokens_of_older_folders_are_read(tmp_path: Path) -> None:
    """`special_tokens_map.json` names them where the configuration lists no added tokens."""
    _copied("byte_level", tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    names = {"eos_token": {"content": "</s>", "lstrip": False}, "bos_token": "<s>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    tokenizer = load_tokenizer(str(tmp_path))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_without_a_template_a_conversation_is_refused(tmp_path: Path) -> None:
    """The refusal is vLLM's, and the tokenizer needs no configuration for anything else."""
    _copied("byte_level", tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.eos_token_id is None
    assert tokenizer.decode(tokenizer.encode("text")) == "text"
    assert tokenizer.content_format() == load_tokenizer().content_format() == "string"
    with pytest.raises(InputError, match="default chat template is no longer allowed"):
        tokenizer.chat_prompt([{"role": "user", "content": "hi"}], add_generation_prompt=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{}", "no tokenizer that the tokenizers package can read"),
        ("tokenizer_config.json", "[1]", "no JSON object"),
        ("tokenizer_config.json", "{", "no JSON object"),
        ("tokenizer_config.json", '{"bos_token": 5}', r"\$\.bos_token"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"x": {"content": "y"}}}',
            "added_tokens_decoder",
        ),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    """One line says which file is wrong and why."""
    (_copied("byte_level", tmp_path) / file).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as raised:
        load_tokenizer(str(tmp_path))
    assert file in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_vocabulary_without_words_makes_no_answers(tmp_path: Path) -> None:
    """A tokenizer of single characters says that it cannot be used for answers."""
    description = json.loads((DATA / "byte_level" / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = description["model"]["vocab"]
    description["model"] |= {
        "merges": [],
        "vocab": {token: token_id for token, token_id in vocabulary.items() if token_id < 259},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(InputError, match="no whole words"):
        load_tokenizer(str(tmp_path)).answer_token_ids()


def test_a_place_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    """The error says what may be given."""
    with pytest.raises(InputError, match=r"no tokenizer at .*: give 'words', a tokenizer.json, or a folder"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("tokenizers", "load_tokenizer(sys.argv[1])"),
        (
            "jinja2",
            "load_tokenizer().chat_prompt([{'role': 'a'}], add_generation_prompt=True, chat_template='x')",
        ),
    ],
)
def test_a_missing_package_is_named(tmp_path: Path, module: str, program: str) -> None:
    """Without an optional package the offline tokenizer works, and what needs the package says how to get it."""
    lines = [
        "import sys",
        f"sys.modules[{module!r}] = None",
        "from understudy.errors import InputError",
        "from understudy.tokenize import encode, load_tokenizer",
        "assert encode('text')",
        "try:",
        f"    {program}",
        "except InputError as error:",
        "    print(error)",
    ]
    _copied("byte_level", tmp_path)
    output = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert f"the {module} package: pip install 'understudy[tokenizers]'" in output
