"""KL of Index Branches to the main attention and its gradient on the index scores, in one pass.

Many layers at once: the first axis, r, is layer and text. Queries stand at any positions, in
ascending order; each has its own support, the tokens up to it in the blocks that it may read.

    kl, d_scores = kl_and_gradient(q, k, q_idx, k_idx, at, allowed)

`impl="reference"` is the same in plain operations. The kernel reads every score twice and keeps
none but the gradient, which is what the keys' gradient is made of.

Source: arXiv:2606.13392v2, Eqs. 9-10, and section 3.2 for the gradient, P_idx - P.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton on this machine: the reference alone
    triton = None

FAR = -1e30  # the score of what is not read
TILE = 32  # queries of one program


def reference(
    q: Float[Tensor, "r n h_q d"],
    k: Float[Tensor, "r m h_kv d"],
    q_idx: Float[Tensor, "r n h_kv d_idx"],
    k_idx: Float[Tensor, "r m d_idx"],
    at: Int[Tensor, "r n"],
    allowed: Bool[Tensor, "r n h_kv n_blk"] | None,
    block_size: int,
) -> tuple[Float[Tensor, "r h_kv n"], Float[Tensor, "r h_kv n m"]]:
    """KL of every query and group in nats, and P_idx - P of its scores, 0 outside the support."""
    found = []
    for row in range(len(q)):
        m, h_kv = k.shape[1:3]
        grouped = q[row].float().unflatten(1, (h_kv, -1))
        main = torch.einsum("nhgd,mhd->hngm", grouped, k[row].float()) / math.sqrt(q.shape[-1])
        mine = torch.einsum("nhd,md->hnm", q_idx[row].float(), k_idx[row].float())
        mine = mine / math.sqrt(q_idx.shape[-1])
        token = torch.arange(m, device=q.device)
        support = (token <= at[row, :, None])[None]  # [1, n, m]
        if allowed is not None:
            support = support & allowed[row].transpose(0, 1)[..., token // block_size]
        teacher = main.masked_fill(~support[:, :, None], FAR).softmax(-1).mean(2)
        log_student = mine.masked_fill(~support, FAR).log_softmax(-1)
        away = teacher.clamp(min=torch.finfo(torch.float32).tiny).log() - log_student
        kl = (teacher * away.masked_fill(~support, 0)).sum(-1)
        found.append((kl, log_student.exp() - teacher))
    return torch.stack([kl for kl, _ in found]), torch.stack([d for _, d in found])


if triton is not None:

    @triton.jit
    def _visible(allowed, query, group, column, position, n, m, n_blk,
                 HAS: tl.constexpr, B: tl.constexpr, H: tl.constexpr):  # fmt: skip
        seen = (column[None, :] <= position[:, None]) & (query < n)[:, None]
        seen = seen & (column < m)[None, :]
        if HAS:
            place = (query[:, None] * H + group) * n_blk + column[None, :] // B
            seen = seen & (tl.load(allowed + place, mask=seen, other=0) != 0)
        return seen

    @triton.jit
    def _joined(score, top, total):
        new = tl.maximum(top, tl.max(score, 1))
        total = total * tl.exp(top - new) + tl.sum(tl.exp(score - new[:, None]), 1)
        return new, total

    @triton.jit
    def _kl_kernel(
        q, k, q_idx, k_idx, at, allowed, kl, d_scores,
        n, m, n_blk, scale, scale_idx,
        H: tl.constexpr, D: tl.constexpr, D_IDX: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
        HAS: tl.constexpr, B: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(1) // H
        group = tl.program_id(1) % H
        row64 = row.to(tl.int64)
        query = tl.program_id(0) * BQ + tl.arange(0, BQ)
        there = query < n
        position = tl.load(at + row64 * n + query, mask=there, other=0)
        end = tl.max(position, 0) + 1
        channel = tl.arange(0, D)
        index_channel = tl.arange(0, D_IDX)
        q += row64 * n * H * 3 * D + group * 3 * D
        place = query[:, None] * (H * 3 * D) + channel[None, :]
        q0 = tl.load(q + place, mask=there[:, None], other=0.0)
        q1 = tl.load(q + place + D, mask=there[:, None], other=0.0)
        q2 = tl.load(q + place + 2 * D, mask=there[:, None], other=0.0)
        q_idx += row64 * n * H * D_IDX + group * D_IDX
        place = query[:, None] * (H * D_IDX) + index_channel[None, :]
        qi = tl.load(q_idx + place, mask=there[:, None], other=0.0)
        k += row64 * m * H * D + group * D
        k_idx += row64 * m * D_IDX
        if HAS:
            allowed += row64 * n * H * n_blk
        t0 = tl.full([BQ], -1e30, tl.float32)
        t1 = tl.full([BQ], -1e30, tl.float32)
        t2 = tl.full([BQ], -1e30, tl.float32)
        ti = tl.full([BQ], -1e30, tl.float32)
        z0 = tl.zeros([BQ], tl.float32)
        z1 = tl.zeros([BQ], tl.float32)
        z2 = tl.zeros([BQ], tl.float32)
        zi = tl.zeros([BQ], tl.float32)
        for start in range(0, end, BK):
            column = start + tl.arange(0, BK)
            inside = column < m
            kt = tl.load(k + column[None, :] * (H * D) + channel[:, None],
                         mask=inside[None, :], other=0.0)  # fmt: skip
            ki = tl.load(k_idx + column[None, :] * D_IDX + index_channel[:, None],
                         mask=inside[None, :], other=0.0)  # fmt: skip
            seen = _visible(allowed, query, group, column, position, n, m, n_blk, HAS, B, H)
            t0, z0 = _joined(tl.where(seen, tl.dot(q0, kt) * scale, -1e30), t0, z0)
            t1, z1 = _joined(tl.where(seen, tl.dot(q1, kt) * scale, -1e30), t1, z1)
            t2, z2 = _joined(tl.where(seen, tl.dot(q2, kt) * scale, -1e30), t2, z2)
            ti, zi = _joined(tl.where(seen, tl.dot(qi, ki) * scale_idx, -1e30), ti, zi)
        t0 += tl.log(z0)
        t1 += tl.log(z1)
        t2 += tl.log(z2)
        ti += tl.log(zi)
        loss = tl.zeros([BQ], tl.float32)
        d_scores += (row64 * H + group) * n * m
        for start in range(0, end, BK):
            column = start + tl.arange(0, BK)
            inside = column < m
            kt = tl.load(k + column[None, :] * (H * D) + channel[:, None],
                         mask=inside[None, :], other=0.0)  # fmt: skip
            ki = tl.load(k_idx + column[None, :] * D_IDX + index_channel[:, None],
                         mask=inside[None, :], other=0.0)  # fmt: skip
            seen = _visible(allowed, query, group, column, position, n, m, n_blk, HAS, B, H)
            teacher = tl.exp(tl.dot(q0, kt) * scale - t0[:, None])
            teacher += tl.exp(tl.dot(q1, kt) * scale - t1[:, None])
            teacher += tl.exp(tl.dot(q2, kt) * scale - t2[:, None])
            teacher = tl.where(seen, teacher / 3, 0.0)
            log_student = tl.dot(qi, ki) * scale_idx - ti[:, None]
            student = tl.where(seen, tl.exp(log_student), 0.0)
            away = tl.log(tl.maximum(teacher, 1.2e-38)) - log_student
            loss += tl.sum(tl.where(seen, teacher * away, 0.0), 1)
            goal = query[:, None].to(tl.int64) * m + column[None, :]
            keep = there[:, None] & inside[None, :]
            tl.store(d_scores + goal, (student - teacher).to(d_scores.dtype.element_ty), mask=keep)
        tl.store(kl + (row64 * H + group) * n + query, loss, mask=there)


def kl_and_gradient(
    q: Float[Tensor, "r n h_q d"],
    k: Float[Tensor, "r m h_kv d"],
    q_idx: Float[Tensor, "r n h_kv d_idx"],
    k_idx: Float[Tensor, "r m d_idx"],
    at: Int[Tensor, "r n"],
    allowed: Bool[Tensor, "r n h_kv n_blk"] | None,
    *,
    block_size: int,
    impl: str = "reference",
) -> tuple[Float[Tensor, "r h_kv n"], Float[Tensor, "r h_kv n m"]]:
    """KL of every query and group in nats, and P_idx - P of its scores, 0 outside the support.

    Args:
        q: main queries, three heads to a group; at positions `at` [r, n], ascending.
        k: main keys of all m tokens.
        q_idx, k_idx: index queries and keys.
        at: positions of the queries.
        allowed: blocks that each may read, its own among them; all if None.
        block_size: tokens per block.
        impl: "reference" or "triton".

    Raises:
        ValueError: other than three heads to a group, for the kernel.
    """
    if impl == "reference":
        return reference(q, k, q_idx, k_idx, at, allowed, block_size)
    rows, n, h_q, d = q.shape
    m, h_kv, d_idx = k.shape[1], k.shape[2], q_idx.shape[-1]
    if h_q != 3 * h_kv:
        raise ValueError(f"{h_q} query heads for {h_kv} groups: the kernel takes three each.")
    kl = torch.empty(rows, h_kv, n, device=q.device, dtype=torch.float32)
    d_scores = torch.zeros(rows, h_kv, n, m, device=q.device, dtype=q.dtype)
    has = allowed is not None
    bits = allowed.to(torch.int8).contiguous() if has else at
    _kl_kernel[(triton.cdiv(n, TILE), rows * h_kv)](
        q.contiguous(), k.contiguous(), q_idx.contiguous(), k_idx.contiguous(), at.contiguous(),
        bits, kl, d_scores,
        n, m, -(-m // block_size), d**-0.5, d_idx**-0.5,
        H=h_kv, D=d, D_IDX=d_idx, BQ=TILE, BK=64, HAS=has, B=block_size,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return kl, d_scores
