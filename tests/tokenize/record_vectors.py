"""Records what vLLM 0.33 and transformers 5.20 make of random texts, ids and conversations.

Run it with an interpreter that has vLLM: `python tests/tokenize/record_vectors.py MODEL_FOLDER`, where the folder
holds a byte-level `tokenizer.json` with a `tokenizer_config.json`. It is copied, a SentencePiece-like tokenizer is
trained beside it, variants of the configuration are made, and `vectors.json` says what came out.
"""

import json
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from vllm.renderers.hf import _detect_content_format, safe_apply_chat_template
from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens
from vllm.tokenizers.hf import CachedHfTokenizer
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor

DATA = Path(__file__).parent.parent / "data" / "tokenizer"
WORDS = [
    "the",
    "a",
    "of",
    "and",
    "model",
    "cache",
    "token",
    "request",
    "for",
    "in",
    "is",
    "not",
    "self",
    "return",
    "def",
    "while",
    "streams",
    "schedule",
]
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ",
    "ABCxyz0189 \t\n.,;:!?'\"()[]{}<>|_-+=/*",
    "äöüßéèñ çøåßЖдйλπ",
    "中文日本語한국어の",
    "😀👍🏽👨‍👩‍👧🇩🇪 e\u0301\u200b\ufeff\ufffd",
)
TEMPLATES = {
    "plain": "{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "blocks": "{% for m in messages %}\n    {%- if loop.first and m.role == 'system' %}\n{{ m.content }}\n"
    "    {% else %}\n  {{ bos_token }}[{{ loop.index }}] {{ m.role }}: {{ m.content }}\n    {% endif %}\n{% endfor %}\n"
    "{% if add_generation_prompt %}assistant:{% endif %}",
    "tools": "{% if tools %}{{ tools | tojson }}|{{ tools | tojson(indent=2) }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ m.role }}={{ m.content }};"
    "{% endfor %}{{ documents | tojson }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}[{{ m.content }}]{% endif %}{% endfor %}{{ extra | default('none') }}",
    "raises": "{% if messages[0].role != 'system' %}{{ raise_exception('a system message must be first') }}"
    "{% endif %}{{ messages[0].content }}",
    "undefined": "{{ messages[0].missing.field }}",
    "broken": "{% for m in messages %}{{ m.content }}",
    "mutates": "{{ messages.append(messages[0]) }}",
    "developer": "{% for m in messages %}{{ m.role }}{{ 'developer' == m.role }}{{ m.content }}{% endfor %}",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m['content'] %}{{ part.text }}|{% endfor %}{% endif %}{% endfor %}",
}
LOOPING_TEMPLATES = {
    "namespace": "{% set ns = namespace(rest=messages) %}{% for m in ns.rest %}"
    "{% for part in m.content %}{{ part }}{% endfor %}{% endfor %}",
    "sliced": "{% set rest = messages[1:] %}{% for m in rest %}{% for part in m.content | list %}{{ part }}"
    "{% endfor %}{% endfor %}",
    "macro": "{% macro show(what, how) %}{% for part in what %}{{ how }}{{ part }}{% endfor %}{% endmacro %}"
    "{% for m in messages %}{{ show(m.content, how='-') }}{% endfor %}",
    "macro_name": "{% macro show(content) %}{% for part in content %}{{ part }}{% endfor %}{% endmacro %}"
    "{{ show('abc') }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "namespace_attribute": "{% set ns = namespace(all=none) %}{% set ns.all = messages %}"
    "{% for m in ns.all %}{% for part in m.content %}{{ part }}{% endfor %}{% endfor %}",
    "macro_keyword": "{% macro show(what) %}{% for part in what %}{{ part }}{% endfor %}{% endmacro %}"
    "{% macro other(what) %}{{ what }}{% endmacro %}"
    "{% for m in messages %}{{ other(1) }}{{ show(what=m.content) }}{% endfor %}",
    "pairs": "{% for m in messages %}{% set a, b = 1, 2 %}{% for k, v in m | items %}{{ k }}{% endfor %}{% endfor %}",
    "content_name": "{% for m in messages %}{% set content = m.content %}{% for c in content %}{{ c }}{% endfor %}"
    "{% endfor %}",
}
TOOLS = [{"type": "function", "function": {"name": "größe", "parameters": {"b": [1, None], "a": "<&>"}}}]


def texts(source: random.Random, count: int) -> list[str]:
    """Return texts of words, letters, marks, other scripts and emoji."""
    made = [
        "",
        " ",
        "Hello, world!",
        "<s> a </s></s> b<unk>",
        "it's don't we'll 12345",
        "a\r\n\r\n  b\t\tc   ",
    ]
    while len(made) < count:
        parts = []
        for _ in range(source.randint(1, 6)):
            if source.random() < 0.5:
                parts.append(" ".join(source.choices(WORDS, k=source.randint(1, 5))))
            else:
                parts.append("".join(source.choices(source.choice(ALPHABETS), k=source.randint(1, 8))))
        made.append(source.choice(["", " "]).join(parts))
    return made


def train_sentencepiece(folder: Path) -> None:
    """Write a tokenizer with a space marker and bytes for rare characters, as Llama 2's is."""
    source = random.Random(7)
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True)
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["<s>", "$A"], pair=["<s>", "$A", "$B"], special_tokens=[("<s>", 1)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    lines = [" ".join(source.choices(WORDS, k=12)) for _ in range(200)]
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=special, max_token_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = description["added_tokens"][:3]
    description["pre_tokenizer"]["split"] = False
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")


def variants(byte_level: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return configurations by name, each with the folder of its `tokenizer.json`."""
    added = {
        "600": {
            "content": "<|end|>",
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
            "special": True,
        },
        "601": {
            "content": "<think>",
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
            "special": False,
        },
    }
    return {
        "byte_level": ("byte_level", byte_level),
        "with_added_tokens": (
            "byte_level",
            {
                **byte_level,
                "add_bos_token": True,
                "add_eos_token": True,
                "added_tokens_decoder": added,
                "eos_token": {**added["600"], "__type": "AddedToken"},
                "additional_special_tokens": ["<extra>"],
                "chat_template": [
                    {"name": "default", "template": TEMPLATES["plain"]},
                    {"name": "tool_use", "template": TEMPLATES["tools"]},
                ],
            },
        ),
        "sentencepiece": (
            "sentencepiece",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "add_bos_token": True,
                "add_eos_token": False,
                "chat_template": TEMPLATES["blocks"],
            },
        ),
    }


def streamed(tokenizer: Any, prompt: list[int], ids: list[int], *, skip: bool, spaces: bool) -> list[str]:
    """Return the text that vLLM's detokenizer gives for each id."""
    request = SimpleNamespace(
        request_id="recorded",
        prompt_token_ids=prompt,
        sampling_params=SimpleNamespace(
            stop=None,
            min_tokens=0,
            include_stop_str_in_output=False,
            skip_special_tokens=skip,
            spaces_between_special_tokens=spaces,
        ),
    )
    detokenizer = FastIncrementalDetokenizer(tokenizer, request)
    return [detokenizer.decode_next(token_id) for token_id in ids]


def conversations() -> list[dict[str, Any]]:
    """Return conversations with the arguments of a chat prompt."""
    system = {"role": "system", "content": "Be <brief> & kind."}
    user = {"role": "user", "content": "  Wie größ is 中? "}
    answer = {"role": "assistant", "content": "Very big \n"}
    tool = {"role": "tool", "content": "42", "tool_call_id": "a"}
    developer = {"role": "developer", "content": "Follow rules.", "tools": []}
    parts = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two "}]}
    talks = [
        [user],
        [system, user, answer, user],
        [system, user, answer],
        [user, answer, tool],
        [user, developer],
        [developer, user],
        [parts],
        [{"role": "user", "content": [{"type": "text", "text": "last"}, {"type": "image"}]}],
        [{"role": "user", "content": [{"type": "image"}]}],
        [{"role": "system", "content": ["a", {"type": "image"}, {"text": "b"}]}, developer],
        [],
        [{"role": "assistant", "content": None}],
    ]
    cases = []
    for messages in talks:
        cases += [
            {"messages": messages, "add_generation_prompt": True},
            {"messages": messages, "add_generation_prompt": False, "tools": TOOLS},
            {"messages": messages, "add_generation_prompt": False, "continue_final_message": True},
        ]
    cases += [
        {"messages": [user], "add_generation_prompt": True, "continue_final_message": True},
        {"messages": [user], "add_generation_prompt": True, "kwargs": {"extra": "more", "bos_token": "B"}},
        {
            "messages": [user],
            "add_generation_prompt": True,
            "kwargs": {"documents": [{"title": "t"}], "tools": TOOLS},
        },
    ]
    separate: list[dict[str, Any]] = json.loads(json.dumps(cases))  # no two messages are the same object
    return separate


def prompt_of(tokenizer: Any, case: dict[str, Any], template: str | None) -> dict[str, str]:
    """Return the prompt or the error of vLLM's renderer."""
    config = SimpleNamespace(
        tokenizer="none",
        model="other",
        tokenizer_revision=None,
        code_revision=None,
        trust_remote_code=False,
        hf_config=SimpleNamespace(model_type="none"),
    )
    arguments = {key: value for key, value in case.items() if key not in {"messages", "kwargs"}}
    arguments |= {"chat_template": template, "tokenize": False, **case.get("kwargs", {})}
    try:
        return {"prompt": safe_apply_chat_template(config, tokenizer, case["messages"], **arguments)}
    except Exception as error:  # noqa: BLE001 - whatever vLLM answers is what is recorded
        return {"error": str(error)}


def recorded(folder: Path, num_texts: int, templates: dict[str, str | None]) -> dict[str, Any]:
    """Return everything that is recorded of one tokenizer."""
    source = random.Random(num_texts)
    tokenizer = CachedHfTokenizer.from_pretrained(folder)
    processor = LogprobsProcessor(tokenizer, [], None, None, 0, None)
    encoded = [
        [text, tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False)]
        for text in texts(source, num_texts)
    ]
    sequences = [
        [source.randrange(len(tokenizer)) for _ in range(source.randint(1, 9))] for _ in range(num_texts // 3)
    ]
    sequences += [ids for _, ids, _ in source.sample(encoded, num_texts // 5)]
    decoded = []
    streams = []
    for ids in sequences:
        in_context = [
            processor._verify_tokens(
                convert_ids_list_to_tokens(tokenizer, [token_id]), [token_id], ids[max(0, at - 4) : at]
            )[0]
            for at, token_id in enumerate(ids)
        ]
        decoded.append(
            [ids, tokenizer.decode(ids, skip_special_tokens=True), tokenizer.decode(ids), in_context]
        )
        cut = source.randint(0, len(ids))
        skip, spaces = source.random() < 0.5, source.random() < 0.5
        pieces = streamed(tokenizer, ids[:cut], ids[cut:], skip=skip, spaces=spaces)
        streams.append([ids[:cut], ids[cut:], skip, spaces, pieces])
    return {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "vocabulary_size": tokenizer.max_token_id + 1,
        "special": [token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special],
        "token_strings": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "encoded": encoded,
        "decoded": decoded,
        "streams": streams,
        "chats": [
            [name, case, prompt_of(tokenizer, case, template)]
            for name, template in templates.items()
            for case in conversations()
        ],
    }


def main() -> None:
    """Write all data files."""
    model = Path(sys.argv[1])
    shutil.rmtree(DATA, ignore_errors=True)
    (DATA / "byte_level").mkdir(parents=True)
    shutil.copyfile(model / "tokenizer.json", DATA / "byte_level" / "tokenizer.json")
    train_sentencepiece(DATA / "sentencepiece")
    byte_level = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    vectors: dict[str, Any] = {
        "origin": "vLLM 0.33.0, transformers 5.20.2, tokenizers 0.23.3",
        "templates": {**TEMPLATES, **LOOPING_TEMPLATES},
    }
    vectors["content_formats"] = {
        name: _detect_content_format(template, default="string")
        for name, template in {**TEMPLATES, **LOOPING_TEMPLATES}.items()
    }
    vectors["tokenizers"] = {}
    for name, (folder, config) in variants(byte_level).items():
        scratch = DATA / "scratch"
        shutil.copytree(DATA / folder, scratch)
        (scratch / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        every = {"own": None, **(TEMPLATES if name == "byte_level" else {})}
        vectors["tokenizers"][name] = {
            "folder": folder,
            "config": config,
            **recorded(scratch, 500 if name == "byte_level" else 150, every),
        }
        shutil.rmtree(scratch)
    lines = json.dumps(vectors, ensure_ascii=False, separators=(",", ":"))
    (DATA / "vectors.json").write_text(f"{lines}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
