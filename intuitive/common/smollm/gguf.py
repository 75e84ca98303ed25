"""GGUF, the format of the model's file: metadata, tensors, and our names for them.

Source: the `ggml` repository, docs/gguf.md.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..decoder import DecoderConfig


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata and the dequantised float32 tensors of a GGUF file."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        with np.errstate(all="ignore"):  # a caller may have told numpy to raise
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = values if values.flags.writeable else values.copy()
    return fields, tensors


def _half_split(rows: Tensor, n_heads: int) -> Tensor:
    """Undo GGUF's order of query and key rows, which interleaves the two halves of a head."""
    return rows.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def read_config(fields: dict[str, Any]) -> DecoderConfig:
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
