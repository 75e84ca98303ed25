"""A needle under two poolings: one strong token, and which number per block finds it.

No model is needed: the tokens' scores are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from intuitive.common.arrays import read_only
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent
from intuitive.kernels import select_blocks

from .. import reference
from ..config import MSAConfig


@dataclass(frozen=True, kw_only=True)
class NeedleParams(Settings):
    """One strong token among ordinary ones; no model needed."""

    n: int = 1024  # tokens
    needle: int = 300  # its position
    block_size: int = 32
    n_selected: int = 4  # blocks, the local one among them
    strength: float = 8.0  # the needle's score, where ordinary ones spread by 1
    drag: float = 1.0  # by how much its neighbours score lower
    seed: int = 0

    def __post_init__(self) -> None:
        whole_fields(self, n=1, needle=None, block_size=1, n_selected=1, seed=None)
        MSAConfig(block_size=self.block_size, n_selected=self.n_selected)
        if not 0 <= self.needle < self.n:
            raise ValueError(f"needle={self.needle} must be a position from 0 to {self.n - 1}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class NeedleResult:
    """What the last token of the sequence selects by max- and by mean-pooling."""

    params: NeedleParams
    needle_block: int
    token_scores: Float[np.ndarray, " n"]
    block_max: Float[np.ndarray, " n_blk"]
    block_mean: Float[np.ndarray, " n_blk"]
    block_mass: Float[np.ndarray, " n_blk"]  # share of dense attention
    selected_max: tuple[int, ...]  # block ids, ascending
    selected_mean: tuple[int, ...]
    rank_max: int  # place of the needle's block among all, 1 is best
    rank_mean: int
    captured_max: float  # share of dense attention in the selected blocks
    captured_mean: float

    @property
    def found_by_max(self) -> bool:
        return self.needle_block in self.selected_max

    @property
    def found_by_mean(self) -> bool:
        return self.needle_block in self.selected_mean


@torch.inference_mode()
def run(
    params: NeedleParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> NeedleResult:
    """Plant a needle, pool the scores both ways, select, and see which selection holds it.

    Nothing here takes long enough to be given up.
    """
    q, k = reference.planted_needle(
        params.n,
        params.block_size,
        64,
        params.seed,
        needle=params.needle,
        strength=params.strength,
        drag=params.drag,
    )
    block_of_needle = params.needle // params.block_size
    token_scores = reference.main_scores(q, k)[0, 0]
    mass = reference.block_mass(q, k, block_size=params.block_size)[0, 0]
    found: dict[str, object] = {}
    for name, pool in (("max", reference.block_max), ("mean", reference.block_mean)):
        pooled = pool(token_scores, params.block_size)
        block_idx = select_blocks(
            pooled[None, None, None], n_selected=params.n_selected, block_size=params.block_size
        )[0, 0, 0]
        found[f"block_{name}"] = read_only(pooled)
        found[f"selected_{name}"] = tuple(sorted(b for b in block_idx.tolist() if b >= 0))
        found[f"rank_{name}"] = 1 + int((pooled > pooled[block_of_needle]).sum())
        found[f"captured_{name}"] = float(reference.mass_captured(mass, block_idx))
    return NeedleResult(
        params=params,
        needle_block=block_of_needle,
        token_scores=read_only(token_scores),
        block_mass=read_only(mass),
        **found,
    )
