"""What every tokenizer here can do: the offline one and the adapters for real ones."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Message = Mapping[str, Any]
"""One message of a chat: `role`, `content` (a text, a list of parts or None), and what else its template reads."""

ContentFormat = Literal["string", "openai"]
"""Whether a chat template takes the content of a message as one text or as a list of parts."""


class TextStream(Protocol):
    """The text of an answer, token by token. What is held back at the end belongs to no text, as with vLLM."""

    def add(self, token_id: int) -> str:
        """Return the text that has become certain; bytes of an unfinished character are held back."""


class Tokenizer(Protocol):
    """Text to token ids and back.

    Raises InputError where a text, an id or a conversation cannot be handled.
    """

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""

    @property
    def max_characters_per_token(self) -> int:
        """The length of the longest entry of the vocabulary, as vLLM takes it to bound how long a text can be."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if there is one."""

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends an answer, if there is one."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text, with those that the tokenizer adds around it."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids. Unknown ids give no text, bytes that are no UTF-8 give U+FFFD."""

    def token_string(self, token_id: int) -> str:
        """Return the entry of the vocabulary, as `/tokenize` shows it; empty for an unknown id."""

    def token_text(self, token_id: int) -> str:
        """Return the text of one token with its leading space, as log probabilities show it."""

    def is_special(self, token_id: int) -> bool:
        """Tell whether the token is left out where special tokens are skipped."""

    def stream(
        self,
        *,
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,
        prompt_token_ids: Sequence[int] = (),
    ) -> TextStream:
        """Return a new stream of the text that follows a prompt."""

    def answer_token_ids(self) -> Sequence[int]:
        """Return ids of whole words: any sequence of them is what its text encodes to, special tokens aside."""

    def content_format(self, chat_template: str | None = None, *, has_tools: bool = False) -> ContentFormat:
        """Return what the template of a conversation wants, told from its source."""

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt of a conversation.

        `chat_template` replaces the tokenizer's own; `kwargs` are more variables for a template.
        """
