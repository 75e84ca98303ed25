"""Inputs shared by the tests of LSA's kernels."""

from typing import NamedTuple

import torch
from torch import Tensor


class Scoring(NamedTuple):
    q: Tensor  # [b, heads, d]
    weights: Tensor  # [b, heads]
    keys: Tensor  # [b, chunks, d], or stored rows [b, chunks, d + 4]
    scales: Tensor | None  # [b, chunks], for float8_e4m3fn keys


class Reading(NamedTuple):
    q: Tensor  # [b, h, d]
    cells: Tensor  # [n_cells, d]
    slots: Tensor  # [b, k]
    window: Tensor  # [b, w, d]
    sinks: Tensor  # [h]


def stored_rows(keys, scales):
    """Codes and scales of chunks as the rows of a store, uint8 [..., chunks, d + 4]."""
    parts = (keys.view(torch.uint8), scales[..., None].contiguous().view(torch.uint8))
    return torch.cat(parts, dim=-1)


def draw_scoring(b, heads, chunks, d, *, seed, stored="plain", dtype=torch.float32, device="cpu"):
    """Normal queries and keys, weights of both signs; stored is "plain", "fp8" or "rows"."""
    generator = torch.Generator(device).manual_seed(seed)
    draw = {"generator": generator, "device": device}
    q = torch.randn(b, heads, d, **draw) * torch.rand(b, heads, 1, **draw).mul(8).exp2()
    weights = torch.randn(b, heads, **draw) / heads
    keys, scales = torch.randn(b, chunks, d, **draw), None
    if stored != "plain":
        scales = torch.rand(b, chunks, **draw) + 0.5
        keys = (keys * 50).to(torch.float8_e4m3fn)
        if stored == "rows":
            keys, scales = stored_rows(keys, scales), None
    else:
        keys = keys.to(dtype)
    return Scoring(q.to(dtype), weights, keys, scales)


def draw_reading(b, h, d, n_cells, k, w, *, seed, empty=0.2, dtype=torch.float32, device="cpu"):
    """Normal vectors; distinct cells in random order, slots emptied with probability `empty`."""
    generator = torch.Generator(device).manual_seed(seed)
    draw = {"generator": generator, "device": device}
    q, cells, window = (
        torch.randn(shape, **draw).to(dtype) for shape in ((b, h, d), (n_cells, d), (b, w, d))
    )
    order = torch.rand(b, n_cells, **draw).argsort(-1)
    slots = torch.full((b, k), -1, device=device)
    slots[:, : min(k, n_cells)] = order[:, :k]
    slots = torch.where(torch.rand(b, k, **draw) < empty, -1, slots).int()
    return Reading(q, cells, slots, window, torch.randn(h, **draw))


def draw_logits(layers, chunks, *, seed, share=0.1, device="cpu"):
    """Normal logits of which about `share` is above 0 in some layer, and some chunks missing."""
    generator = torch.Generator(device).manual_seed(seed)
    logits = torch.randn(layers, chunks, generator=generator, device=device)
    cut = torch.special.ndtri(torch.tensor((1 - share) ** (1 / layers), dtype=torch.float64))
    missing = torch.rand(chunks, generator=generator, device=device) < 0.05
    return (logits - float(cut)).masked_fill(missing, -torch.inf)
