"""One decoded token's attention over stored rows, and copying rows: what a step is made of.

    read_one(q, window, sinks, stored, index, top_k=512)

works on rows as they lie in memory and touches only those that it reads, so that a step costs the
same whether the rest of the history is there or not. Shapes do not follow the text: rows that hold
nothing are marked and left out, no value is asked back from the device.

This is the one place where the runtime meets its kernels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .packing import Storage

COPIES_FROM_HOST = False  # whether `copy_cells` reads page-locked host memory from the device


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows that one token may read, as they lie in memory.

    The places [b, r] are in the order of chunks.
    """

    entries: Tensor  # [rows, width]: rows of everybody's entries
    keys: Tensor | None  # [b, r, width]: index keys of the places; None where nothing selects
    slots: Int[Tensor, "b r"]  # the row in `entries` of each place; -1: nothing is there
    storage: Storage
    fetch: Callable[[Tensor], Tensor] | None = None  # slots of chosen places, fetched on demand


def read_one(
    q: Float[Tensor, "b h d"],
    window: Float[Tensor, "b w d"],
    sinks: Float[Tensor, " h"],
    stored: Stored,
    index: tuple[Float[Tensor, "b h_idx d_idx"], Float[Tensor, "b h_idx"]] | None,
    *,
    top_k: int,
) -> Float[Tensor, "b h d"]:
    """What one token reads, still turned: its window and the entries that its indexer prefers.

    Args:
        q: queries; logits are scaled by 1/√d.
        window: vectors of the newest tokens, its own included.
        sinks: a logit of each head.
        stored: entries at hand, all of them closed.
        index: queries and scaled head weights of the lightning indexer; None reads all entries.
        top_k: entries read.
    """
    slots = stored.slots
    if index is not None and stored.keys is not None and top_k < slots.shape[1]:
        scores = score_chunks(*index, stored.keys, storage=stored.storage)
        places = best_places(scores, slots >= 0, top_k)
        chosen = slots.gather(1, places)
        slots = chosen if stored.fetch is None else stored.fetch(chosen)
    elif stored.fetch is not None:
        slots = stored.fetch(slots)
    return cell_attention(
        q, stored.entries, slots, window, sinks, q.shape[-1] ** -0.5, storage=stored.storage
    )


def best_places(scores: Float[Tensor, "b r"], there: Tensor, k: int) -> Int[Tensor, "b k"]:
    """Places of the k highest scores among those that are there, rising; ties to the lower place.

    Places that are not there come in where too few are, as the last in the ranking.
    """
    ranked = (scores.float() + 0.0).masked_fill(~there, -math.inf).view(torch.int32)  # no -0.0
    ranked = torch.where(ranked < 0, ranked ^ 0x7FFFFFFF, ranked).long()  # ordered as the floats
    places = torch.arange(scores.shape[1], 0, -1, device=scores.device)
    best = (ranked << 32 | places).topk(k, dim=1, sorted=False).indices
    return best.sort(1).values


def score_chunks(
    q: Float[Tensor, "b heads d"],
    weights: Float[Tensor, "b heads"],
    keys: Tensor,
    *,
    storage: Storage,
) -> Float[Tensor, "b chunks"]:
    """Σ_h w_h · ReLU(q_h · K_s) over stored keys [b, chunks, width], in float32 or wider."""
    wide = torch.promote_types(q.dtype, torch.float32)
    keys = storage.load("index_keys", keys).to(wide)
    agreement = (q.to(wide) @ keys.transpose(1, 2)).relu_()
    return (weights.to(wide)[:, None] @ agreement)[:, 0]


def cell_attention(
    q: Float[Tensor, "b h d"],
    cells: Tensor,
    slots: Int[Tensor, "b k"],
    window: Float[Tensor, "b w d"],
    sinks: Float[Tensor, " h"],
    scale: float,
    *,
    storage: Storage,
) -> Float[Tensor, "b h d"]:
    """Softmax over the window, the rows `slots` of `cells` and the sink; -1 marks an empty slot."""
    wide = torch.promote_types(q.dtype, torch.float32)
    q_wide, window = q.to(wide) * scale, window.to(wide)
    there = slots >= 0
    rows = cells.index_select(0, slots.clamp(min=0).flatten().long())
    far = storage.load("entries", rows).to(wide).unflatten(0, slots.shape)  # [b, k, d]
    logits = torch.cat(
        (
            q_wide @ window.transpose(1, 2),
            (q_wide @ far.transpose(1, 2)).masked_fill(~there[:, None], -math.inf),
            sinks.to(wide).expand(len(q), -1)[..., None],
        ),
        -1,
    )
    p = logits.softmax(-1)
    w = window.shape[1]
    return (p[..., :w] @ window + p[..., w:-1] @ far).to(q.dtype)


def copy_cells(
    source: Tensor, target: Tensor, rows: Int[Tensor, " m"], cells: Int[Tensor, " m"]
) -> None:
    """target[cells] = source[rows], both on one device; rows of equal length."""
    target.index_copy_(0, cells, source.index_select(0, rows))
