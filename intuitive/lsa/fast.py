"""One decoded token's attention over stored rows, and copying rows: what a step is made of.

    read_one(q, window, sinks, stored, index, top_k=512)

works on rows as they lie in memory and touches only those that it reads, so that a step costs the
same whether the rest of the history is there or not. Shapes do not follow the text: rows that hold
nothing are marked and left out, no value is asked back from the device.

This is the one place where the runtime meets its kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive import kernels
from intuitive.kernels.dispatch import TRITON_INSTALLED

from .packing import Storage, gathered


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows that one token may read, as they lie in memory.

    The places [b, r] are in the order of chunks.
    """

    entries: Tensor  # [rows, width]: rows of everybody's entries
    keys: Tensor | None  # index keys, [b, r, width] of the places or [rows, width]; None: no choice
    slots: Int[Tensor, "b r"]  # the row in `entries` of each place; -1: nothing is there
    storage: Storage
    key_slots: Int[Tensor, "b r"] | None = None  # the row in `keys` of each place, if so; -1: none
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
        gather = stored.key_slots is not None
        marks = stored.key_slots if gather else slots
        scores = score_rows(*index, stored.keys, stored.storage, marks, gather=gather)
        places = best_places(scores, top_k)
        chosen = slots.gather(1, places)
        slots = chosen if stored.fetch is None else stored.fetch(chosen)
    elif stored.fetch is not None:
        slots = stored.fetch(slots)
    return read_cells(q, stored.entries, slots, window, sinks, stored.storage)


def best_places(scores: Float[Tensor, "b r"], k: int) -> Int[Tensor, "b k"]:
    """Places of the k highest scores, rising; ties to the lower place.

    Args:
        scores: of `score_rows`, without -0.0.
        k: at most r. Places of -inf, which are empty, come in where too few others are.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return order[:, :k].sort(1).values


def score_rows(
    q: Float[Tensor, "b heads d"],
    weights: Float[Tensor, "b heads"],
    keys: Tensor,
    storage: Storage,
    slots: Int[Tensor, "b r"] | None = None,
    *,
    gather: bool = False,
) -> Float[Tensor, "b r"]:
    """Σ_h w_h · ReLU(q_h · K_s) over stored keys [b, r, width], read where they lie.

    Args:
        slots: -inf is the score where they are -1.
        gather: whether slots say which of the keys [rows, width] each score is of.
    """
    if not storage.packed:
        keys = keys.to(q.dtype)
    return kernels.score_chunks(q, weights, keys, slots=slots, gather=gather, validate=False)


def read_cells(
    q: Float[Tensor, "b h d"],
    cells: Tensor,
    slots: Int[Tensor, "b k"],
    window: Float[Tensor, "b w d"],
    sinks: Float[Tensor, " h"],
    storage: Storage,
) -> Float[Tensor, "b h d"]:
    """Attention over the window, the rows `slots` of `cells` and the sinks; -1 is an empty slot.

    The kernel reads packed rows where they lie, in cells too, if they have its sizes; others are
    gathered first.
    """
    if not slots.numel():
        cells, slots = q[:1, 0], slots.new_full((len(q), 1), -1)
    sizes = q.shape[-1], cells.shape[-1]
    if cells.dtype == torch.uint8 and sizes != (kernels.CELL_NUMBERS, kernels.CELL_BYTES):
        cells = storage.load("entries", gathered(cells, slots.clamp(min=0).flatten()))
        places = torch.arange(len(cells), dtype=torch.int32, device=q.device).view(slots.shape)
        slots = torch.where(slots >= 0, places, -1)
    if cells.dtype != torch.uint8:
        cells = cells.to(q.dtype)
    return kernels.cell_attention(q, cells, slots, window, sinks, validate=False)


def copy_rows(
    source: Tensor, target: Tensor, rows: Int[Tensor, " m"], cells: Int[Tensor, " m"]
) -> None:
    """target[cells] = source[rows]; page-locked host memory is read from the device."""
    kernels.copy_cells(source, target, rows, cells, validate=False)


def copies_from_host(source: Tensor, target: Tensor) -> bool:
    """Whether `copy_rows` can read the source where it lies."""
    return target.is_cuda and source.is_pinned() and TRITON_INSTALLED
