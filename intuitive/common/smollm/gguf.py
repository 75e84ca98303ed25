"""GGUF, the format of the model's file: metadata, tensors, and our names for them.

Source: the `ggml` repository, docs/gguf.md.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..decoder import DecoderConfig

SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
TEXT, ARRAY = 8, 9  # types of values; the others are `SCALARS`, as `struct` names them


class _Header:
    """Reads a GGUF file's header from front to back.

    The `gguf` package makes a numpy view of every part of every field, which takes seconds for the
    fifty thousand tokens and as many merges of this model; its tables and arithmetic are used here.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def numbers(self, kind: str, count: int = 1) -> tuple[Any, ...]:
        """The next numbers, little-endian."""
        form = f"<{count}{kind}"
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> str:
        (size,) = self.numbers("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind: int) -> Any:
        """The next value of a type; arrays become lists."""
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            ((inner,), (count,)) = self.numbers("I"), self.numbers("Q")
            if inner in SCALARS:
                return list(self.numbers(SCALARS[inner], count))
            return [self.value(inner) for _ in range(count)]
        if kind not in SCALARS:
            raise ValueError(f"a GGUF value of type {kind}: there are types 0 to 12.")
        return self.numbers(SCALARS[kind])[0]


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata and the dequantised float32 tensors of a GGUF file, version 2 or 3.

    Raises:
        ValueError: it is no such file.
    """
    import gguf

    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header = _Header(data)
    magic, version = header.numbers("I", 2)
    if magic != gguf.GGUF_MAGIC or version not in (2, 3):
        raise ValueError(f"{path} is no GGUF file of version 2 or 3.")
    n_tensors, n_fields = header.numbers("Q", 2)
    fields = {}
    for _ in range(n_fields):
        name = header.text()
        fields[name] = header.value(header.numbers("I")[0])
    found = []
    for _ in range(n_tensors):
        name, (n_axes,) = header.text(), header.numbers("I")
        shape = header.numbers("Q", n_axes)[::-1]  # written with the fastest axis first
        found.append((name, shape, header.numbers("I")[0], header.numbers("Q")[0]))
    align = fields.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    begin = header.at + -header.at % align
    tensors = {}
    for name, shape, kind, offset in found:
        n_values, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        rows = (*shape[:-1], shape[-1] // n_values * n_bytes)
        raw = np.frombuffer(data, np.uint8, math.prod(rows), begin + offset).reshape(rows)
        if kind == gguf.GGMLQuantizationType.F32:
            raw = raw.view(np.float32)
        with np.errstate(all="ignore"):  # a caller may have told numpy to raise
            values = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind))
        tensors[name] = values if values.flags.writeable else values.copy()
    return fields, tensors


def _half_split(rows: Tensor, n_heads: int) -> Tensor:
    """Undo GGUF's order of query and key rows, which interleaves the two halves of a head."""
    return rows.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def read_config(fields: dict[str, Any]) -> DecoderConfig:
    """The sizes that the fields of a GGUF file name."""
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


def read_weights(tensors: dict[str, np.ndarray], config: DecoderConfig) -> dict[str, Tensor]:
    """Weights by the names of our decoder, with RoPE's channels in its order."""
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
