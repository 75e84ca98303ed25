"""Block-sparse attention under a mask: padding on the left, in the middle, or of a static cache.

The kernels read causally and know no mask. Here the selected tokens are gathered and masked one by
one, or the rows of a batch are freed of their padding first. Slower, in plain torch.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.kernels.limits import query_chunks


def gathered_attention(
    q: Float[Tensor, "b h_q n d"],
    k: Float[Tensor, "b h_kv m d"],
    v: Float[Tensor, "b h_kv m d"],
    block_idx: Int[Tensor, "b h_kv n n_sel"],
    mask: Bool[Tensor, "b one n m"],
    block_size: int,
    scale: float,
) -> Float[Tensor, "b h_q n d"]:
    """Softmax attention over the tokens of selected blocks that the mask allows.

    Queries are taken a few at a time, so that at most 256 MiB of keys are gathered. A query with
    nothing to read, which is padding, gets the mean of all values, as in `transformers`.

    Args:
        q, k, v: heads before tokens, as `transformers` has them.
        block_idx: ids of distinct blocks; -1 marks an empty slot.
        mask: True where reading is allowed, causality included; the same for all heads.
        block_size: tokens per block.
        scale: factor on the dot products.

    Returns:
        In q's dtype; float32 or wider inside.
    """
    (b, _, n, d), (_, h_kv, m, _) = q.shape, k.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    within = torch.arange(block_size, device=q.device)
    out = torch.empty_like(q)
    for start, stop in query_chunks(n, 4 * b * h_kv * block_idx.shape[-1] * block_size * d):
        chosen = block_idx[:, :, start:stop, :, None]
        token = (chosen * block_size + within).flatten(3)  # [b, h_kv, r, t]
        held = ((chosen >= 0).expand(-1, -1, -1, -1, block_size).flatten(3)) & (token < m)
        token = token.clamp(0, m - 1).long()
        allowed = mask[:, :, start:stop].expand(b, h_kv, -1, -1).gather(-1, token) & held
        place = token.flatten(2)[..., None].expand(-1, -1, -1, d)
        keys, values = (
            x.gather(2, place).unflatten(2, token.shape[2:]).to(wide) for x in (k, v)
        )  # [b, h_kv, r, t, d]
        asked = q[:, :, start:stop].unflatten(1, (h_kv, -1)).to(wide) * scale
        scores = torch.einsum("bhgrd,bhrtd->bhgrt", asked, keys)
        scores = scores.masked_fill(~allowed[:, :, None], -torch.inf)
        idle = ~allowed.any(-1)[:, :, None, :, None]
        p = scores.masked_fill(idle, 0.0).softmax(-1)
        attended = torch.einsum("bhgrt,bhrtd->bhgrd", p, values)
        attended = torch.where(idle, v.to(wide).mean(2)[:, :, None, None], attended)
        out[:, :, start:stop] = attended.flatten(1, 2).to(q.dtype)
    return out


def unpadded_rows(mask: Bool[Tensor, "b one n m"]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each row of a batch the keys that are no padding, and the queries likewise.

    The queries of a row are the last of its keys, so that after taking both out, attention is
    plainly causal again, and blocks are counted from the first real token.

    Args:
        mask: causal and without padding: True where query i may read key j.

    Yields:
        [m_row] places of real keys up to the last query, [n_row] places of real queries.

    Raises:
        ValueError: the mask hides more than padding and the future, as a sliding window does.
    """
    n, m = mask.shape[2:]
    place = torch.arange(m, device=mask.device)
    last = torch.where(mask[:, 0], place, -1).amax(-1)  # [b, n]: a real query's own place
    offset = int((last - torch.arange(n, device=mask.device)).max())
    own = torch.arange(offset, offset + n, device=mask.device)
    real = mask[:, 0].any(1)  # [b, m]
    if not torch.equal(mask[:, 0], real[:, None] & (place <= own[:, None])):
        raise ValueError(
            "the attention mask hides more than padding and the future (a sliding window, or texts "
            "packed into one row), which a selector does not know. Use 'sdpa' for this batch."
        )
    for keys in real:
        yield keys.nonzero()[:, 0], keys[own].nonzero()[:, 0]
