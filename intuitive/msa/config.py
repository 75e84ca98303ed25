"""Every size and choice of one MSA layer."""

from dataclasses import dataclass, field
from typing import TypedDict

from intuitive.common.inputs import plain_fields
from intuitive.common.records import LATER


class Selection(TypedDict):
    """The sizes of a selection, by the names that every kernel takes: `f(…, **msa.selection)`."""

    n_selected: int
    block_size: int
    n_local: int
    n_init: int


@dataclass(frozen=True, kw_only=True)
class MSAConfig:
    """Sizes of one MSA layer; block counts are per query and per GQA group.

    The defaults suit a laptop. Forced blocks (`n_local`, `n_init`) take their places among the
    `n_selected`; they are never added on top.

    Raises:
        ValueError: a size is not a positive whole number, the heads do not form equal groups,
            or more blocks are forced than may be selected.

    Source: arXiv:2606.13392v2, sections 2.2-2.3 and 5.1. The paper does not print `d_index`; 128
    is the value of the public reference configurations, and the only one that gives its 28.4x.
    """

    n_q_heads: int = 4
    n_kv_heads: int = 2  # also the number of GQA groups, and of index query heads
    d_head: int = 16  # channels
    d_index: int = 16  # channels of an index head
    # Of these, how many RoPE turns; all if None.
    d_rotary: int | None = field(default=None, metadata={LATER: True})
    block_size: int = 16  # tokens per key block
    n_selected: int = 4  # key blocks that a query may read
    n_local: int = 1  # the most recent blocks, always read
    n_init: int = 0  # the first blocks, always read

    def __post_init__(self) -> None:
        plain_fields(
            self,
            n_q_heads=1,
            n_kv_heads=1,
            d_head=1,
            d_index=1,
            d_rotary=0,
            block_size=1,
            n_selected=1,
            n_local=0,
            n_init=0,
        )
        if self.d_rotary is not None and (self.d_rotary > self.d_index or self.d_rotary % 2):
            raise ValueError(
                f"d_rotary={self.d_rotary} must be even and at most d_index={self.d_index}: "
                "RoPE turns index channels in pairs."
            )
        if self.n_q_heads % self.n_kv_heads:
            raise ValueError(
                f"n_q_heads={self.n_q_heads} must be a multiple of n_kv_heads={self.n_kv_heads}: "
                "GQA groups are equal in size."
            )
        if self.n_local + self.n_init > self.n_selected:
            raise ValueError(
                f"n_local={self.n_local} and n_init={self.n_init} force more blocks than "
                f"n_selected={self.n_selected}: forced blocks count among the selected ones, so "
                "raise n_selected or force fewer."
            )

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head and one selection (the paper's G)."""
        return self.n_q_heads // self.n_kv_heads

    @property
    def selection(self) -> Selection:
        """What the kernels need to know of a selection."""
        return Selection(
            n_selected=self.n_selected,
            block_size=self.block_size,
            n_local=self.n_local,
            n_init=self.n_init,
        )

    @property
    def n_selected_tokens(self) -> int:
        """Tokens in a full selection, k·B_k; a query reads at most so many."""
        return self.n_selected * self.block_size

    @classmethod
    def paper(cls) -> "MSAConfig":
        """The 109B model of the paper: 64 query heads in 4 groups, 16 blocks of 128 tokens."""
        return cls(
            n_q_heads=64, n_kv_heads=4, d_head=128, d_index=128, block_size=128, n_selected=16
        )

    @classmethod
    def smollm(cls) -> "MSAConfig":
        """SmolLM2-135M's heads with 8 blocks of 64 tokens."""
        return cls(n_q_heads=9, n_kv_heads=3, d_head=64, d_index=64, block_size=64, n_selected=8)
