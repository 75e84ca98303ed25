"""The oracle: the oracles of one sequence, in a loop over sequences."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from ..block_sparse_attention.reference import block_sparse_attention
from ..score_and_select.reference import score_and_select
from .layout import Layout


def _sequences(layout: Layout, page: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each sequence that reads: its queries, and the page and row of each of its keys.

    Queries before the first key have nothing to read and are left out.
    """
    lens = layout.lens.tolist()
    b = len(lens) - layout.packed
    starts = range(b + 1) if layout.starts is None else layout.starts.tolist()
    for seq in range(b):
        m = lens[seq + 1] - lens[seq] if layout.packed else lens[seq]
        key = torch.arange(m, device=layout.lens.device)
        if layout.packed:
            pages, rows = torch.zeros_like(key), key + lens[seq]
        elif layout.table is None:
            pages, rows = torch.full_like(key, seq), key
        else:
            pages, rows = layout.table[seq].long()[key // page], key % page
        begin, end = starts[seq], starts[seq + 1]
        begin = max(begin, end - m)
        if begin < end:
            yield slice(begin, end), pages, rows


def select_varlen(
    q_idx: Float[Tensor, "t_q h_kv d_idx"],
    k_idx: Float[Tensor, "pages rows d_idx"],
    layout: Layout,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
) -> Int32[Tensor, "t_q h_kv n_selected"]:
    """Ids within each sequence."""
    shape = (*q_idx.shape[:2], n_selected)
    out = torch.full(shape, -1, dtype=torch.int32, device=q_idx.device)
    for queries, pages, rows in _sequences(layout, k_idx.shape[1]):
        out[queries] = score_and_select(
            q_idx[None, queries], k_idx[pages, rows][None], n_selected, block_size, n_local, n_init
        )[0]
    return out


def attend_varlen(
    q: Float[Tensor, "t_q h_q d"],
    k: Float[Tensor, "pages rows h_kv d"],
    v: Float[Tensor, "pages rows h_kv d"],
    block_idx: Int[Tensor, "t_q h_kv n_sel"],
    layout: Layout,
    block_size: int,
    scale: float,
) -> tuple[Float[Tensor, "t_q h_q d"], Float[Tensor, "t_q h_q"]]:
    """Output and log-sum-exp."""
    inner = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q)
    lse = torch.full(q.shape[:2], float("-inf"), dtype=inner, device=q.device)
    for queries, pages, rows in _sequences(layout, k.shape[1]):
        part, part_lse = block_sparse_attention(
            q[None, queries], k[pages, rows][None], v[pages, rows][None], block_idx[None, queries],
            block_size, scale,
        )  # fmt: skip
        out[queries], lse[queries] = part[0], part_lse[0]
    return out, lse
