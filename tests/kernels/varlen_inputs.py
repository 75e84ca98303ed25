"""Batches of sequences for the kernel tests: the same sequences packed, in a cache and in pages."""

from typing import Any, NamedTuple

import torch
from kernel_inputs import draw_blocks
from torch import Tensor

from intuitive.kernels import block_sparse_attention, score_and_select

LAYOUTS = ("packed", "cache", "pages")


class Batch(NamedTuple):
    q: Tensor  # [t_q, h_q, d]
    k: Tensor  # [t_k, h_kv, d], [b, m, h_kv, d] or [pages, page, h_kv, d]
    v: Tensor
    q_idx: Tensor  # [t_q, h_kv, d_idx]
    k_idx: Tensor
    block_idx: Tensor  # [t_q, h_kv, n_sel]
    where: dict[str, Any]  # the arguments that say where sequences lie
    each: list[tuple[Tensor, ...]]  # of each sequence q, k, v, q_idx, k_idx, block_idx: [1, n, ...]
    lengths: list[tuple[int, int]]  # queries and keys


def ints(values, device="cpu"):
    return torch.tensor(values, dtype=torch.int32, device=device)


def starts(lengths, device="cpu"):
    return ints([0, *torch.tensor(lengths).cumsum(0).tolist()], device)


def draw_batch(
    layout, lengths, h_kv, group, d, *, block_size, n_selected, seed, page=None, d_idx=None,
    dtype=torch.float32, device="cpu", single=False,
):  # fmt: skip
    """Normal sequences with random selections; what no sequence owns is NaN, or no page at all.

    Args:
        lengths: (queries, keys) of each sequence; no keys means that its queries have none to read.
        single: leave `cu_seqlens_q` out; every sequence has one query.
    """
    draw = torch.Generator(device).manual_seed(seed)
    page, d_idx = page or block_size, d_idx or d

    def normal(*shape):
        return torch.randn(shape, generator=draw, device=device).to(dtype)

    each = []
    for i, (n, m) in enumerate(lengths):
        keys = [normal(1, m, *rest) for rest in ((h_kv, d), (h_kv, d), (d_idx,))]
        blocks = torch.full((1, n, h_kv, n_selected), -1, dtype=torch.int32, device=device)
        if n and m:
            blocks = draw_blocks(
                1, n, m, h_kv, block_size=block_size, n_selected=n_selected, seed=seed + i,
                device=device,
            )  # fmt: skip
        q, q_idx = normal(1, n, h_kv * group, d), normal(1, n, h_kv, d_idx)
        each.append((q, keys[0], keys[1], q_idx, keys[2], blocks))
    packed = [torch.cat([row[i] for row in each], 1)[0] for i in range(6)]
    where: dict[str, Any] = {}
    if not single:
        where["cu_seqlens_q"] = starts([n for n, _ in lengths], device)
    longest = max(m for _, m in lengths)
    where["max_seqlen_k"] = longest
    keys = [packed[i] for i in (1, 2, 4)]
    if layout == "packed":
        where["cu_seqlens_k"] = starts([m for _, m in lengths], device)
    elif layout == "cache":
        where["seq_lens"] = ints([m for _, m in lengths], device)
        keys = [_cache(each, i, longest + 5) for i in (1, 2, 4)]
    else:
        where["seq_lens"] = ints([m for _, m in lengths], device)
        where["block_table"], keys = _pages(each, lengths, page, draw)
    q, q_idx, block_idx = packed[0], packed[3], packed[5]
    return Batch(q, keys[0], keys[1], q_idx, keys[2], block_idx, where, each, lengths)


def _cache(each, i, rows):
    whole = each[0][i].new_full((len(each), rows, *each[0][i].shape[2:]), float("nan"))
    for seq, row in enumerate(each):
        whole[seq, : row[i].shape[1]] = row[i][0]
    return whole


def _pages(each, lengths, page, draw):
    """Pages in random order, some of which no sequence has; table entries not in use are -1."""
    device = each[0][0].device
    counts = [-(-m // page) for _, m in lengths]
    order = torch.randperm(sum(counts) + 3, generator=draw, device=device)
    table = torch.full((len(each), max(*counts, 1) + 1), -1, dtype=torch.int32, device=device)
    used = 0
    for seq, count in enumerate(counts):
        table[seq, :count] = order[used : used + count].int()
        used += count
    keys = []
    for i in (1, 2, 4):
        shape = (len(order), page, *each[0][i].shape[2:])
        whole = each[0][i].new_full(shape, float("nan"))
        for seq, row in enumerate(each):
            key = torch.arange(row[i].shape[1], device=device)
            whole[table[seq].long()[key // page], key % page] = row[i][0]
        keys.append(whole)
    return table, keys


def one_by_one(batch, rule, **attend):
    """Selection, output and log-sum-exp by the functions of one sequence, in a loop."""
    found = []
    for (q, k, v, q_idx, k_idx, blocks), (n, m) in zip(batch.each, batch.lengths, strict=True):
        ids = (
            torch.full((n, *batch.block_idx.shape[1:2], rule["n_selected"]), -1).int().to(q.device)
        )
        out, lse = torch.zeros_like(q[0]), torch.full(q.shape[1:3], float("-inf")).to(q.device)
        if n and m:
            ids = score_and_select(q_idx, k_idx, **rule, impl=attend.get("impl", "auto"))[0]
            out, lse = block_sparse_attention(
                q, k, v, blocks, block_size=rule["block_size"], return_lse=True, **attend
            )
            out, lse = out[0], lse[0]
        found.append((ids, out, lse))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]
