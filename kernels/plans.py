"""Which of several ways an operation takes.

    "hopper"     tiles of queries, with bulk copies (TMA) and queries held in registers, where the
                 card, the sizes and the strides allow it; elsewhere as "general"
    "general"    tiles of queries, on every card and at every size
    "scattered"  `block_sparse_attention` alone: block by block instead of query by query, for
                 selections that neighbouring queries hardly share; elsewhere as "general"

A plan never changes what is computed. None takes DEFAULT.
"""

from typing import Literal, get_args, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from . import checks

Plan = Literal["general", "hopper", "scattered"]
PLANS = get_args(Plan)
DEFAULT: Plan = "hopper"
TMA_ALIGNMENT = 16  # bytes
WIDEST_GROUP = 16  # query heads per key head: 4 queries then fill 64 rows
HOPPER_BLOCKS = 8192  # of a row up to which `decode_step` finds blocks without a launch of its own
NEIGHBOURS = 4  # queries of one tile at 16 heads a group
SCATTERED = 40  # distinct blocks that so many neighbours read, from which on they are scattered


@no_type_check
def named(plan: Plan | None, allowed: tuple[str, ...] = PLANS) -> Plan:
    """The plan asked for, or the default; ValueError if there is none of that name."""
    if plan is None:
        return DEFAULT
    if plan not in allowed:
        raise ValueError(f"plan={plan!r} must be one of {', '.join(map(repr, allowed))}.")
    return plan


def copies_in_bulk(*tensors: Tensor) -> bool:
    """Whether TMA takes these tensors: aligned, with strides to match and none repeated."""
    return all(
        x.stride(-1) == 1
        and x.data_ptr() % TMA_ALIGNMENT == 0
        and all(s > 0 and s * x.element_size() % TMA_ALIGNMENT == 0 for s in x.stride()[:-1])
        for x in tensors
    )


def on_hopper(arch: int, dtype: torch.dtype) -> bool:
    """Whether this card multiplies these numbers from registers and copies in bulk."""
    return 90 <= arch < 100 and dtype in (torch.float16, torch.bfloat16)


@no_type_check
def distinct_blocks(
    block_idx: Int[Tensor, "b n h_kv n_sel"], *, queries: int = NEIGHBOURS
) -> Float[Tensor, ""]:
    """Mean number of distinct blocks that so many neighbouring queries of one group read.

    A row is a set, -1 an empty slot. The number stays on the device, so nothing waits.

    Raises:
        ValueError: ids of another shape or dtype, or fewer than one query.
    """
    checks.axes(block_idx=(block_idx, "b n h_kv n_sel"))
    if block_idx.dtype not in checks.ID_DTYPES:
        raise ValueError(f"block_idx has dtype {block_idx.dtype}, but must be int32 or int64.")
    n, queries = block_idx.shape[1], checks.whole("queries", queries)
    queries = min(queries, n)
    tiles = -(-n // queries)
    ids = F.pad(block_idx, (0, 0, 0, 0, 0, tiles * queries - n), value=-1)
    ids = ids.unflatten(1, (tiles, queries)).transpose(2, 3).flatten(3).sort(-1).values
    new = F.pad(ids[..., 1:] != ids[..., :-1], (1, 0), value=True) & (ids >= 0)
    return new.sum(-1).float().mean()


@no_type_check
def suggest_plan(block_idx: Int[Tensor, "b n h_kv n_sel"]) -> Plan:
    """The plan for a selection like this one: "scattered" where neighbours share little.

    This waits for the device. Ask once for a model and its kind of text, not in every call.

    Raises:
        ValueError: as `distinct_blocks`.
    """
    return "scattered" if distinct_blocks(block_idx).item() > SCATTERED else "hopper"
