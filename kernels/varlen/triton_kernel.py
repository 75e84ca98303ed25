"""The custom operators of batches of sequences."""

import torch
from torch import Tensor

from .layout import Layout
from .triton_attend import attend
from .triton_select import select


@torch.library.custom_op("intuitive::select_varlen", mutates_args=())
def select_varlen(
    q_idx: Tensor,
    k_idx: Tensor,
    starts: Tensor | None,
    lens: Tensor,
    table: Tensor | None,
    packed: bool,
    longest: int,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    plan: str,
) -> Tensor:
    """Custom operator behind the public function: int32 [t_q, h_kv, n_selected]."""
    layout = Layout(starts, lens, table, packed, longest)
    with torch.cuda.device_of(q_idx):
        return select(
            q_idx.contiguous(), k_idx, layout, n_selected, block_size, n_local, n_init, plan
        )


@select_varlen.register_fake
def _(q_idx, k_idx, starts, lens, table, packed, longest, n_selected, *rest):
    return q_idx.new_empty((*q_idx.shape[:2], n_selected), dtype=torch.int32)


@torch.library.custom_op("intuitive::attend_varlen", mutates_args=())
def attend_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_idx: Tensor,
    starts: Tensor | None,
    lens: Tensor,
    table: Tensor | None,
    packed: bool,
    longest: int,
    block_size: int,
    scale: float,
    plan: str,
) -> tuple[Tensor, Tensor]:
    """Output [t_q, h_q, d] in q's dtype, and log-sum-exp [t_q, h_q] in float32."""
    layout = Layout(starts, lens, table, packed, longest)
    block_idx = block_idx.int().contiguous()
    with torch.cuda.device_of(q):
        return attend(q.contiguous(), k, v, block_idx, layout, block_size, scale, plan)


@attend_varlen.register_fake
def _(q, k, v, block_idx, starts, lens, table, packed, longest, block_size, scale, plan):
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)
