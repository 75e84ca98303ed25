"""SmolLM2's tokenizer and its chat format."""

import codecs
from collections.abc import Iterable, Sequence

from torch import Tensor


def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 is itself, the rest from U+0100."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    return {chr(byte): byte for byte in plain} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


class Tokenizer:
    """SmolLM2's byte-level BPE: digits stand alone, then GPT-2's splitting rules.

    Args:
        tokens: all pieces in id order, in GPT-2's printable form.
        merges: "left right" pairs, most urgent first.
        special: ids of tokens that are read whole and never produced from ordinary text.
    """

    def __init__(
        self, tokens: Sequence[str], merges: Sequence[str], special: Iterable[int]
    ) -> None:
        from tokenizers import AddedToken, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as BackendTokenizer

        self._backend = BackendTokenizer(
            models.BPE(
                vocab={token: index for index, token in enumerate(tokens)},
                merges=[tuple(merge.split(" ")) for merge in merges],
            )
        )
        self._backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        self._backend.decoder = decoders.ByteLevel()
        self.special = frozenset(special)
        self._backend.add_special_tokens(
            [AddedToken(tokens[index], special=True, normalized=False) for index in self.special]
        )
        byte_of = _byte_of_character()
        self._bytes = [
            token.encode() if index in self.special else bytes(byte_of[c] for c in token)
            for index, token in enumerate(tokens)
        ]

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens written out in it count as such.

        A few control characters have no token in this vocabulary and are left out.

        Raises:
            ValueError: the text holds half of a surrogate pair, which no UTF-8 can.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start} of the text is half of a surrogate pair "
                f"({text[error.start]!r}): remove it, or copy the text again."
            ) from None
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int] | Tensor, *, skip_special: bool = False) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        return self._joined(ids, skip_special).decode(errors="replace")

    def token_strings(self, ids: Iterable[int] | Tensor) -> list[str]:
        """One piece of text per token; together they are the whole text.

        A character whose bytes are spread over several tokens belongs to the last of them; the
        earlier ones are empty.
        """
        reader = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [reader.decode(self._joined([index])) for index in ids]
        if pieces:
            pieces[-1] += reader.decode(b"", final=True)
        return pieces

    def _joined(self, ids: Iterable[int] | Tensor, skip_special: bool = False) -> bytes:
        pieces = []
        for index in map(int, ids):
            if not 0 <= index < self.vocab_size:
                raise ValueError(f"token id {index} must lie in [0, {self.vocab_size}).")
            if not (skip_special and index in self.special):
                pieces.append(self._bytes[index])
        return b"".join(pieces)


def chat_prompt(messages: Sequence[dict[str, str]]) -> str:
    """SmolLM2's chat format, ending where the assistant is to answer.

    Args:
        messages: dicts with "role" ("system", "user" or "assistant") and "content". Without a
            system message first, the model's own is put there.

    Raises:
        ValueError: no messages, or one without role and content.
    """
    if not messages:
        raise ValueError("messages=[] is empty: give at least one user message.")
    for message in messages:
        if set(message) != {"role", "content"}:
            raise ValueError(f"{message!r} must have the keys 'role' and 'content', no others.")
    if messages[0]["role"] != "system":
        own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        messages = [{"role": "system", "content": own}, *messages]
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"
