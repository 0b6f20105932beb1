"""Text to token ids and back: offline by a vocabulary of our own, or by a real model's tokenizer."""

from understudy.tokenize.chat import load_chat_template
from understudy.tokenize.load import load_tokenizer
from understudy.tokenize.token_text import text_in_context
from understudy.tokenize.tokenizer import Message, TextStream, Tokenizer
from understudy.tokenize.vocabulary import VOCABULARY_SIZE
from understudy.tokenize.words import encode

__all__ = [
    "VOCABULARY_SIZE",
    "Message",
    "TextStream",
    "Tokenizer",
    "encode",
    "load_chat_template",
    "load_tokenizer",
    "text_in_context",
]
