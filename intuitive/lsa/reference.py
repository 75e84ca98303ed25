"""Window, CSA and HCA attention with loops: one sequence, one query, one entry at a time.

`layer` computes what `attention.LSAAttention` computes, from the same weights and from the
formulas alone. It takes minutes where that takes milliseconds, and is there to be read and to be
compared with.

Source: DeepSeek-V4 report, section 2.3; arXiv:2606.09079v2, section 2.1.
"""

import math
from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .config import Kind, LSAConfig
from .rotary import hadamard, layer_rates, turn
from .selection import memory_logits

Weights = Mapping[str, Tensor]


def norm(x: Float[Tensor, " d"], eps: float, gain: Tensor | None = None) -> Float[Tensor, " d"]:
    """x / √(mean(x²) + ε), times a gain if there is one."""
    x = x / (x.square().mean() + eps).sqrt()
    return x if gain is None else x * gain


def turn_one(
    x: Float[Tensor, " d"],
    position: int,
    config: LSAConfig,
    *,
    compressed: bool,
    back: bool = False,
) -> Float[Tensor, " d"]:
    """One vector, its last channels turned by its position."""
    rates = layer_rates(config, compressed=compressed)
    return turn(x[None], torch.tensor([position]), rates, back=back)[0]


def entry(
    weights: Weights, name: str, hidden: Float[Tensor, "n d_model"], i: int, size: int, d: int
) -> Float[Tensor, " d"]:
    """Entry i: each channel's weighted sum over its tokens, before norm and position.

    Channel c of token j enters with softmax weight over gate + slot bias. With two series (CSA)
    the chunk's own tokens use the second, the tokens of the chunk before use the first.
    """
    w_value, w_gate = weights[f"{name}.w_value.weight"], weights[f"{name}.w_gate.weight"]
    slot_bias = weights[f"{name}.slot_bias"]
    own = slice(len(w_value) - d, len(w_value))  # the second series, or the only one
    slots = [(i * size + j, j, own) for j in range(size)]
    if len(w_value) == 2 * d and i > 0:
        slots += [((i - 1) * size + j, j, slice(0, d)) for j in range(size)]
    values = torch.stack([(w_value @ hidden[t])[series] for t, _, series in slots])
    gates = torch.stack([(w_gate @ hidden[t] + slot_bias[j])[series] for t, j, series in slots])
    pooled = torch.zeros(d, dtype=hidden.dtype)
    for c in range(d):
        total = gates[:, c].exp().sum()
        for value, gate in zip(values[:, c], gates[:, c], strict=True):
            pooled[c] += value * gate.exp() / total
    return pooled


def entries(
    weights: Weights,
    name: str,
    hidden: Float[Tensor, "n d_model"],
    size: int,
    d: int,
    config: LSAConfig,
) -> list[Float[Tensor, " d"]]:
    """All entries that n tokens close; entry i stands at the position of its own first token."""
    made = []
    for i in range(len(hidden) // size):
        pooled = entry(weights, name, hidden, i, size, d)
        pooled = norm(pooled, config.norm_eps, weights[f"{name}.norm.weight"])
        made.append(turn_one(pooled, i * size, config, compressed=True))
    return made


def attend(
    q: Float[Tensor, " d"], rows: list[Float[Tensor, " d"]], sink: Float[Tensor, ""]
) -> Float[Tensor, " d"]:
    """Softmax attention of one head, keys and values the same, with a sink that gives nothing."""
    logits = [row @ q / math.sqrt(len(q)) for row in rows]
    greatest = max([*logits, sink])
    total = sum((logit - greatest).exp() for logit in [*logits, sink])
    return sum(
        (logit - greatest).exp() / total * row for logit, row in zip(logits, rows, strict=True)
    )


def layer(
    weights: Weights,
    hidden: Float[Tensor, "n d_model"],
    config: LSAConfig,
    kind: Kind,
    *,
    resident: Collection[int] | None = None,
    selects: bool = True,
) -> Float[Tensor, "n d_model"]:
    """Output of one layer for a text that begins at position 0.

    Args:
        weights: by their names in `LSAAttention`.
        hidden: input of the attention.
        config: sizes.
        kind: of the layer.
        resident: chunks that may be read, by every query; None for all.
        selects: whether a CSA layer reads the `top_k` entries that its indexer scores highest, or
            all of them.
    """
    d, compressed, eps = config.d_head, kind != "window", config.norm_eps
    size = {"window": 1, "csa": config.chunk_size, "hca": config.hca_size}[kind]
    pooled = entries(weights, "compressor", hidden, size, d, config) if compressed else []
    keys = []
    if kind == "csa":
        keys = entries(weights, "index_compressor", hidden, size, config.d_index, config)
        keys = [hadamard(key) if config.hadamard else key for key in keys]
    outputs, recent = [], []
    for t, h in enumerate(hidden):
        kv = norm(weights["w_kv.weight"] @ h, eps, weights["norm_kv.weight"])
        recent = [*recent, turn_one(kv, t, config, compressed=compressed)][-config.window :]
        low = norm(weights["w_dq.weight"] @ h, eps, weights["norm_q.weight"])
        chosen = list(range((t + 1) // size if compressed else 0))  # closed entries
        if resident is not None:
            chosen = [s for s in chosen if s in resident]
        if kind == "csa" and selects and chosen:
            heads = (weights["w_iuq.weight"] @ low).unflatten(0, (config.n_index_heads, -1))
            heads = torch.stack([turn_one(q, t, config, compressed=True) for q in heads])
            heads = hadamard(heads) if config.hadamard else heads
            scale = (config.n_index_heads * config.d_index) ** -0.5
            scores = memory_logits(
                heads, weights["w_iw.weight"] @ h * scale, torch.stack([keys[s] for s in chosen])
            )
            best = sorted(range(len(chosen)), key=lambda i: (-float(scores[i]), i))
            chosen = sorted(chosen[i] for i in best[: config.top_k])
        rows = recent + [pooled[s] for s in chosen]
        read = []
        for head, q in enumerate((weights["w_uq.weight"] @ low).unflatten(0, (-1, d))):
            q = turn_one(norm(q, eps), t, config, compressed=compressed)
            value = attend(q, rows, weights["sinks"][head])
            read.append(turn_one(value, t, config, compressed=compressed, back=True))
        mixed = []
        per_group = config.n_heads // config.o_groups
        for group, mix in enumerate(weights["w_oa.weight"].unflatten(0, (config.o_groups, -1))):
            mixed.append(mix @ torch.cat(read[group * per_group : (group + 1) * per_group]))
        outputs.append(weights["w_o.weight"] @ torch.cat(mixed))
    return torch.stack(outputs)
