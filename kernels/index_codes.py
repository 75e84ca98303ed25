"""Index vectors in eight bits (e4m3): half the bytes, twice the products, some recall."""

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from . import checks

CODES = torch.float8_e4m3fn
GREATEST = 448.0  # of e4m3


@no_type_check  # checked below, with the same message under pytest and outside it
def index_codes(x: Float[Tensor, "*rows d"], *, unit: float | None = None) -> Tensor:
    """e4m3 codes of index vectors, which `score_and_select` and `decode_step` take.

    Args:
        x: index queries or index keys.
        unit: what the numbers are divided by. All keys of a sequence need one unit, or their
            scores would not compare. None divides each row by a power of two of its own, so that
            it fills the range: for queries, since no order of a query's scores feels it.

    Returns:
        The codes, saturated at 448, in the shape of x.

    Raises:
        ValueError: no floating numbers, an empty axis, or a unit that is not above 0.
    """
    checks.tensors(x=x)
    checks.same_float_dtype(x=x)
    if x.ndim == 0 or not x.numel():
        raise ValueError(f"x has shape {tuple(x.shape)}. Pass at least one row of numbers.")
    if unit is not None and not (unit := checks.number("unit", unit)) > 0:
        raise ValueError(f"unit={unit} must be above 0: it is what the numbers are divided by.")
    x = x.float()
    if unit is None:
        top = x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
        x = x * torch.exp2(torch.floor(torch.log2(GREATEST / top)))
    else:
        x = x / unit
    return x.clamp(-GREATEST, GREATEST).to(CODES)


def shared_blocks(got: Tensor, want: Tensor) -> Float[Tensor, ""]:
    """Share of the blocks in `want` that are in `got` too; rows are sets, -1 is an empty slot."""
    valid = want >= 0
    hit = (want[..., :, None] == got[..., None, :]).any(-1) & valid
    return hit.sum() / valid.sum().clamp(min=1)
