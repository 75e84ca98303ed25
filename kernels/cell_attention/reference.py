"""The oracle: gather the cells, append the window, one softmax with the sink in it."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from .packing import unpack_cells


def cell_attention(
    q: Float[Tensor, "b h d"],
    cells: Tensor,
    slots: Int32[Tensor, "b k"],
    window: Float[Tensor, "b w d"] | None,
    sinks: Float[Tensor, " h"] | None,
    scale: float,
) -> Float[Tensor, "b h d"]:
    """The output in q's dtype, in float32 inside (float64 for float64 queries)."""
    inner = torch.promote_types(q.dtype, torch.float32)
    reads = (slots >= 0) & (slots < len(cells))
    kv = cells[torch.where(reads, slots, 0).long()]  # [b, k, d or bytes]
    kv = (unpack_cells(kv) if cells.dtype == torch.uint8 else kv).to(inner)
    if window is not None:
        kv = torch.cat((kv, window.to(inner)), dim=1)  # [b, k + w, d]
        reads = torch.cat((reads, reads.new_ones(window.shape[:2])), dim=1)
    kv = kv.masked_fill(~reads[..., None], 0.0)
    s = torch.einsum("bhd,bkd->bhk", q.to(inner), kv) * scale
    s = s.masked_fill(~reads[:, None], float("-inf"))
    if sinks is None:  # a sink of no weight, for a row with nothing to read
        sink = s.new_full((*s.shape[:2], 1), float("-inf"))
        sink = sink.masked_fill(~reads.any(-1)[:, None, None], 0.0)
    else:
        sink = sinks.to(inner)[None, :, None].expand(s.shape[0], -1, 1)
    p = torch.cat((s, sink), dim=-1).softmax(-1)[..., :-1]
    return torch.einsum("bhk,bkd->bhd", p, kv).to(q.dtype)
