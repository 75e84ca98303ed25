"""The reader's own document: `intuitive lab --text FILE` starts the lessons on it.

The command names the file in an environment variable, which JupyterLab hands to its kernels;
explorers that take a text begin with as much of it as they read. The file is only ever read.
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from .folders import named

TEXT_VARIABLE = "INTUITIVE_TEXT"
MOST_BYTES = 200_000  # of a file; no explorer reads as much
LONGEST_TOKEN = 32  # characters; no token of everyday text has more


@dataclass(frozen=True)
class OwnText:
    """The beginning of a document.

    Attributes:
        name: of its file.
        text: what is read of it.
        told: a sentence on how much that is; empty where it is all.
    """

    name: str
    text: str
    told: str = ""


def read(path: Path) -> OwnText:
    """The text of a file: UTF-8, or UTF-16 by its mark, or the old Western encoding.

    Raises:
        ValueError: there is no such file, or it holds no text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"the text {path} cannot be read ({error.strerror}): name a text file."
        ) from None
    raw, cut = raw[:MOST_BYTES], len(raw) > MOST_BYTES
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in raw and not utf16:
        raise ValueError(f"the text {path} holds NUL bytes, so it is no text: name a text file.")
    try:  # an incremental decoder leaves out what is cut off in the middle of a character
        text = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8-sig")().decode(raw)
    except UnicodeDecodeError:
        text = raw.decode("windows-1252", errors="replace")
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise ValueError(f"the text {path} is empty: name a file with words in it.")
    return OwnText(path.name, text, f"The first {MOST_BYTES:,} bytes are read." if cut else "")


def own_text(max_tokens: int) -> OwnText | None:
    """The document that the reader started with, no longer than `max_tokens` of SmolLM2's tokens.

    None where none was named, or where an explorer takes none (0 tokens). It ends where a word
    does. Without the language model it is not cut.

    Raises:
        ValueError: the variable names no text file (any more).
    """
    path = named(TEXT_VARIABLE) if max_tokens else None
    if path is None:
        return None
    whole = read(path)
    from .smollm import ModelMissing, load_smollm2

    try:
        tokenizer = load_smollm2().tokenizer
    except ModelMissing:
        return whole
    ids = tokenizer.encode(whole.text[: LONGEST_TOKEN * max_tokens])
    if len(ids) <= max_tokens and len(whole.text) <= LONGEST_TOKEN * max_tokens:
        return whole
    opening = tokenizer.decode(ids[:max_tokens])
    words = opening[: max(opening.rfind(" "), opening.rfind("\n"))] or opening
    return OwnText(whole.name, words, f"Its first {max_tokens:,} tokens are read here.")
