"""The custom operators: many queries, one query, and the backward pass of both."""

import torch
from torch import Tensor

from .triton_backward import attend_backward
from .triton_decode import attend_one
from .triton_forward import attend
from .triton_scattered import attend_scattered, scattered_serves


def _contiguous_head(x: Tensor) -> Tensor:
    """Keys and values may have any strides but along the head axis."""
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op("intuitive::block_sparse_attention", mutates_args=())
def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_idx: Tensor,
    block_size: int,
    scale: float,
    plan: str = "general",
) -> tuple[Tensor, Tensor]:
    """Output [b, n, h_q, d] in q's dtype, and log-sum-exp [b, n, h_q] in float32."""
    k, v, block_idx = _contiguous_head(k), _contiguous_head(v), block_idx.int().contiguous()
    q = q.contiguous()
    with torch.cuda.device_of(q):
        if q.shape[1] == 1:
            return attend_one(q, k, v, block_idx, block_size, scale)
        if plan == "scattered" and scattered_serves(q, k, block_size, scale):
            return attend_scattered(q, k, v, block_idx, block_size, scale)
        return attend(q, k, v, block_idx, block_size, scale, plan)


@block_sparse_attention.register_fake
def _(q, k, v, block_idx, block_size, scale, plan="general"):
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("intuitive::block_sparse_attention_backward", mutates_args=())
def block_sparse_attention_backward(
    dout: Tensor,
    dlse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    block_idx: Tensor,
    block_size: int,
    scale: float,
    plan: str = "general",
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    k, v, block_idx = _contiguous_head(k), _contiguous_head(v), block_idx.int().contiguous()
    dout, dlse, q = dout.contiguous(), dlse.contiguous(), q.contiguous()
    with torch.cuda.device_of(q):
        return attend_backward(dout, dlse, q, k, v, out, lse, block_idx, block_size, scale, plan)


@block_sparse_attention_backward.register_fake
def _(dout, dlse, q, k, v, out, lse, block_idx, block_size, scale, plan="general"):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx, inputs, output):
    q, k, v, block_idx, ctx.block_size, ctx.scale, ctx.plan = inputs
    ctx.save_for_backward(q, k, v, block_idx, *output)


def _gradients(ctx, dout, dlse):
    q, k, v, block_idx, out, lse = ctx.saved_tensors
    grads = block_sparse_attention_backward(
        dout, dlse, q, k, v, out, lse, block_idx, ctx.block_size, ctx.scale, ctx.plan
    )
    return *grads, None, None, None, None


block_sparse_attention.register_autograd(_gradients, setup_context=_save)
